package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// format is the format of a result.
type format string

const (
	formatTable format = "table"
	formatJSON  format = "json"
	formatYAML  format = "yaml"
)

func (f *format) addFlag(cmd *cobra.Command) {
	*f = formatTable
	cmd.Flags().VarP(f, "output", "o", "`format` of the result: table, json or yaml")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions( // fails only for a flag that is not defined
		[]cobra.Completion{string(formatTable), string(formatJSON), string(formatYAML)}, cobra.ShellCompDirectiveNoFileComp))
}

var _ pflag.Value = (*format)(nil)

// Set implements [pflag.Value].
func (f *format) Set(s string) error {
	switch v := format(s); v {
	case formatTable, formatJSON, formatYAML:
		*f = v
		return nil
	}
	return fmt.Errorf("it is not one of table, json and yaml")
}

// String implements [pflag.Value].
func (f *format) String() string { return string(*f) }

// Type implements [pflag.Value].
func (f *format) Type() string { return "format" }

// print writes a message in the format; table writes it as a table.
func (f format) print(w io.Writer, m proto.Message, table func(io.Writer) error) error {
	switch f {
	case formatJSON:
		b, err := jsonOf(m)
		if err != nil {
			return err
		}
		var out bytes.Buffer
		if err := json.Indent(&out, b, "", "  "); err != nil {
			return fmt.Errorf("indent the result: %w", err)
		}
		_, err = fmt.Fprintln(w, out.String())
		return err
	case formatYAML:
		b, err := yamlOf(m)
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	default:
		return table(w)
	}
}

// jsonOf returns the JSON of the API on one line. Fields that are not set appear with their zero value, so that scripts
// can rely on them.
func jsonOf(m proto.Message) ([]byte, error) {
	b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode the result: %w", err)
	}
	// protojson adds random spaces, so that nothing relies on its bytes. Scripts do, rightly.
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		return nil, fmt.Errorf("encode the result: %w", err)
	}
	return out.Bytes(), nil
}

// yamlOf returns the same as YAML: the same names, in the same order.
func yamlOf(m proto.Message) ([]byte, error) {
	b, err := jsonOf(m)
	if err != nil {
		return nil, err
	}
	var doc yaml.Node // JSON is YAML
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("encode the result: %w", err)
	}
	inBlocks(&doc)
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return nil, fmt.Errorf("encode the result: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("encode the result: %w", err)
	}
	return out.Bytes(), nil
}

func inBlocks(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		inBlocks(c)
	}
}
