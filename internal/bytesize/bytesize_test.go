package bytesize_test

import (
	"testing"

	"github.com/snapshotd/snapshotd/internal/bytesize"
)

func TestParseReadsWhatPeopleWrite(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "17": 17, "17B": 17, "17 b": 17, "1,000": 1000, "1k": 1000, "1kB": 1000, "2ki": 2048, "2 KiB": 2048,
		"500GB": 500e9, "1.5GiB": 3 << 29, "50MiB": 50 << 20, "20mb": 20e6, "3T": 3e12, "1pib": 1 << 50, "7EiB": 7 << 60, ".5k": 500,
	} {
		if got, err := bytesize.Parse(s); err != nil || got != want {
			t.Errorf("Parse(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "B", "MB", "-1", "-1kB", "+1", "1e5", "1 x", "1ib", "1i", "1bb", "1kk", "1 M B", "1.2.3", ".", "8EiB", "10e", "99999999999999999999", "inf", "٣"} {
		if got, err := bytesize.Parse(s); err == nil {
			t.Errorf("Parse(%q) = %d, want an error", s, got)
		}
	}
	if got, err := bytesize.Parse("9EB"); err != nil || got != 9e18 {
		t.Errorf("Parse(9EB) = %d, %v", got, err)
	}
}

func TestFormatShowsTwoDigitsOrMore(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 9: "9 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 10 << 10: "10 KiB", 10<<10 - 1: "10 KiB",
		64 << 10: "64 KiB", 1<<20 - 1: "1024 KiB", 1 << 20: "1.0 MiB", 82854982: "79 MiB", 1 << 30: "1.0 GiB", 1 << 40: "1.0 TiB",
		1 << 50: "1.0 PiB", 1 << 60: "1.0 EiB", 1<<63 - 1: "8.0 EiB",
	} {
		if got := bytesize.Format(n); got != want {
			t.Errorf("Format(%d) = %q, want %q", n, got, want)
		}
	}
}
