package storage

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// checkKey refuses keys that would not be stored under what they are: gocloud.dev/blob escapes them, or a path means
// another one.
func checkKey(key string) error {
	if key == "" || strings.HasSuffix(key, "/") {
		return fmt.Errorf("%q is not a key", key)
	}
	return checkPath(key)
}

func checkPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	if !strings.HasSuffix(prefix, "/") {
		return fmt.Errorf("prefix %q does not end with '/'", prefix)
	}
	return checkPath(strings.TrimSuffix(prefix, "/"))
}

func checkPath(p string) error {
	if !utf8.ValidString(p) || strings.ContainsFunc(p, func(r rune) bool { return r < 32 || r == 127 }) {
		return fmt.Errorf("%q has characters that are not printable", p)
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("%q has an empty part, '.' or '..'", p)
		}
	}
	return nil
}
