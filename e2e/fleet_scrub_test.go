//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/internal/etcd/drill"
)

// proven compares the verdicts of scrubs under faults with the truth: every copy is good. Once nothing fails, the next
// drill must pass, be in the record and in the metric, and leave nothing behind.
func (f *fleet) proven(ended time.Time) {
	f.t.Helper()
	verdicts, good := f.verdicts()
	if good == 0 {
		f.t.Errorf("no scrub has verified anything while something failed: %v", verdicts)
	}
	f.t.Logf("verdicts while something failed: %v", verdicts)
	var last time.Time
	eventually(f.t, "a drill proves a snapshot once nothing fails", func() bool {
		last = time.Time{}
		for _, sn := range f.replicas[0].serve.list() {
			if passedDrill(sn) && sn.Verification.Time.After(last) {
				last = sn.Verification.Time
			}
		}
		return last.After(ended)
	})
	eventually(f.t, "the metric says when that was", func() bool {
		return slices.ContainsFunc(f.replicas, func(r *replica) bool {
			at := r.serve.scrape()[`snapshotd_last_proven_restore_timestamp_seconds{cluster="default"}`]
			return time.UnixMilli(int64(at * 1e3)).Add(time.Millisecond).After(last)
		})
	})
	for _, sn := range f.replicas[0].serve.list() {
		if sn.Verification.State == "STATE_FAILED" {
			f.t.Errorf("%s is %s, and its verdict is %+v", sn.Name, sn.State, sn.Verification)
		}
	}
	for _, r := range f.replicas {
		eventually(f.t, r.name+" has no directory of a drill left", func() bool {
			left, err := filepath.Glob(filepath.Join(r.data, "spool", "*", "verify-*"))
			return err == nil && len(left) == 0
		})
	}
}

// passedDrill reports whether a drill has proven a snapshot, and nothing has verified it since.
func passedDrill(sn snap) bool {
	return sn.Verification.Level == "LEVEL_DRILL" && sn.Verification.State == "STATE_PASSED"
}

// verdicts returns the verdicts in the logs of all replicas: how often each copy or snapshot was good, seemed to be
// damaged or could not be read, and the number of good ones. A verdict of damage is an error: nothing is damaged.
func (f *fleet) verdicts() (all map[string]int, good int) {
	all = map[string]int{}
	for _, s := range f.served {
		for line := range strings.Lines(s.log.String()) {
			var l struct{ Msg, Verification, Error string }
			if json.Unmarshal([]byte(line), &l) != nil {
				continue
			}
			switch l.Msg {
			case "snapshot verified":
				all["good, "+l.Verification]++
				good++
			case "stored copy seems to be damaged; it is read again":
				all["read again"]++
			case "scheduled work failed":
				all["scrub failed"]++
				f.t.Logf("a scrub failed: %s", l.Error)
			case "stored copy is damaged", "snapshot did not pass":
				f.t.Errorf("under faults a good copy got the verdict: %s", line)
			}
		}
	}
	return all, good
}

// noDrillIsLeft looks for processes of drills once all replicas were killed: they die with them.
func (f *fleet) noDrillIsLeft() {
	f.t.Helper()
	eventually(f.t, "no process of a drill is left", func() bool {
		all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		return !slices.ContainsFunc(all, func(path string) bool {
			line, err := os.ReadFile(path) // gone meanwhile
			return err == nil && bytes.HasPrefix(line, []byte(program(f.t, "")+"\x00"+drill.Verb+"\x00"))
		})
	})
}
