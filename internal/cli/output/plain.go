package output

import (
	"io"
	"strconv"
	"strings"
)

// Plain keeps text from others from breaking the table or the terminal: invisible characters become spaces,
// those among them that turn the direction of the text around.
func Plain(s string) string { return shown(s, "") }

// PlainLines returns a writer of whole texts that keeps them from doing anything to a terminal but to write lines.
// Names, errors and facts in them may come from whoever can write to a bucket or to etcd.
func PlainLines(w io.Writer) io.Writer { return plainLines{w} }

type plainLines struct{ w io.Writer }

// Write implements [io.Writer].
func (p plainLines) Write(b []byte) (int, error) {
	if _, err := io.WriteString(p.w, shown(string(b), "\n\t")); err != nil {
		return 0, err
	}
	return len(b), nil
}

// shown returns a text without invisible characters, but for some of them.
func shown(s, but string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) || strings.ContainsRune(but, r) {
			return r
		}
		return ' '
	}, s)
}
