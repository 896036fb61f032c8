package snapshot_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// The verdicts before the last one stay, as many as an answer can carry, and are never changed.
func TestEarlierVerdictsStay(t *testing.T) {
	r := snapshot.NewSave(snapshot.Snapshot{Name: "a"}, "", "owner", nil)
	day := func(n int) time.Time { return time.Unix(1_700_000_000, 0).Add(time.Duration(n) * 24 * time.Hour) }
	names := func(all []snapshot.Verification) (s string) {
		for _, v := range all {
			s += fmt.Sprintf("%s %v on day %d; ", v.Level, v.Passed, int(v.Time.Sub(day(0)).Hours())/24)
		}
		return s
	}
	drill := snapshot.Verification{Level: snapshot.LevelDrill, Passed: true, Time: day(0), Live: "the same", Disarmed: []string{"NOSPACE 1"}}
	if r.Verified(drill, false); len(r.Earlier) > 0 {
		t.Errorf("before the first verdict there were %s", names(r.Earlier))
	}
	r.Verified(snapshot.Verification{Level: snapshot.LevelChecksum, Error: strings.Repeat("ü", 1000), Time: day(1)}, false)
	before := r.Earlier
	r.Verified(snapshot.Verification{Level: snapshot.LevelStructure, Passed: true, Time: day(2)}, false)
	if got, want := names(r.Earlier), "CHECKSUM false on day 1; DRILL true on day 0; "; got != want {
		t.Errorf("there are %s, want %s", got, want)
	}
	if e := r.Earlier[0].Error; len(e) > 310 || !strings.HasPrefix(e, "üü") || strings.ToValidUTF8(e, "") != e {
		t.Errorf("the error is %q", e)
	}
	if first := r.Earlier[1]; first.Live != "" || first.Disarmed != nil || r.Proof.Live != "the same" {
		t.Errorf("of the drill there are %+v, and %+v as the proof", first, r.Proof)
	}
	if got := names(before); got != "DRILL true on day 0; " {
		t.Errorf("what another record shares was changed: %s", got)
	}
	for n := 3; n < 20; n++ {
		r.Verified(snapshot.Verification{Level: snapshot.LevelChecksum, Passed: true, Time: day(n)}, false)
	}
	if len(r.Earlier) != snapshot.MaxEarlier || !r.Earlier[0].Time.Equal(day(18)) || !r.Verification.Time.Equal(day(19)) {
		t.Errorf("the last one is of %s, before it %s", r.Verification.Time, names(r.Earlier))
	}
}
