package main

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// kind says how a file counts.
type kind int

const (
	code      kind = iota // a part of the program
	test                  // _test.go
	support               // helpers of the tests: files of the packages that isSupport names
	generated             // "Code generated … DO NOT EDIT."
)

// module is the Go module that is measured, without the modules in its subdirectories.
type module struct {
	path     string
	requires []string // the direct dependencies in go.mod
	fset     *token.FileSet
	packages []*pkg // sorted by directory
}

// pkg is one directory of Go files.
type pkg struct {
	dir   string // slash-separated, "." for the root
	path  string // its import path
	files []*file
}

type file struct {
	path   string // slash-separated, from the root
	kind   kind
	built  bool // the build of this machine has it when no tag is set
	syntax *ast.File
	counts
}

// isSupport reports whether a directory has helpers of the tests only: they are neither program nor test.
func isSupport(dir string) bool {
	switch base := path.Base(dir); {
	case base == "conformance", strings.HasSuffix(base, "test"):
		return true
	}
	return slices.ContainsFunc([]string{"e2e", "internal/testenv", "internal/loader"}, func(top string) bool {
		return within(dir, top)
	})
}

// within reports whether dir is top or below it.
func within(dir, top string) bool { return dir == top || strings.HasPrefix(dir, top+"/") }

// load reads the module whose go.mod lies at the root of the file system.
func load(root fs.FS) (*module, error) {
	m := &module{fset: token.NewFileSet()}
	if err := m.readGoMod(root); err != nil {
		return nil, err
	}
	packages := map[string]*pkg{}
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return skip(root, name)
		case path.Ext(name) != ".go":
			return nil
		}
		f, err := m.readFile(root, name)
		if err != nil {
			return err
		}
		dir := path.Dir(name)
		if packages[dir] == nil {
			packages[dir] = &pkg{dir: dir, path: path.Join(m.path, dir)}
		}
		packages[dir].files = append(packages[dir].files, f)
		return nil
	})
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		m.packages = append(m.packages, packages[dir])
	}
	return m, err
}

// skip keeps the walk out of the directories that the go command passes over as well, and out of other modules.
func skip(root fs.FS, dir string) error {
	if dir == "." {
		return nil
	}
	base := path.Base(dir)
	if base == "testdata" || base == "vendor" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return fs.SkipDir
	}
	if _, err := fs.Stat(root, path.Join(dir, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

func (m *module) readFile(root fs.FS, name string) (*file, error) {
	source, err := fs.ReadFile(root, name)
	if err != nil {
		return nil, err
	}
	f := &file{path: name}
	if f.syntax, err = parser.ParseFile(m.fset, name, source, parser.ParseComments); err != nil {
		return nil, err
	}
	switch {
	case ast.IsGenerated(f.syntax):
		f.kind = generated
	case strings.HasSuffix(name, "_test.go"):
		f.kind = test
	case isSupport(path.Dir(name)):
		f.kind = support
	}
	ctx := build.Default
	ctx.OpenFile = func(name string) (io.ReadCloser, error) { return root.Open(name) }
	ctx.JoinPath = path.Join
	if f.built, err = ctx.MatchFile(path.Dir(name), path.Base(name)); err != nil {
		return nil, fmt.Errorf("read the build tags of %s: %w", name, err)
	}
	f.counts = count(m.fset, f.syntax, source)
	return f, nil
}

func (m *module) readGoMod(root fs.FS) error {
	content, err := fs.ReadFile(root, "go.mod")
	if err != nil {
		return err
	}
	block := "" // the directive whose parentheses the line is in
	for line := range strings.Lines(string(content)) {
		line, comment, _ := strings.Cut(line, "//")
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
			continue
		case fields[0] == ")":
			block = ""
			continue
		case fields[len(fields)-1] == "(":
			block = fields[0]
			continue
		case block != "":
			fields = append([]string{block}, fields...)
		}
		switch {
		case fields[0] == "module":
			m.path = unquote(fields[1])
		case fields[0] == "require" && strings.TrimSpace(comment) != "indirect":
			m.requires = append(m.requires, unquote(fields[1]))
		}
	}
	return nil
}

func unquote(s string) string {
	if plain, err := strconv.Unquote(s); err == nil {
		return plain
	}
	return s
}

// of returns the files of some kinds.
func (m *module) of(kinds ...kind) []*file {
	var files []*file
	for _, p := range m.packages {
		files = append(files, p.of(kinds...)...)
	}
	return files
}

func (p *pkg) of(kinds ...kind) []*file {
	var files []*file
	for _, f := range p.files {
		if slices.Contains(kinds, f.kind) {
			files = append(files, f)
		}
	}
	return files
}

// imports returns the import paths in a file.
func (f *file) imports() []string {
	var paths []string
	for _, spec := range f.syntax.Imports {
		paths = append(paths, unquote(spec.Path.Value))
	}
	return paths
}
