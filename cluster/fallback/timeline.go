package fallback

import (
	"context"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	endsPage  = 500 // records that are read at a time
	endsTries = 3   // times that the list is begun anew
)

// findEnded notes which snapshots no newer one can replace, because etcd was restored to an earlier state since they
// were taken. A later snapshot with a lower revision shows that, on this disk or in the catalog, whatever has become of
// it. It may be forgotten soon, so it is looked for each time, and the record of what is kept remembers it.
func (f *Fallback) findEnded(ctx context.Context, all []*Snapshot) error {
	now := f.cfg.Now()
	var from time.Time
	for _, k := range all {
		if k.found == nil {
			continue
		}
		noteEnded(all, &k.found.Snapshot, now)
		if from.IsZero() || k.found.CreateTime.Before(from) {
			from = k.found.CreateTime
		}
	}
	if from.IsZero() {
		return nil
	}
	q := snapshot.Query{From: from, PageSize: endsPage}
	for anew := 0; ; {
		page, err := f.cfg.History.List(ctx, q)
		if snapshot.ReasonOf(err) == snapshot.ReasonPageTokenExpired && anew < endsTries {
			anew, q.PageToken = anew+1, "" // etcd was compacted between two pages
			continue
		}
		if err != nil {
			return err
		}
		for _, rec := range page.Records {
			noteEnded(all, &rec.Snapshot, now)
		}
		if q.PageToken = page.NextPageToken; q.PageToken == "" {
			return nil
		}
	}
}

// noteEnded notes which of the snapshots are of a history that had ended when a snapshot was taken.
func noteEnded(all []*Snapshot, later *snapshot.Snapshot, now time.Time) {
	for _, k := range all {
		if k.found != nil && later.EndsTimelineOf(&k.found.Snapshot, now) {
			k.ended = true
		}
	}
}
