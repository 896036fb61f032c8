package cli

import (
	"regexp"
	"strings"
)

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:=,@%+-]+$`)

// word returns s as one word of a shell, in quotes where it needs them.
func word(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return quoted(s)
}

// quoted returns s as one word of a shell, in quotes.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
