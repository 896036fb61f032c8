package output

import (
	"fmt"
	"io"
	"time"

	"github.com/snapshotd/snapshotd/internal/bytesize"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// PruneTable writes a line for each decision of retention: whether the snapshot stays, and why.
func PruneTable(w io.Writer, decisions []*snapshotdv1.PruneDecision, dry bool, now time.Time) error {
	gone := "removed"
	if dry {
		gone = "would go"
	}
	return Columns(w, func(row func(...string)) {
		row("NAME", "BACKEND", "CREATED", "AGE", "SIZE", "VERDICT", "WHY")
		for _, d := range decisions {
			said := gone
			switch {
			case d.GetStays() && d.GetError() != nil:
				said = "locked"
			case d.GetStays():
				said = "stays"
			case d.GetError() != nil:
				said = "failed"
			}
			created := d.GetCreateTime().AsTime()
			row(d.GetName(), d.GetBackend(), created.UTC().Format(time.RFC3339), Age(now.Sub(created)),
				Size(d.GetSizeBytes()), said, d.GetWhy())
		}
	})
}

// pruneSum is what retention does with the snapshots of a backend.
type pruneSum struct {
	going, kept, failed                int
	goingBytes, keptBytes, failedBytes int64
}

func (s *pruneSum) add(d *snapshotdv1.PruneDecision) {
	switch {
	case d.GetError() != nil:
		s.failed, s.failedBytes = s.failed+1, s.failedBytes+d.GetSizeBytes()
	case d.GetStays():
		s.kept, s.keptBytes = s.kept+1, s.keptBytes+d.GetSizeBytes()
	default:
		s.going, s.goingBytes = s.going+1, s.goingBytes+d.GetSizeBytes()
	}
}

// PruneSums writes a line for each backend, in the order of the decisions.
func PruneSums(w io.Writer, decisions []*snapshotdv1.PruneDecision, dry bool) error {
	sums, backends := map[string]*pruneSum{}, []string{}
	for _, d := range decisions {
		if sums[d.GetBackend()] == nil {
			sums[d.GetBackend()] = &pruneSum{}
			backends = append(backends, d.GetBackend())
		}
		sums[d.GetBackend()].add(d)
	}
	gone, freed, cannot := "removed", "freed", "could not be removed"
	if dry {
		gone, freed, cannot = "would go", "would be freed", "cannot be removed"
	}
	if len(backends) > 0 {
		fmt.Fprintln(w)
	}
	for _, name := range backends {
		s := sums[name]
		text := fmt.Sprintf("%s: %d %s (%s %s), %d stay (%s)",
			name, s.going, gone, bytesize.Format(s.goingBytes), freed, s.kept, bytesize.Format(s.keptBytes))
		if s.failed > 0 {
			text += fmt.Sprintf(", %d %s (%s)", s.failed, cannot, bytesize.Format(s.failedBytes))
		}
		if _, err := fmt.Fprintln(w, Plain(text)); err != nil {
			return err
		}
	}
	return nil
}
