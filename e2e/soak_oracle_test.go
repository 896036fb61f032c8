//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"
)

// TestSoakForgetsWhatRetentionRemoved has a snapshot that was saved without the catalog, and that the leader pruned from one
// backend before the catalog was seen, and from the other one after that. Retention could remove it, so it is no loss.
func TestSoakForgetsWhatRetentionRemoved(t *testing.T) {
	k := &soak{t: t, ledger: newLedger(), ready: map[string]promise{}, deleted: map[string]snap{}}
	on := func(i int, backends ...string) snap {
		s := snap{Name: fmt.Sprintf("soak-%05d", i), State: ready, CreateTime: time.Unix(int64(i), 0)}
		for _, b := range backends {
			s.Locations = append(s.Locations, location{Backend: b, State: ready})
		}
		return s
	}
	old := on(0, backends...)
	k.taken[old.Name], k.ready[old.Name] = old.CreateTime, promise{snap: old}
	var later []snap
	for i := range keepLast {
		later = append(later, on(i+1, backends...))
	}
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
