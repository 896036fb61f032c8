package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/types"
	"maps"
	"path"
	"slices"
	"strings"
)

// methodSet holds methods by name and number of parameters and results, which tells the types of one module apart well
// enough. A method that is not exported has its package before its name.
type methodSet map[string]bool

func (s methodSet) covers(other methodSet) bool {
	for method := range other {
		if !s[method] {
			return false
		}
	}
	return true
}

// typeKey names a declared type. The package of external tests has the path of the tested one and "_test".
type typeKey struct{ pkg, name string }

// declaredType is a type that is declared at the top level of a package.
type declaredType struct {
	key         typeKey
	file        *file
	isInterface bool
	isAlias     bool
	constraint  bool // an interface with a union of types: no variable can have it
	methods     methodSet
	embedded    []ast.Expr // types whose methods it has as well
}

// iface is an interface of the program, with the number of types that implement it.
type iface struct {
	name            string
	methods         int
	partial         bool // it embeds interfaces of other modules, whose methods are not counted
	inProgram       int
	inTests         int // in tests and their helpers
	implementations []string
}

// typeIndex finds the declared types of a module and their methods.
type typeIndex struct {
	module   *module
	standard types.Importer
	types    map[typeKey]*declaredType
	packages map[string]*pkg
}

func newTypeIndex(m *module, standard types.Importer) *typeIndex {
	x := &typeIndex{m, standard, map[typeKey]*declaredType{}, map[string]*pkg{}}
	for _, p := range m.packages {
		x.packages[p.path] = p
		for _, f := range p.files {
			for _, decl := range f.syntax.Decls {
				x.add(packagePath(p, f), f, decl)
			}
		}
	}
	return x
}

// packagePath returns the import path of the package that a file belongs to.
func packagePath(p *pkg, f *file) string {
	if f.kind == test && strings.HasSuffix(f.syntax.Name.Name, "_test") {
		return p.path + "_test"
	}
	return p.path
}

// at returns the declared type of a name, which it makes when the methods come before the type.
func (x *typeIndex) at(key typeKey) *declaredType {
	if x.types[key] == nil {
		x.types[key] = &declaredType{key: key, methods: methodSet{}}
	}
	return x.types[key]
}

func (x *typeIndex) add(pkg string, f *file, decl ast.Decl) {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if decl.Recv != nil {
			t := x.at(typeKey{pkg, receiver(decl)})
			t.methods[method(pkg, decl.Name.Name, decl.Type)] = true
		}
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			if spec, ok := spec.(*ast.TypeSpec); ok {
				x.addType(pkg, f, spec)
			}
		}
	}
}

func (x *typeIndex) addType(pkg string, f *file, spec *ast.TypeSpec) {
	t := x.at(typeKey{pkg, spec.Name.Name})
	t.file = f
	if t.isAlias = spec.Assign.IsValid(); t.isAlias {
		t.embedded = append(t.embedded, spec.Type)
		return
	}
	switch declared := spec.Type.(type) {
	case *ast.StructType:
		for _, field := range declared.Fields.List {
			if len(field.Names) == 0 {
				t.embedded = append(t.embedded, field.Type)
			}
		}
	case *ast.InterfaceType:
		t.isInterface = true
		for _, field := range declared.Methods.List {
			switch element := field.Type.(type) {
			case *ast.FuncType:
				t.methods[method(pkg, field.Names[0].Name, element)] = true
			case *ast.BinaryExpr, *ast.UnaryExpr:
				t.constraint = true
			default:
				t.embedded = append(t.embedded, element)
			}
		}
	}
}

func method(pkg, name string, f *ast.FuncType) string {
	return methodKey(pkg, name, f.Params.NumFields(), f.Results.NumFields())
}

func methodKey(pkg, name string, params, results int) string {
	if !ast.IsExported(name) {
		name = pkg + "." + name
	}
	return fmt.Sprintf("%s/%d/%d", name, params, results)
}

// typeName returns the name in the expression of a type, without pointers and type arguments, and its qualifier.
func typeName(expr ast.Expr) (name, qualifier string) {
	switch expr := expr.(type) {
	case *ast.Ident:
		return expr.Name, ""
	case *ast.SelectorExpr:
		qualifier, _ = typeName(expr.X)
		return expr.Sel.Name, qualifier
	case *ast.StarExpr:
		return typeName(expr.X)
	case *ast.ParenExpr:
		return typeName(expr.X)
	case *ast.IndexExpr:
		return typeName(expr.X)
	case *ast.IndexListExpr:
		return typeName(expr.X)
	}
	return "", ""
}

// methodsOf returns the methods of a type, those of embedded types included, and whether all could be found.
func (x *typeIndex) methodsOf(t *declaredType, seen map[*declaredType]bool) (methodSet, bool) {
	all, complete := maps.Clone(t.methods), true
	if seen[t] {
		return all, complete
	}
	seen[t] = true
	for _, expr := range t.embedded {
		more, known := x.resolve(t, expr, seen)
		maps.Copy(all, more)
		complete = complete && known
	}
	return all, complete
}

// resolve returns the methods of a type that is embedded in t.
func (x *typeIndex) resolve(t *declaredType, expr ast.Expr, seen map[*declaredType]bool) (methodSet, bool) {
	name, qualifier := typeName(expr)
	if qualifier == "" {
		if other := x.types[typeKey{t.key.pkg, name}]; other != nil {
			return x.methodsOf(other, seen)
		}
		if name == "error" {
			return methodSet{"Error/0/1": true}, true
		}
		return nil, true
	}
	for _, imported := range t.file.syntax.Imports {
		from := unquote(imported.Path.Value)
		if x.nameOf(imported, from) != qualifier {
			continue
		}
		if other := x.types[typeKey{from, name}]; other != nil {
			return x.methodsOf(other, seen)
		}
		return x.fromStandard(from, name)
	}
	return nil, false
}

// nameOf returns the name that a file has for an import.
func (x *typeIndex) nameOf(spec *ast.ImportSpec, from string) string {
	if spec.Name != nil {
		return spec.Name.Name
	}
	if p := x.packages[from]; p != nil {
		return p.files[0].syntax.Name.Name
	}
	return path.Base(from)
}

// fromStandard returns the methods of a type of the standard library.
func (x *typeIndex) fromStandard(from, name string) (methodSet, bool) {
	imported, err := x.standard.Import(from)
	if err != nil {
		return nil, false
	}
	object := imported.Scope().Lookup(name)
	if object == nil {
		return nil, false
	}
	declared := object.Type()
	if !types.IsInterface(declared) {
		declared = types.NewPointer(declared)
	}
	methods := methodSet{}
	for selection := range types.NewMethodSet(declared).Methods() {
		signature := selection.Type().(*types.Signature)
		methods[methodKey(from, selection.Obj().Name(), signature.Params().Len(), signature.Results().Len())] = true
	}
	return methods, true
}

// interfaces returns the interfaces of the program, the one with the most methods first.
func (x *typeIndex) interfaces() []iface {
	var all []iface
	for _, t := range x.types {
		if t.file == nil || t.file.kind != code || !t.isInterface || t.constraint {
			continue
		}
		methods, complete := x.methodsOf(t, map[*declaredType]bool{})
		all = append(all, x.implemented(iface{
			name: x.title(t), methods: len(methods), partial: !complete,
		}, methods))
	}
	slices.SortFunc(all, func(a, b iface) int {
		return cmp.Or(cmp.Compare(b.methods, a.methods), cmp.Compare(a.name, b.name))
	})
	return all
}

// implemented counts the types that have the methods of an interface.
func (x *typeIndex) implemented(i iface, methods methodSet) iface {
	if len(methods) == 0 {
		return i
	}
	for _, t := range x.types {
		if t.file == nil || t.isInterface || t.isAlias {
			continue
		}
		if has, _ := x.methodsOf(t, map[*declaredType]bool{}); !has.covers(methods) {
			continue
		}
		switch t.file.kind {
		case code:
			i.inProgram++
			i.implementations = append(i.implementations, x.title(t))
		case test, support:
			i.inTests++
		}
	}
	slices.Sort(i.implementations)
	return i
}

// title is how the report names a type: the directory of its package and its name.
func (x *typeIndex) title(t *declaredType) string {
	return path.Dir(t.file.path) + "." + t.key.name
}
