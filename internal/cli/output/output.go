// Package output writes results: as tables for a person, as JSON or YAML, and as lines of progress on a terminal.
package output

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

// Format is the format of a result.
type Format string

// The formats.
const (
	FormatTable Format = "table"
	FormatWide  Format = "wide" // a table with more columns, where there are more
	FormatJSON  Format = "json"
	FormatYAML  Format = "yaml"
)

// AddFlag defines --output.
func (f *Format) AddFlag(cmd *cobra.Command) {
	*f = FormatTable
	cmd.Flags().VarP(f, "output", "o", "`format` of the result: table, wide, json or yaml")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions( // fails only for a flag that is not defined
		[]cobra.Completion{string(FormatTable), string(FormatWide), string(FormatJSON), string(FormatYAML)},
		cobra.ShellCompDirectiveNoFileComp))
}

var _ pflag.Value = (*Format)(nil)

// Set implements [pflag.Value].
func (f *Format) Set(s string) error {
	switch v := Format(s); v {
	case FormatTable, FormatWide, FormatJSON, FormatYAML:
		*f = v
		return nil
	}
	return fmt.Errorf("it is not one of table, wide, json and yaml")
}

// String implements [pflag.Value].
func (f *Format) String() string { return string(*f) }

// Type implements [pflag.Value].
func (f *Format) Type() string { return "format" }

// Print writes a message in the format; table writes it as a table, of which nothing but lines reaches a terminal.
func (f Format) Print(w io.Writer, m proto.Message, table func(io.Writer) error) error {
	switch f {
	case FormatJSON:
		b, err := JSON(m)
		if err != nil {
			return err
		}
		var out bytes.Buffer
		if err := json.Indent(&out, b, "", "  "); err != nil {
			return fmt.Errorf("indent the result: %w", err)
		}
		_, err = fmt.Fprintln(w, out.String())
		return err
	case FormatYAML:
		b, err := YAML(m)
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	default:
		return table(PlainLines(w))
	}
}

// JSON returns the JSON of the API on one line. Fields that are not set appear with their zero value, so that scripts
// can rely on them.
func JSON(m proto.Message) ([]byte, error) {
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

// YAML returns the same as YAML: the same names, in the same order.
func YAML(m proto.Message) ([]byte, error) {
	b, err := JSON(m)
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
