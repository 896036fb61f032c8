package output

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// Reconciled writes what a reconcile found and did, or would do, on each backend.
func Reconciled(w io.Writer, resp *snapshotdv1.ReconcileResponse, dryRun bool) error {
	if err := reconcileTable(w, resp.GetBackends()); err != nil {
		return err
	}
	return journalCopies(w, resp.GetJournal(), dryRun)
}

func reconcileTable(w io.Writer, reports []*snapshotdv1.BackendReconciliation) error {
	return Columns(w, func(row func(...string)) {
		row("CLUSTER", "BACKEND", "LISTED", "UNCHANGED", "ADDED", "UPDATED", "REMOVED", "REPAIRED", "SWEPT", "FOREIGN",
			"RESULT")
		for _, r := range reports {
			result := "ok"
			if r.GetError() != nil {
				result = "failed"
			}
			counts := []int64{
				r.GetListed(), r.GetUnchanged(), r.GetAdded(), r.GetUpdated(), r.GetRemoved(), r.GetRepaired(), r.GetSwept(),
				r.GetForeign(),
			}
			cells := []string{r.GetCluster(), OrDash(r.GetBackend())}
			for _, n := range counts {
				cells = append(cells, strconv.FormatInt(n, 10))
			}
			row(append(cells, result)...)
		}
	})
}

// journalCopies writes what a reconcile has done for the journal of each backend, or would do, and what is left.
func journalCopies(w io.Writer, all []*snapshotdv1.JournalReconciliation, dryRun bool) error {
	copied := "segments copied"
	if dryRun {
		copied = "segments to copy"
	}
	for _, j := range all {
		var said []string
		if n := j.GetSegments(); n > 0 {
			said = append(said, fmt.Sprintf("%s: %d (%s)", copied, n, Size(j.GetSizeBytes())))
		}
		if n := j.GetLackingRevisions(); n > 0 {
			said = append(said, fmt.Sprintf("revisions that another backend has and it lacks: %d", n))
		}
		if n := j.GetDamagedSegments(); n > 0 {
			said = append(said, fmt.Sprintf("damaged segments: %d", n))
		}
		if len(said) == 0 {
			continue
		}
		text := fmt.Sprintf("journal on %s of cluster %s: %s", j.GetBackend(), j.GetCluster(), strings.Join(said, "; "))
		if _, err := fmt.Fprintln(w, Plain(text)); err != nil {
			return err
		}
	}
	return nil
}
