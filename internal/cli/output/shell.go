package output

import (
	"regexp"
	"strings"
)

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:=,@%+-]+$`)

// Word returns s as one word of a shell, in quotes where it needs them.
func Word(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return quoted(s)
}

// quoted returns s as one word of a shell, in quotes.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Words returns a command line of these words, to be pasted into a shell.
func Words(words []string) string {
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = Word(w)
	}
	return strings.Join(all, " ")
}
