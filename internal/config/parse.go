package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/snapshotd/snapshotd/internal/duration"
)

// parse reads the YAML file over the defaults, and the files of its directory of clusters. Every error in them becomes
// a problem.
func parse(cfg *Config, data []byte, file string, problems *Problems) {
	c := &checker{file: filepath.Base(file), origins: cfg.origins, problems: problems}
	doc := document(data, c.file, problems)
	if doc == nil {
		return
	}
	before := len(problems.list)
	defaults := c.withDefaults(doc)
	if len(problems.list) == before {
		c.value(doc, reflect.TypeFor[Config](), "")
	}
	if len(problems.list) > before {
		return
	}
	if err := doc.Decode(cfg); err != nil {
		// The checker accepts only documents that decode. Should it be wrong, the error still must not show values.
		problems.add(c.file, "%s", decodeError(err))
		return
	}
	cfg.Defaults = nil // each cluster has them now
	cfg.origins.forget(defaultsKey)
	cfg.readClusters(defaults, problems)
}

// document returns the one document of a file; nil when it is empty, or no YAML.
func document(data []byte, file string, problems *Problems) *yaml.Node {
	var doc, more yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil // an empty file sets nothing
	}
	if err == nil && !errors.Is(dec.Decode(&more), io.EOF) {
		err = errors.New("there is a second document, or something that is none, after the first; one is read")
	}
	if err != nil {
		where, what := syntaxError(file, err)
		problems.add(where, "%s", what)
		return nil
	}
	return doc.Content[0]
}

var (
	yamlLine = regexp.MustCompile(`^line (\d+): (.*)$`)
	// noAnchor is the only text of the library about syntax that has something of the file in it: a password, if it begins
	// with '*' and has no quotes.
	noAnchor = regexp.MustCompile(`(?s)^unknown anchor '.*' referenced$`)
)

// syntaxError returns the place and the text of a YAML syntax error. It shows nothing of the file.
func syntaxError(file string, err error) (where, what string) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		return file + ":" + m[1], "is no YAML there or in the lines after it: " + m[2] + "; look at the indentation, which " +
			"is of spaces"
	}
	return file, noAnchor.ReplaceAllLiteralString(text, "has a value that begins with '*' and names no anchor; put it in "+
		"quotes if it is no alias")
}

func decodeError(err error) string {
	if te, ok := errors.AsType[*yaml.TypeError](err); ok {
		lines := make([]string, len(te.Errors))
		for i, l := range te.Errors {
			lines[i], _, _ = strings.Cut(l, "`")
		}
		return strings.Join(lines, "; ")
	}
	return "cannot be decoded"
}

// checker compares the file with the types that it is decoded into. YAML's own strict mode names neither the nearest
// key nor the right form of a value, and it shows values, secrets too.
type checker struct {
	file     string
	origins  origins
	problems *Problems

	theirs       map[*yaml.Node]bool // nodes of the defaults, which are in defaultsFile
	defaultsFile string
}

// where returns the file and the line of a node.
func (c *checker) where(n *yaml.Node) string {
	if c.theirs[n] {
		return fmt.Sprintf("%s:%d", c.defaultsFile, n.Line)
	}
	return fmt.Sprintf("%s:%d", c.file, n.Line)
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	bytesType    = reflect.TypeFor[Bytes]()
	rateType     = reflect.TypeFor[Rate]()
)

// value checks a node against its type. Aliases cannot make it go deeper than the types do.
func (c *checker) value(n *yaml.Node, t reflect.Type, path string) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t.Kind() == reflect.Struct:
		c.mapping(n, t, path)
	case t.Kind() == reflect.Slice:
		c.list(n, t, path)
	case t.Kind() == reflect.Map:
		c.words(n, t, path)
	default:
		c.scalar(n, t, path)
	}
}

func (c *checker) mapping(n *yaml.Node, t reflect.Type, path string) {
	if isNull(n) {
		c.noteNothing(n, path)
		return
	}
	if n.Kind != yaml.MappingNode {
		c.problem(n, path, "must be a mapping, with keys such as %s", strings.Join(keysOf(t)[:min(3, len(keysOf(t)))], ", "))
		return
	}
	if path != "" {
		c.note(n, path)
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		if key.Tag == "!!merge" {
			c.merge(val, t, path)
			continue
		}
		at := join(path, key.Value)
		field, ok := fieldOf(t, key.Value)
		switch first, twice := seen[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			c.problem(key, path, "has a key that is not a word")
		case !ok:
			c.problem(key, join(path, shownKey(key.Value)), "unknown key%s", suggest(key.Value, keysOf(t)))
		case twice:
			c.problem(key, at, "is set twice, first in line %d", first)
		default:
			c.value(val, field, at)
		}
		seen[key.Value] = key.Line
	}
}

// words checks a mapping whose keys are the user's own.
func (c *checker) words(n *yaml.Node, t reflect.Type, path string) {
	if n.Kind != yaml.MappingNode {
		c.problem(n, path, "must be a mapping, such as key: value")
		return
	}
	c.note(n, path)
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge":
			c.problem(key, path, "has a key that is not a word")
		case seen[key.Value]:
			c.problem(key, join(path, key.Value), "is set twice")
		default:
			c.value(val, t.Elem(), join(path, key.Value))
		}
		seen[key.Value] = true
	}
}

// merge checks the mapping of `<<: *anchor`.
func (c *checker) merge(n *yaml.Node, t reflect.Type, path string) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch n.Kind {
	case yaml.MappingNode:
		if slices.ContainsFunc(n.Content, func(k *yaml.Node) bool { return k.Tag == "!!merge" }) {
			c.problem(n, path, "merges a mapping that merges another one itself; write it out")
			return
		}
		c.mapping(n, t, path)
	default:
		c.problem(n, path, "<< must name one mapping")
	}
}

func (c *checker) list(n *yaml.Node, t reflect.Type, path string) {
	if isNull(n) {
		c.noteNothing(n, path)
		return
	}
	if n.Kind != yaml.SequenceNode {
		c.problem(n, path, `must be a list; begin each entry with "- "`)
		return
	}
	c.note(n, path)
	for i, e := range n.Content {
		c.value(e, t.Elem(), fmt.Sprintf("%s[%d]", path, i))
	}
}

func (c *checker) scalar(n *yaml.Node, t reflect.Type, path string) {
	switch {
	case n.Kind != yaml.ScalarNode:
		c.problem(n, path, "must be a single value")
	case isNull(n):
		c.problem(n, path, `has no value; give one or remove the line ("" is the empty text)`)
	case t == durationType:
		if d, err := duration.Parse(n.Value); err != nil {
			c.problem(n, path, "%v", notADuration(n.Value))
		} else {
			rewrite(n, "!!str", d.String()) // the decoder knows no days
		}
	case t == bytesType:
		if b, err := parseBytes(n.Value); err != nil {
			c.problem(n, path, "%v", err)
		} else {
			rewrite(n, "!!int", strconv.FormatInt(int64(b), 10))
		}
	case t.Kind() == reflect.Int || t.Kind() == reflect.Int64:
		if _, err := strconv.ParseInt(n.Value, 10, t.Bits()); err != nil {
			c.problem(n, path, "%q is not a whole number", n.Value)
		}
	case t.Kind() == reflect.Bool:
		if n.ShortTag() != "!!bool" {
			c.problem(n, path, "%q is neither true nor false", n.Value)
		}
	case n.ShortTag() == "!!binary":
		c.problem(n, path, "must be text, not !!binary")
	}
	c.note(n, path)
}

// rewrite gives a value the form that the decoder reads.
func rewrite(n *yaml.Node, tag, value string) { n.Tag, n.Value, n.Style = tag, value, 0 }

func (c *checker) note(n *yaml.Node, path string) {
	c.origins[path] = c.where(n)
}

// noteNothing notes a key without a value: a key that is there without a value differs from one that is not there.
func (c *checker) noteNothing(n *yaml.Node, path string) {
	if path != "" {
		c.note(n, path)
	}
}

func (c *checker) problem(n *yaml.Node, path, format string, args ...any) {
	where := c.where(n)
	if path != "" {
		where += ": " + path
	}
	c.problems.add(where, format, args...)
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

var (
	keyWord  = regexp.MustCompile(`^[A-Za-z0-9_-]*`)
	password = regexp.MustCompile(`(?i)^password`)
)

// shownKey returns the part of an unknown key that can be shown. With no space after its colon, or with another sign in
// its place, a key has its value in it, which may be a password.
func shownKey(key string) string {
	shown := keyWord.FindString(key)
	if p := password.FindString(shown); p != "" {
		shown = p
	}
	if shown != key {
		shown += "…"
	}
	return shown
}

// fieldOf returns the type of a struct's field by its key in the file.
func fieldOf(t reflect.Type, key string) (reflect.Type, bool) {
	for f := range t.Fields() {
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if opts == "inline" {
			if ft, ok := fieldOf(f.Type, key); ok {
				return ft, true
			}
		} else if name != "" && name == key {
			return f.Type, true
		}
	}
	return nil, false
}

// keysOf returns the keys of a struct in the file.
func keysOf(t reflect.Type) []string {
	var keys []string
	for f := range t.Fields() {
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if opts == "inline" {
			keys = append(keys, keysOf(f.Type)...)
		} else if name != "" {
			keys = append(keys, name)
		}
	}
	return keys
}
