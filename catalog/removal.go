package catalog

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// plainKey matches keys that a shell takes as they are.
var plainKey = regexp.MustCompile(`^[A-Za-z0-9/._~@%+=:,-]+$`)

// removal returns the command that removes a key, to be pasted into a shell. The key may have been made by somebody who
// would like another command to be run.
func removal(key string) string {
	if plainKey.MatchString(key) {
		return "etcdctl del " + key
	}
	return "etcdctl del " + quoted(key)
}

// quoted returns a text in the quotes of a shell: plain ones where all of it can be seen, else bash's $'…'.
func quoted(s string) string {
	if visible(s) {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	var b strings.Builder
	for i := range len(s) {
		switch ch := s[i]; {
		case ch == '\'' || ch == '\\':
			b.WriteString(`\` + string(rune(ch)))
		case ch < ' ' || ch > '~':
			fmt.Fprintf(&b, `\x%02x`, ch)
		default:
			b.WriteByte(ch)
		}
	}
	return "$'" + b.String() + "'"
}

// visible reports whether all of a text can be seen, in its order.
func visible(s string) bool {
	for _, r := range s {
		if r == '\uFFFD' || !strconv.IsPrint(r) {
			return false
		}
	}
	return true
}
