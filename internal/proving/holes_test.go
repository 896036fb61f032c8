package proving_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/proving"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

// lose removes the segments with a revision from the backend.
func (r *rig) lose(t *testing.T, revision int64) {
	t.Helper()
	listing := segments.New(segments.Config{Repository: r.repo})
	for item, err := range listing.Every(t.Context()) {
		must(t, err)
		if item.First <= revision && revision <= item.Last {
			for _, key := range r.backend.Keys() {
				if strings.Contains(key, filepath.Base(listing.URI(item.Ref))+".") {
					r.backend.Remove(key)
				}
			}
		}
	}
}

// uploaded waits until the backend has a revision: later ones are in other segments.
func (r *rig) uploaded(t *testing.T, revision int64) {
	t.Helper()
	listing := segments.New(segments.Config{Repository: r.repo})
	eventually(t, "the journal is on the backend", func() bool {
		for item, err := range listing.Every(t.Context()) {
			must(t, err)
			if item.Last >= revision {
				return true
			}
		}
		return false
	})
}

// A segment that has led to a snapshot is removed from all backends. That is told once.
func TestRevisionsThatNoBackendHasAreAVerdict(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.save(t)
	r.Change(t, 60)
	r.uploaded(t, r.Revision())
	second := r.save(t)
	must(t, r.prover(t, nil).Round(t.Context()))
	if v := r.proof(t, second); v == nil || !v.Passed {
		t.Fatalf("%+v\n%s", v, r.log.String())
	}
	r.lose(t, second.Revision-30)
	r.checked = nil

	now := time.Now()
	clock := func(c *proving.Config) { c.Now = func() time.Time { return now } }
	looks := func(p *proving.Prover) {
		for range 4 {
			now = now.Add(time.Hour)
			_ = p.Holes(t.Context())
		}
	}
	other := memory.New("other", snapshot.BackendS3)
	beside := func(b repository.Backend) func(*proving.Config) {
		return func(c *proving.Config) {
			c.Repositories = append(c.Repositories, repository.New(repository.Config{Backend: b, Cluster: "default", Prefix: "default/"}))
		}
	}
	// Another backend may have them: one that does not answer, or the directory of another server.
	other.Vanish()
	looks(r.prover(t, nil, clock, beside(other)))
	looks(r.prover(t, nil, clock, beside(memory.New(snapshot.BackendOn("local", "node-1"), snapshot.BackendLocal))))
	if v := r.proof(t, second); !v.Passed || len(r.checked) > 0 {
		t.Errorf("%+v, %s", v, r.checked)
	}

	p := r.prover(t, nil, clock)
	now = now.Add(time.Hour)
	must(t, p.Holes(t.Context()))
	now = now.Add(time.Minute)
	must(t, p.Holes(t.Context()))
	if v := r.proof(t, second); !v.Passed || len(r.checked) > 0 {
		t.Errorf("what a replica may still upload is taken for lost: %+v, %s", v, r.checked)
	}
	looks(p)
	v := r.proof(t, second)
	if v.Passed || !strings.Contains(v.Error, "no backend has them") || strings.Join(r.checked, ", ") != "snapshot failed" {
		t.Errorf("%+v, %s", v, r.checked)
	}
	if !strings.Contains(r.log.String(), "journal lacks revisions on all backends") {
		t.Error(r.log.String())
	}
	looks(r.prover(t, nil, clock)) // of another leader
	if strings.Join(r.checked, ", ") != "snapshot failed" {
		t.Errorf("it is told again: %s", r.checked)
	}
}
