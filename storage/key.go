package storage

import (
	"strings"
	"unicode/utf8"

	"github.com/snapshotd/snapshotd/storage/driver"
)

// checkKey refuses keys that would be stored under another name, because they are escaped or mean another path.
func checkKey(key string) error {
	if key == "" || strings.HasSuffix(key, "/") {
		return driver.Invalid("%q is not a key", key)
	}
	return checkPath(key)
}

func checkPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	if !strings.HasSuffix(prefix, "/") {
		return driver.Invalid("prefix %q does not end with '/'", prefix)
	}
	return checkPath(strings.TrimSuffix(prefix, "/"))
}

func checkPath(p string) error {
	if !utf8.ValidString(p) || strings.ContainsFunc(p, func(r rune) bool { return r < 32 || r == 127 }) {
		return driver.Invalid("%q has characters that are not printable", p)
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == "" || part == "." || part == ".." {
			return driver.Invalid("%q has an empty part, '.' or '..'", p)
		}
	}
	return nil
}
