package status

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Window is the revisions and times to which a cluster can be restored.
type Window struct {
	Journal   *Journal // nil when the cluster has none
	Timelines []Timeline
	Gaps      []Gap
	Snapshots []Held   // the newest first
	Estimates []string // of any restore from the journal
	Unread    []string // what could not be read
	Partial   bool     // a backend could not be listed: it may have what is in the gaps
}

// Estimates returns what no restore from a journal can promise.
func Estimates() []string {
	return []string{
		"Times are those at which changes came to the service, within milliseconds of their commit: etcd has no others.",
		"A lease that ended before it was asked for has a time to live that is not known.",
		"Leases without keys are known to about a second. A restored lease has its whole time to live.",
		"A compaction is known to have run between two observations, about half a second apart.",
		"Users, roles, members and alarms are those of the snapshot that the restore begins with.",
	}
}

// JournalRemoval is segments of a timeline that are removed from a backend.
type JournalRemoval struct {
	Backend, Timeline string
	First, Last       int64 // revisions
	Segments, Bytes   int64
	Why               string
}

// JournalCopies is how the journal on one backend compares with that on the others.
type JournalCopies struct {
	Backend         string
	Segments, Bytes int64 // that were copied there, or would be
	Lacking         int64 // revisions that another backend has
	Damaged         int64 // segments, as far as this replica knows
	Err             error // why it could not be compared or repaired
}

// Timeline is the journal of one history.
type Timeline struct {
	Name        string
	EtcdCluster string // its id, in hex as records have it
	Start       time.Time
	Reason      string // why the one before could not be continued; empty for the first one
	Ranges      []Range
}

// Range is consecutive revisions. The times are zero where they are not known.
type Range struct {
	First, Last                   int64
	FirstTime, LastTime, Complete time.Time
	From                          int64  // the first that can be restored; 0 when no snapshot is in the range
	Base                          string // name of the snapshot of that revision
}

// Gap is revisions that are lost.
type Gap struct {
	After, Before         int64
	AfterTime, BeforeTime time.Time
	Reason                string
	Timeline              string // that begins or goes on behind it
}

// Held is a snapshot by itself.
type Held struct {
	Name             string
	Oldest, Revision int64
	Created          time.Time
	EtcdCluster      string                 // its id, as the record has it
	JournalProof     *snapshot.Verification // whether the journal leads to it; nil when that was not checked
}

// AddGap adds the revisions that are missing at a break. Those of another history are no part of a gap.
func (w *Window) AddGap(b snapshot.JournalBreak) {
	if b.Lost() > 0 {
		w.Gaps = append(w.Gaps, Gap{
			After: b.After, Before: b.Before, AfterTime: b.AfterTime, BeforeTime: b.BeforeTime,
			Reason: b.Reason, Timeline: b.Timeline,
		})
	}
}

// MaxShown is how many snapshots of a window are shown, the newest.
const MaxShown = 500

// maxUnread is how many reasons a window has at most when records are added that cannot be read.
const maxUnread = 20

// maxReads is how often all snapshots of a catalog are read before it is an error that their pages end on the way.
const maxReads = 3

// AddAll adds the snapshots that can be restored, of which list gives pages. For the ranges of a journal these are all:
// the oldest may be the only one from which a range can be restored. Without a journal, they are those that are shown.
// When etcd compacts the revision of the pages meanwhile, it begins anew.
func (w *Window) AddAll(ctx context.Context, list func(context.Context, snapshot.Query) (snapshot.Page, error)) error {
	journal := *w
	for try := 1; ; try++ {
		err := w.addPages(ctx, list)
		if try == maxReads || snapshot.ReasonOf(err) != snapshot.ReasonPageTokenExpired {
			return err
		}
		*w = journal
	}
}

func (w *Window) addPages(
	ctx context.Context, list func(context.Context, snapshot.Query) (snapshot.Page, error),
) error {
	q := snapshot.Query{States: []snapshot.State{snapshot.StateReady, snapshot.StatePartial}, PageSize: MaxShown}
	for {
		page, err := list(ctx, q)
		if err != nil {
			return err
		}
		w.Add(page)
		if q.PageToken = page.NextPageToken; q.PageToken == "" || len(w.Timelines) == 0 {
			return nil
		}
	}
}

// Add adds a page of the catalog to a window, the newest page first. A record that cannot be read may be of a base.
func (w *Window) Add(page snapshot.Page) {
	for _, err := range page.Unreadable {
		if len(w.Unread) < maxUnread {
			w.Unread = append(w.Unread, err.Error())
		}
	}
	for _, rec := range page.Records {
		if wholeCopy(rec) == nil {
			continue
		}
		w.Snapshots = append(w.Snapshots, Held{
			Name: rec.Name, Oldest: rec.OldestRevision, Revision: rec.Revision, Created: rec.CreateTime,
			EtcdCluster: rec.EtcdClusterID, JournalProof: rec.JournalProof,
		})
	}
}

// PutBases notes from where on each range can be restored with the snapshots of a window, which are all that there are,
// and leaves those that are shown. A snapshot is of the history of a timeline when it is of the same etcd cluster, and
// was begun after that timeline and before the next one. A gap ends where such a snapshot begins to hold the revisions:
// these are not lost. While a backend could not be listed, nothing is called lost.
func (w *Window) PutBases() {
	for i := range w.Timelines {
		t := &w.Timelines[i]
		for j := range t.Ranges {
			r := &t.Ranges[j]
			for _, s := range w.Snapshots {
				ends := i+1 < len(w.Timelines) && !s.Created.Before(w.Timelines[i+1].Start)
				within := t.EtcdCluster == s.EtcdCluster && s.Revision >= r.First-1 && s.Revision <= r.Last &&
					!s.Created.Before(t.Start) && !ends
				if !within {
					continue
				}
				if r.From == 0 || s.Revision < r.From {
					r.From, r.Base = s.Revision, s.Name
				}
				w.Gaps = narrow(w.Gaps, t.Name, r.First, s.Oldest)
			}
		}
	}
	w.Snapshots = w.Snapshots[:min(len(w.Snapshots), MaxShown)]
	if w.Partial {
		w.doubt()
	}
}

// doubt tells of the gaps among what could not be read.
func (w *Window) doubt() {
	for _, g := range w.Gaps {
		w.Unread = append(w.Unread, fmt.Sprintf("It is not known whether the revisions %d to %d are lost: a backend that "+
			"could not be read may have them (%s).", g.After+1, g.Before-1, stopless(g.Reason)))
	}
	w.Gaps = nil
}

// narrow takes from the gap before a revision of a timeline the revisions that a snapshot holds, from its oldest one
// on; 0 when that is not known.
func narrow(gaps []Gap, timeline string, first, oldest int64) []Gap {
	if oldest == 0 {
		return gaps
	}
	for i := range gaps {
		if g := &gaps[i]; g.Timeline == timeline && g.Before <= first {
			g.Before = min(g.Before, oldest)
		}
	}
	return slices.DeleteFunc(gaps, func(g Gap) bool { return g.Before <= g.After+1 })
}
