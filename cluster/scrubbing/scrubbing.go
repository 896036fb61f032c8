// Package scrubbing chooses the snapshots whose turn it is to be verified by a scrub.
package scrubbing

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/internal/cache"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Records is the part of the catalog that is needed to choose.
type Records interface {
	Scan(ctx context.Context) iter.Seq2[*snapshot.Record, error]
}

// Choice is that of one scrub.
type Choice struct {
	Records  Records
	Backend  string                          // whose copies are scrubbed; empty for the snapshots on all backends
	Readable func(rec *snapshot.Record) bool // a READY copy is on a configured backend
	Scrubbed *cache.Cache[time.Time]         // by backend and name: when this process has scrubbed the copy
	Now      time.Time
}

// Turn is a snapshot that a scrub may verify.
type Turn struct {
	Name     string
	created  time.Time
	verified time.Time
}

// Turns returns the snapshots that have a READY copy on a configured backend. Without that condition, a snapshot whose
// backends are no longer configured would be the first in turn for ever. bad are the errors of records that cannot be
// read.
func (c *Choice) Turns(ctx context.Context) (all []Turn, bad []error, err error) {
	var unreadable snapshot.BadRecords
	latest := c.Now.Add(snapshot.ClockTolerance) // a later time was noted by a clock that was wrong
	for rec, err := range c.Records.Scan(ctx) {
		if unreadable.Add(err) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if rec.State() != snapshot.StateReady && rec.State() != snapshot.StatePartial || !c.Readable(rec) {
			continue
		}
		t := Turn{Name: rec.Name}
		if !rec.CreateTime.After(latest) {
			t.created = rec.CreateTime
		}
		v := rec.Verification
		if v != nil && !v.Time.After(latest) && (c.Backend == "" || slices.Contains(v.Backends, c.Backend)) {
			t.verified = v.Time
		}
		if at, _ := c.Scrubbed.Get(c.Backend, rec.Name, c.Now); at.After(t.verified) {
			t.verified = at
		}
		all = append(all, t)
	}
	c.Scrubbed.Forget(c.Backend, c.Now)
	return all, unreadable.Errors(), nil
}

// Newest returns the newest of some snapshots: it is the one that a disaster would need.
func Newest(all []Turn) Turn {
	return slices.MaxFunc(all, func(a, b Turn) int {
		return cmp.Or(a.created.Compare(b.created), strings.Compare(a.Name, b.Name))
	})
}

// Due returns a share of some snapshots, in percent: those whose last verification is longest ago. It is rounded up, so
// that a small cluster is scrubbed, too.
func Due(all []Turn, share int) []Turn {
	slices.SortStableFunc(all, func(a, b Turn) int { return a.verified.Compare(b.verified) })
	return all[:(len(all)*share+99)/100]
}
