package main

import (
	"bytes"
	"go/ast"
	"go/scanner"
	"go/token"
	"regexp"
	"slices"
	"strings"
)

// counts are the figures of one file.
type counts struct {
	lines    int
	comments int // lines with nothing but a comment; directives are none
	words    int // in comments
	whats    int // of them "what"
	funcs    []function
}

type function struct {
	name       string
	lines      int
	complexity int
}

var (
	directive = regexp.MustCompile(`^//[a-z0-9]+:[a-z0-9]`)
	word      = regexp.MustCompile(`\pL[\pL\pN_'’-]*`)
)

func count(fset *token.FileSet, syntax *ast.File, source []byte) counts {
	c := counts{lines: bytes.Count(source, []byte("\n"))}
	c.comments = commentLines(source)
	for _, group := range syntax.Comments {
		for _, comment := range group.List {
			if directive.MatchString(comment.Text) {
				continue
			}
			words := word.FindAllString(strings.ToLower(comment.Text), -1)
			c.words += len(words)
			for _, w := range words {
				if w == "what" || strings.HasPrefix(w, "what'") || strings.HasPrefix(w, "what’") {
					c.whats++
				}
			}
		}
	}
	for _, decl := range syntax.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok {
			c.funcs = append(c.funcs, function{
				name:       funcName(f),
				lines:      fset.Position(f.End()).Line - fset.Position(f.Pos()).Line + 1,
				complexity: complexity(f),
			})
		}
	}
	return c
}

// commentLines counts the lines that have a comment and no code.
func commentLines(source []byte) int {
	fset := token.NewFileSet()
	file := fset.AddFile("", fset.Base(), len(source))
	var s scanner.Scanner
	s.Init(file, source, nil, scanner.ScanComments)
	isCode, isComment := map[int]bool{}, map[int]bool{}
	for {
		pos, tok, literal := s.Scan()
		lines := isCode
		switch {
		case tok == token.EOF:
			n := 0
			for line := range isComment {
				if !isCode[line] {
					n++
				}
			}
			return n
		case tok == token.SEMICOLON && literal == "\n", tok == token.COMMENT && directive.MatchString(literal):
			continue // not written, or meant for a tool
		case tok == token.COMMENT:
			lines = isComment
		}
		first := file.Line(pos)
		for i := range strings.Count(literal, "\n") + 1 {
			lines[first+i] = true
		}
	}
}

// complexity is McCabe's, counted as gocyclo does: one, and one more for each branch, each case and each && or ||.
// Function literals belong to the function that they are in.
func complexity(f *ast.FuncDecl) int {
	n := 1
	ast.Inspect(f, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
			n++
		case *ast.CaseClause:
			if node.List != nil { // not default
				n++
			}
		case *ast.CommClause:
			if node.Comm != nil {
				n++
			}
		case *ast.BinaryExpr:
			if node.Op == token.LAND || node.Op == token.LOR {
				n++
			}
		}
		return true
	})
	return n
}

func funcName(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	return receiver(f) + "." + f.Name.Name
}

// receiver returns the name of the type that a method is declared on.
func receiver(f *ast.FuncDecl) string {
	name, _ := typeName(f.Recv.List[0].Type)
	return name
}

// sum adds up a figure of files.
func sum(files []*file, figure func(*file) int) int {
	n := 0
	for _, f := range files {
		n += figure(f)
	}
	return n
}

func lines(f *file) int { return f.lines }

// quantile returns the value that a share of the values do not exceed.
func quantile(values []int, share float64) int {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}
