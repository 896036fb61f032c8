package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const maxComplexity = 15

// domain are the rooms whose comments are measured on their own.
var domain = []string{"snapshot", "repository", "cluster", "journal"}

// report measures a module and writes it down.
func report(m *module) string {
	standard := newStandardLibrary()
	w := &writer{}
	cycles := map[*pkg][]cycle{}
	c := newChecker(m, standard)
	for _, p := range m.packages {
		if len(p.of(code)) > 0 {
			cycles[p] = c.cycles(p)
		}
	}
	interfaces := newTypeIndex(m, standard).interfaces()
	up, sideways := misplaced(m.edges())

	w.printf("The program is the Go code of this module without tests (`_test.go`), the tests' helpers (`e2e`, " +
		"`internal/testenv`, `internal/loader`, `*test`, `conformance`), generated code and the modules under " +
		"`tools/`. Rows that name nothing else are about the program.\n\n")
	w.head("", "figure")
	w.sizes(m)
	w.functions(m)
	w.prose(m)
	w.structure(m, interfaces, cycles, up, sideways)
	w.packages(m, cycles)
	w.interfaces(interfaces)
	w.list("Functions over a complexity of "+strconv.Itoa(maxComplexity), complexFunctions(m))
	w.list("Upward imports", edgeNames(up))
	w.list("Sideways imports", edgeNames(sideways))
	w.list("Cycles of files", cycleNames(cycles))
	return w.String()
}

type writer struct{ strings.Builder }

func (w *writer) printf(format string, args ...any) { fmt.Fprintf(&w.Builder, format, args...) }

func (w *writer) head(cells ...string) {
	w.row(cells...)
	w.row(slices.Repeat([]string{"---"}, len(cells))...)
}

func (w *writer) row(cells ...string) { w.printf("| %s |\n", strings.Join(cells, " | ")) }

func (w *writer) list(title string, items []string) {
	w.printf("\n## %s: %d\n", title, len(items))
	if len(items) > 0 {
		w.printf("\n- %s\n", strings.Join(items, "\n- "))
	}
}

func (w *writer) sizes(m *module) {
	files := m.of(code)
	program := sum(files, lines)
	w.row("lines", number(program))
	w.row("lines with generated code", number(program+sum(m.of(generated), lines)))
	w.row("lines that no command in `cmd/` imports", outsideLines(m))
	w.row("files", number(len(files)))
	var sizes []int
	largest := &file{}
	for _, f := range files {
		sizes = append(sizes, f.lines)
		if f.lines > largest.lines {
			largest = f
		}
	}
	w.row("file, median / largest",
		fmt.Sprintf("%d / %s (`%s`)", quantile(sizes, 0.5), number(largest.lines), largest.path))
	tests, helpers := sum(m.of(test), lines), sum(m.of(support), lines)
	w.row("lines of tests / of their helpers", number(tests)+" / "+number(helpers))
	w.row("lines of tests per line of code / with their helpers", fmt.Sprintf("%.2f / %.2f",
		ratio(tests, program), ratio(tests+helpers, program)))
}

func outsideLines(m *module) string {
	n, names := 0, []string{}
	for _, p := range m.outside() {
		n += sum(p.of(code), lines)
		names = append(names, "`"+p.dir+"`")
	}
	return strings.TrimSpace(number(n) + " " + strings.Join(names, ", "))
}

func (w *writer) functions(m *module) {
	var sizes []int
	total, over, worst := 0, 0, function{}
	for _, f := range m.of(code) {
		for _, function := range f.funcs {
			sizes = append(sizes, function.lines)
			total += function.lines
			if function.lines > worst.lines {
				worst = function
			}
			if function.complexity > maxComplexity {
				over++
			}
		}
	}
	w.row("functions", number(len(sizes)))
	w.row("lines of a function, mean / p90 / max", fmt.Sprintf("%.1f / %d / %d (`%s`)",
		ratio(total, len(sizes)), quantile(sizes, 0.9), worst.lines, worst.name))
	w.row(fmt.Sprintf("functions over a complexity of %d", maxComplexity), number(over))
}

func (w *writer) prose(m *module) {
	share := func(files []*file) string {
		return fmt.Sprintf("%.1f %%", 100*ratio(sum(files, func(f *file) int { return f.comments }), sum(files, lines)))
	}
	w.row("share of comment lines", share(m.of(code)))
	for _, top := range domain {
		var files []*file
		for _, p := range m.packages {
			if within(p.dir, top) {
				files = append(files, p.of(code)...)
			}
		}
		if len(files) > 0 {
			w.row("share of comment lines, `"+top+"`", share(files))
		}
	}
	whats := func(files []*file) string {
		return fmt.Sprintf("%.1f", 1000*ratio(
			sum(files, func(f *file) int { return f.whats }), sum(files, func(f *file) int { return f.words })))
	}
	w.row("“what” per 1,000 words of comments / with tests and helpers",
		whats(m.of(code))+" / "+whats(m.of(code, test, support)))
}

func (w *writer) structure(m *module, interfaces []iface, cycles map[*pkg][]cycle, up, sideways []edge) {
	largest, single := 0, 0
	for _, i := range interfaces {
		largest = max(largest, i.methods)
		if i.inProgram+i.inTests < 2 {
			single++
		}
	}
	w.row("interfaces / most methods of one / with one implementation or none, tests' included",
		fmt.Sprintf("%d / %d / %d", len(interfaces), largest, single))
	packages, cyclic, files := 0, 0, 0
	for _, p := range m.packages {
		if len(p.of(code)) == 0 {
			continue
		}
		packages++
		if len(cycles[p]) > 0 {
			cyclic++
		}
		files += inCycles(cycles[p])
	}
	w.row("packages", number(packages))
	w.row("packages with a cycle of files / files in cycles", fmt.Sprintf("%d / %d", cyclic, files))
	w.row("upward imports / sideways ones", fmt.Sprintf("%d / %d", len(up), len(sideways)))
	w.row("direct dependencies / of them in the program", fmt.Sprintf("%d / %d", len(m.requires), m.inProgram()))
}

func (w *writer) packages(m *module, cycles map[*pkg][]cycle) {
	imports := m.edges()
	in, out := map[*pkg]int{}, map[*pkg]int{}
	for _, e := range imports {
		out[e.from]++
		in[e.to]++
	}
	shown := slices.DeleteFunc(slices.Clone(m.packages), func(p *pkg) bool { return len(p.of(code)) == 0 })
	slices.SortStableFunc(shown, func(a, b *pkg) int {
		return cmp.Compare(sum(b.of(code), lines), sum(a.of(code), lines))
	})
	w.printf("\n## Packages, the largest ones first\n\n")
	w.head("package", "floor", "lines", "files", "imported by", "imports", "files in cycles", "largest cycle")
	for _, p := range shown {
		_, f := room(p.dir)
		largest := 0
		if len(cycles[p]) > 0 {
			largest = len(cycles[p][0])
		}
		w.row("`"+p.dir+"`", f.String(), number(sum(p.of(code), lines)), number(len(p.of(code))),
			number(in[p]), number(out[p]), number(inCycles(cycles[p])), number(largest))
	}
}

func (w *writer) interfaces(interfaces []iface) {
	w.printf("\n## Interfaces\n\n")
	w.head("interface", "methods", "implementations", "in tests", "implemented by")
	for _, i := range interfaces {
		methods := number(i.methods)
		if i.partial {
			methods += "+"
		}
		w.row("`"+i.name+"`", methods, number(i.inProgram), number(i.inTests), strings.Join(i.implementations, ", "))
	}
}

func complexFunctions(m *module) []string {
	var names []string
	for _, f := range m.of(code) {
		for _, function := range f.funcs {
			if function.complexity > maxComplexity {
				names = append(names, fmt.Sprintf("`%s` in `%s`: %d", function.name, f.path, function.complexity))
			}
		}
	}
	return names
}

func edgeNames(all []edge) []string {
	var names []string
	for _, e := range all {
		names = append(names, fmt.Sprintf("`%s` → `%s`", e.from.dir, e.to.dir))
	}
	slices.Sort(names)
	return names
}

func cycleNames(cycles map[*pkg][]cycle) []string {
	var names []string
	for p, all := range cycles {
		for _, c := range all {
			names = append(names, fmt.Sprintf("`%s`, %d files: %s", p.dir, len(c), strings.Join(c, ", ")))
		}
	}
	slices.Sort(names)
	return names
}

func inCycles(all []cycle) int {
	n := 0
	for _, c := range all {
		n += len(c)
	}
	return n
}

func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// number writes thousands with commas.
func number(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
