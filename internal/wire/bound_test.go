package wire

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzShorten(f *testing.F) {
	for _, s := range []string{
		"", "short", strings.Repeat("a", 500), strings.Repeat("ü%\x00", 200),
		strings.Repeat("\xff", 300), strings.Repeat("桶", 99),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		const limit = 120
		got := shorten(s, limit)
		if !utf8.ValidString(got) {
			t.Errorf("%q is not UTF-8", got)
		}
		if n := escapedLen(got); n > limit {
			t.Errorf("%q takes %d bytes, more than %d", got, n, limit)
		}
		if utf8.ValidString(s) && escapedLen(s) <= limit && got != s {
			t.Errorf("%q became %q though it fits", s, got)
		}
	})
}

func TestWhatIsTooLongKeepsBothEnds(t *testing.T) {
	got := shorten("save: "+strings.Repeat("x", 1000)+" (try again)", 100)
	if !strings.HasPrefix(got, "save: xxx") || !strings.HasSuffix(got, "xxx (try again)") || len(got) != 100 {
		t.Errorf("%q", got)
	}
}
