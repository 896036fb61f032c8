package config

import (
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Write prints the effective configuration as YAML. It can be read again, except for the secrets, which are redacted. A
// comment names the origin of each value that is not a default.
func (c *Config) Write(w io.Writer) error {
	var doc yaml.Node
	if err := doc.Encode(c); err != nil {
		return fmt.Errorf("encode the configuration: %w", err)
	}
	c.annotate(&doc, "")
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return enc.Close()
}

func (c *Config) annotate(n *yaml.Node, path string) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, val := n.Content[i], n.Content[i+1]
			at := join(path, key.Value)
			if from := c.origins[at]; from != "" {
				switch {
				case val.Kind == yaml.ScalarNode:
					val.LineComment = from
				case !strings.Contains(from, ":"): // origins in the file are clear from its values
					key.HeadComment = from
				}
			}
			c.annotate(val, at)
		}
	case yaml.SequenceNode:
		for i, e := range n.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			if from := c.origins[at]; from != "" && e.Kind == yaml.ScalarNode {
				e.LineComment = from
			}
			c.annotate(e, at)
		}
	}
}
