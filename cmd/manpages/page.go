package main

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// page returns the manual page of a command, as man(7) has it. It has no date, so that the same program has the same
// pages.
func page(cmd *cobra.Command, version string) []byte {
	var p roff
	p.macro("TH", strings.ToUpper(name(cmd)), "1", "", "snapshotd "+version, "snapshotd")
	p.section("NAME")
	fmt.Fprintf(&p, "%s \\- %s\n", escape(name(cmd)), escape(strings.ToLower(cmd.Short[:1])+cmd.Short[1:]))
	p.section("SYNOPSIS")
	fmt.Fprintf(&p, "\\fB%s\\fP%s\n",
		escape(cmd.CommandPath()), escape(strings.TrimPrefix(cmd.UseLine(), cmd.CommandPath())))
	p.section("DESCRIPTION")
	p.text(description(cmd))
	if subs := documented(cmd); len(subs) > 0 {
		p.section("COMMANDS")
		for _, sub := range subs {
			p.item(sub.Name(), sub.Short)
		}
	}
	p.flags("OPTIONS", cmd.LocalFlags())
	p.flags("OPTIONS OF ALL COMMANDS", cmd.InheritedFlags())
	if cmd.Example != "" {
		p.section("EXAMPLES")
		p.verbatim(cmd.Example)
	}
	p.section("SEE ALSO")
	p.text(strings.Join(related(cmd), ", "))
	return p.Bytes()
}

func name(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

func description(cmd *cobra.Command) string {
	if cmd.Long != "" {
		return cmd.Long
	}
	return cmd.Short + "."
}

// documented are the commands below a command that its help shows.
func documented(cmd *cobra.Command) []*cobra.Command {
	var all []*cobra.Command
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" {
			all = append(all, sub)
		}
	}
	return all
}

// related are the pages of the command above, and of those below.
func related(cmd *cobra.Command) []string {
	var pages []string
	if cmd.HasParent() {
		pages = append(pages, name(cmd.Parent())+"(1)")
	}
	for _, sub := range documented(cmd) {
		pages = append(pages, name(sub)+"(1)")
	}
	return append(pages, "etcdctl(1), etcdutl(1)")
}

// roff is a page that is being written.
type roff struct{ bytes.Buffer }

func (p *roff) macro(name string, args ...string) {
	p.WriteString("." + name)
	for _, a := range args {
		p.WriteString(` "` + strings.ReplaceAll(escape(a), `"`, `\(dq`) + `"`)
	}
	p.WriteByte('\n')
}

func (p *roff) section(title string) { p.macro("SH", title) }

// text writes paragraphs, which an empty line separates. Paragraphs of indented lines stay as they are.
func (p *roff) text(text string) {
	for i, par := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			p.WriteString(".PP\n")
		}
		if strings.HasPrefix(par, "  ") {
			p.verbatim(par)
			continue
		}
		p.WriteString(escape(par) + "\n")
	}
}

// verbatim writes lines that are not filled.
func (p *roff) verbatim(text string) {
	p.WriteString(".nf\n" + escape(strings.Trim(text, "\n")) + "\n.fi\n")
}

// item writes a tagged paragraph.
func (p *roff) item(tag, text string) {
	fmt.Fprintf(p, ".TP\n\\fB%s\\fP\n%s\n", escape(tag), escape(text))
}

func (p *roff) flags(title string, flags *pflag.FlagSet) {
	begun := false
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		if !begun {
			begun = true
			p.section(title)
		}
		value, usage := pflag.UnquoteUsage(f)
		tag := "--" + f.Name
		if f.Shorthand != "" {
			tag = "-" + f.Shorthand + ", " + tag
		}
		if value != "" {
			tag += " " + value
		}
		if def := f.DefValue; def != "" && def != "false" && def != "[]" && def != "0" && def != "0s" {
			usage += fmt.Sprintf(" (default %s)", def)
		}
		p.item(tag, usage)
	})
}

// escape makes roff print a text as it is: no line begins a request, a hyphen is the one of the keyboard, so that
// options can be copied, and all other characters are those of Unicode.
func escape(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r > unicode.MaxASCII:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	lines := strings.Split(b.String(), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
