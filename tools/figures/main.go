// Command figures prints the figures of a Go module as Markdown: sizes, complexity, comments, interfaces, imports and
// cycles of files. It reads the sources and builds nothing. The directory of the module is its only argument.
//
// Lines are all lines of a file. A comment line has a comment and no code, and is not a directive such as //go:embed.
// A function has the lines from "func" to its closing brace; its complexity is counted as gocyclo does. A type
// implements an interface when it has methods of these names with as many parameters and results. Files of a package
// are in a cycle when they use top-level names or methods of each other, directly or by way of other files.
package main

import (
	"fmt"
	"os"
)

func main() {
	root := "."
	if len(os.Args) == 2 {
		root = os.Args[1]
	}
	if len(os.Args) > 2 {
		fmt.Fprintln(os.Stderr, "usage: figures [DIRECTORY]")
		os.Exit(2)
	}
	if err := run(root); err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

func run(root string) error {
	m, err := load(os.DirFS(root))
	if err != nil {
		return fmt.Errorf("read the module in %s: %w", root, err)
	}
	_, err = os.Stdout.WriteString(report(m))
	return err
}
