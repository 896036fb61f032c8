package main

import (
	"cmp"
	"errors"
	"go/ast"
	"go/build"
	"go/importer"
	"go/token"
	"go/types"
	"path"
	"slices"
	"strings"
)

// carriers are the packages of the standard library whose functions and types take types of the program and return
// them. The type checker knows no other package: reading the whole standard library takes seconds
// and changes no figure.
var carriers = []string{
	"cmp", "context", "errors", "io", "iter", "maps", "slices", "sort", "sync", "sync/atomic", "time",
}

var errUnknownPackage = errors.New("not one of the packages that are read")

// standardLibrary imports the carriers from their sources.
type standardLibrary struct{ sources types.Importer }

func newStandardLibrary() standardLibrary {
	build.Default.CgoEnabled = false // or importing would run cgo
	return standardLibrary{importer.ForCompiler(token.NewFileSet(), "source", nil)}
}

func (s standardLibrary) Import(from string) (*types.Package, error) {
	if !slices.Contains(carriers, from) {
		return nil, errUnknownPackage
	}
	return s.sources.Import(from)
}

// checker finds the declaration behind each name in the program. Packages that it does not know are empty to it, and
// the type checker passes over the code that uses them.
type checker struct {
	module   *module
	standard types.Importer
	packages map[string]*pkg
	checked  map[string]*types.Package
	uses     map[*pkg]map[*ast.Ident]types.Object
}

func newChecker(m *module, standard types.Importer) *checker {
	c := &checker{
		module: m, standard: standard, packages: map[string]*pkg{}, checked: map[string]*types.Package{},
		uses: map[*pkg]map[*ast.Ident]types.Object{},
	}
	for _, p := range m.packages {
		c.packages[p.path] = p
	}
	return c
}

// Import lets the type checker find the packages that the one it checks imports.
func (c *checker) Import(from string) (*types.Package, error) {
	if p := c.packages[from]; p != nil {
		return c.check(p), nil
	}
	if known, err := c.standard.Import(from); err == nil {
		return known, nil
	}
	unknown := types.NewPackage(from, path.Base(from))
	unknown.MarkComplete()
	return unknown, nil
}

// check reads the types of a package; its tests are not part of it.
func (c *checker) check(p *pkg) *types.Package {
	if checked := c.checked[p.path]; checked != nil {
		return checked
	}
	var files []*ast.File
	for _, f := range p.files {
		if f.built && f.kind != test {
			files = append(files, f.syntax)
		}
	}
	c.checked[p.path] = types.NewPackage(p.path, "") // for packages that import each other, which Go refuses to build
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: c, Error: func(error) {}} // of packages that it does not know
	checked, _ := config.Check(p.path, c.module.fset, files, info)
	c.checked[p.path], c.uses[p] = checked, info.Uses
	return checked
}

// fileUses returns for each file of a package the files whose top-level names and methods it uses.
func (c *checker) fileUses(p *pkg) map[string][]string {
	checked := c.check(p)
	uses := map[string][]string{}
	for ident, object := range c.uses[p] {
		if object.Pkg() != checked || !declares(object) {
			continue
		}
		from := c.module.fset.Position(ident.Pos()).Filename
		to := c.module.fset.Position(object.Pos()).Filename
		if from != to && !slices.Contains(uses[from], to) {
			uses[from] = append(uses[from], to)
		}
	}
	return uses
}

// declares reports whether an object has a declaration of its own in a file: it is at the top level of the package or a
// method, and neither local nor a field nor a method of an interface.
func declares(object types.Object) bool {
	if object.Parent() == object.Pkg().Scope() {
		return true
	}
	f, ok := object.(*types.Func)
	if !ok {
		return false
	}
	recv := f.Signature().Recv()
	return recv != nil && !types.IsInterface(recv.Type())
}

// cycle has the names of files of one package. Each of them uses each other one, directly or by way of others.
type cycle []string

// cycles returns the cycles of files in a package, the largest ones first.
func (c *checker) cycles(p *pkg) []cycle {
	var found []cycle
	for _, component := range components(c.fileUses(p)) {
		if len(component) > 1 {
			names := cycle{}
			for _, file := range component {
				names = append(names, path.Base(file))
			}
			slices.Sort(names)
			found = append(found, names)
		}
	}
	slices.SortFunc(found, func(a, b cycle) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a[0], b[0]))
	})
	return found
}

// components returns the strongly connected components of a graph, with Tarjan's algorithm.
func components(graph map[string][]string) [][]string {
	t := tarjan{graph: graph, index: map[string]int{}, low: map[string]int{}, open: map[string]bool{}}
	for node := range graph {
		if t.index[node] == 0 {
			t.visit(node)
		}
	}
	return t.found
}

type tarjan struct {
	graph      map[string][]string
	index, low map[string]int
	open       map[string]bool // on the stack
	stack      []string
	found      [][]string
}

func (t *tarjan) visit(node string) {
	t.index[node] = len(t.index) + 1
	t.low[node] = t.index[node]
	t.stack, t.open[node] = append(t.stack, node), true
	for _, next := range t.graph[node] {
		if t.index[next] == 0 {
			t.visit(next)
			t.low[node] = min(t.low[node], t.low[next])
		} else if t.open[next] {
			t.low[node] = min(t.low[node], t.index[next])
		}
	}
	if t.low[node] != t.index[node] {
		return
	}
	start := slices.Index(t.stack, node)
	component := slices.Clone(t.stack[start:])
	for _, member := range component {
		t.open[member] = false
	}
	t.stack = t.stack[:start]
	t.found = append(t.found, component)
}
