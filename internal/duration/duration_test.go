package duration_test

import (
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/duration"
)

func TestParseReadsWhatPeopleWrite(t *testing.T) {
	const day = 24 * time.Hour
	for s, want := range map[string]time.Duration{
		"0": 0, "0d": 0, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "36h": 36 * time.Hour, "7d": 7 * day, "2w": 14 * day,
		"1w2d": 9 * day, "1d12h": 36 * time.Hour, "1.5d": 36 * time.Hour, "-1d": -day, "-1d12h": -36 * time.Hour, "365d": 365 * day,
		"250ms": 250 * time.Millisecond, "1d0s": day,
	} {
		if got, err := duration.Parse(s); err != nil || got != want {
			t.Errorf("Parse(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "d", "w", "7", "7 d", "soon", "1d-1h", "1d+1h", "1d2d", "1h1d", "1.2.3d", "7days", "106752d", "99999999999w",
		"--1d", "1D", ".d"} {
		if got, err := duration.Parse(s); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", s, got)
		}
	}
}
