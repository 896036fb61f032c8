//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"
)

// A snapshot that was saved without the catalog was pruned from one backend before the catalog was seen, and from the
// other one after that. Retention could remove it, so it is no loss.
func TestSoakForgetsWhatRetentionRemoved(t *testing.T) {
	k, old, later := oldest(t)
	k.absorb(later, false)
	if _, ok := k.ready[old.Name]; !ok {
		t.Fatal("what the catalog does not have yet was forgotten")
	}
	k.absorb(append(later, on(0, "s3")), true)
	if _, ok := k.ready[old.Name]; !ok {
		t.Fatal("what is on one backend was forgotten")
	}
	k.absorb(later, false)
	if _, ok := k.ready[old.Name]; ok {
		t.Error("what retention removed from both backends is still promised")
	}
}

// A pinned snapshot that one backend has removed already is no loss there.
func TestSoakLetsPinWhatOneBackendHasRemoved(t *testing.T) {
	k, old, later := oldest(t)
	k.absorb(append(later, old), false)
	k.absorb(append(later, on(0, "s3")), false)
	k.pinned[old.Name] = true
	k.absorb(append(later, on(0, "s3")), false)
	if len(k.words.errors) > 0 {
		t.Errorf("it was taken for a loss: %q", k.words.errors)
	}
}

// A copy that the leader removed before a pin, and that nobody has asked for between the two, is no loss. One that
// retention could not remove then is one.
func TestSoakLetsPinWhatTheLeaderHasJustRemoved(t *testing.T) {
	k, old, later := oldest(t)
	k.absorb(append(later, old), false)
	k.pinFrom(old.Name, on(0, "s3"))
	k.absorb(append(later, on(0, "s3")), false)
	if len(k.words.errors) > 0 {
		t.Errorf("it was taken for a loss: %q", k.words.errors)
	}
	newest := later[len(later)-1]
	k.taken[newest.Name], k.ready[newest.Name] = newest.CreateTime, promise{snap: newest}
	k.pinFrom(newest.Name, on(keepLast, "s3"))
	if k.left["local"][newest.Name] {
		t.Error("the loss of the newest was taken for retention")
	}
}

// oldest returns a soak with a promised snapshot, and as many newer ones as retention keeps.
func oldest(t *testing.T) (k *soak, old snap, later []snap) {
	k = &soak{t: t, ledger: newLedger(), ready: map[string]promise{}, deleted: map[string]snap{}}
	old = on(0, backends...)
	k.taken[old.Name], k.ready[old.Name] = old.CreateTime, promise{snap: old}
	for i := range keepLast {
		later = append(later, on(i+1, backends...))
	}
	return k, old, later
}

// on returns the snapshot of a round, READY on backends.
func on(round int, backends ...string) snap {
	s := snap{Name: fmt.Sprintf("soak-%05d", round), State: ready, CreateTime: time.Unix(int64(round), 0)}
	for _, b := range backends {
		s.Locations = append(s.Locations, location{Backend: b, State: ready})
	}
	return s
}
