package journal

import (
	"cmp"
	"context"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/journal/local"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/snapshot"
)

// noteLoss logs which revisions are at stake because files of the local part could not be read. Nothing is said yet of
// those that are not there: a backend mostly has them.
func (j *Journal) noteLoss(ctx context.Context, l *local.Loss) {
	log := j.cfg.Logger.With("directory", j.cfg.Dir, "timeline", l.Timeline, "revisions", l.String(), "error", l.Err)
	switch {
	// Most files that are not there were uploaded and removed right before a crash. resolveLoss finds that out.
	case l.Gone():
	case l.None():
		log.WarnContext(ctx, "files of the journal are bad, and are set aside as *.bad; no revision is missing")
	case l.Again:
		log.ErrorContext(ctx,
			"files of the journal are bad, and are set aside as *.bad; their revisions are read from etcd again")
	default:
		log.ErrorContext(ctx,
			"files of the journal are bad, and are set aside as *.bad; their revisions are lost, unless a backend has them")
	}
}

// resolveLater lets Run resolve losses. It waits for nobody: see needBase.
func (j *Journal) resolveLater(lost ...local.Loss) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []local.Loss
	select {
	case all = <-j.losses:
	default:
	}
	for _, l := range lost {
		last := len(all) - 1
		if last >= 0 && all[last].Timeline == l.Timeline && all[last].Last+1 == l.First && all[last].Gone() == l.Gone() {
			all[last].Last = l.Last // somebody has removed many files
		} else {
			all = append(all, l)
		}
	}
	j.losses <- all
}

// resolveLosses resolves the losses that were found when the journal was opened, and those that come while it runs,
// until ctx ends.
func (j *Journal) resolveLosses(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case all := <-j.losses:
			resolved := true
			for i := range all {
				resolved = j.resolveLoss(ctx, &all[i]) && resolved
			}
			if resolved {
				j.noteResolved(ctx)
			}
		}
	}
}

// noteResolved notes that no loss waits, so that another process does not report those again.
func (j *Journal) noteResolved(ctx context.Context) {
	j.removing.Lock()
	defer j.removing.Unlock()
	// More was found meanwhile, and its turn comes.
	if len(j.losses) > 0 {
		return
	}
	if err := j.log.Resolve(); err != nil {
		j.cfg.Logger.WarnContext(ctx, "it is not noted on the disk which revisions of the journal are lost: the next "+
			"start looks again",
			"directory", j.cfg.Dir, "error", err)
	}
}

// resolveLoss finds out which of the revisions of a loss are nowhere, and reports them as gaps. It waits until all
// backends have answered; when ctx ends before, the loss is not resolved.
func (j *Journal) resolveLoss(ctx context.Context, l *local.Loss) (resolved bool) {
	// Nothing is missing, or it comes again from etcd, or nothing can be asked for: only a timeline has a listing.
	if l.None() || l.Again || l.Timeline == "" {
		return true
	}
	for attempt := 1; ; attempt++ {
		held, err := j.held(ctx, l.Timeline)
		switch {
		case err == nil && l.Gone():
			j.reportGaps(ctx, l, held.goneOf(l))
			return true
		case err == nil:
			j.reportGaps(ctx, l, gapsOf(held.all, l.First, l.Last))
			return true
		}
		pause := backoff.Delay(firstUploadRetry, uploadRetry, attempt)
		j.cfg.Logger.WarnContext(ctx, "it is not known yet which revisions of the journal are lost",
			"timeline", l.Timeline, "revisions", l.String(), "retry_after", pause, "error", err)
		if backoff.Wait(ctx, pause) != nil {
			return false
		}
	}
}

// reportGaps tells of the revisions of a loss that are nowhere: to the log, to Config.Broken, and by asking for a
// snapshot behind them.
func (j *Journal) reportGaps(ctx context.Context, l *local.Loss, gaps []local.Loss) {
	log := j.cfg.Logger.With("timeline", l.Timeline)
	if len(gaps) == 0 && l.Gone() {
		log.InfoContext(ctx, "no revision of the journal is lost: the backends have those of the parts that are not there",
			"revisions", l.String())
		return
	}
	if len(gaps) == 0 {
		log.InfoContext(ctx, "no revision of the journal is lost: the backends have those of the bad files",
			"revisions", l.String())
		return
	}
	var where []snapshot.JournalBreak
	for i := range gaps {
		where = append(where, lostOf(l.Timeline, &gaps[i]))
		log.ErrorContext(ctx, "journal has a gap: files on the disk were bad or have vanished, and no backend has their "+
			"revisions",
			"directory", j.cfg.Dir, "revisions", gaps[i].String())
	}
	j.cfg.Broken(ctx, segment.CauseDamaged, where...)
	// Revisions behind the gap can be restored from a snapshot behind it alone.
	j.needBase(Base{Since: time.Now(), Cluster: l.Timeline.EtcdCluster(),
		Reason: "the journal has a gap: " + gaps[0].String()})
}

// lostOf is the break that a gap makes.
func lostOf(t segment.Timeline, gap *local.Loss) snapshot.JournalBreak {
	b := snapshot.JournalBreak{
		Timeline: string(t), After: max(0, gap.First-1), BeforeTime: time.Now(),
		Reason: segment.CauseDamaged.Reason("files on a replica's disk were bad or have vanished, and no backend has " +
			"their revisions"),
	}
	if gap.Last > 0 {
		b.Before = gap.Last + 1
	}
	return b
}

// held is the revisions of a timeline that are somewhere.
type held struct {
	all    []segment.Range // on the backends and this disk
	stored int64           // the first one on a backend; 0 when there is none
}

// held returns the revisions of a timeline that all backends together and this disk have.
func (j *Journal) held(ctx context.Context, t segment.Timeline) (h held, err error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	// An error of one ends it: that backend may have the revisions, and a gap that was told is seen by people.
	for _, u := range j.stores {
		for _, level := range segment.Levels() {
			for item, err := range u.store.List(ctx, t, level) {
				if err != nil {
					return h, err
				}
				h.all = append(h.all, segment.Range{First: item.First, Last: item.Last})
				if h.stored == 0 || item.First < h.stored {
					h.stored = item.First
				}
			}
		}
	}
	// They wait for a backend, and are as good as there.
	parts, _ := j.log.Sealed()
	for i := range parts {
		if p := &parts[i].Header; p.Timeline == t {
			h.all = append(h.all, segment.Range{First: p.First, Last: p.Last})
		}
	}
	h.all = segment.Union(h.all)
	return h, nil
}

// goneOf returns the gaps that are left by files which have vanished from this disk. There are none when all backends
// begin behind the loss: its segments were pruned. When it is not known where the loss begins, only a gap at its end
// counts, because older revisions may be older than every snapshot.
func (h *held) goneOf(l *local.Loss) []local.Loss {
	switch {
	case h.stored > l.Last+1:
		return nil
	case l.First > 0:
		return gapsOf(h.all, l.First, l.Last)
	case len(h.all) == 0 || h.all[0].First > l.Last:
		return []local.Loss{*l}
	}
	gaps := gapsOf(h.all, 0, l.Last)
	if n := len(gaps); n == 0 || gaps[n-1].Last < l.Last {
		return nil
	}
	return gaps[len(gaps)-1:]
}

// gapsOf returns the gaps from first to last in the revisions that are held; without any that are held, all is one gap.
// A bound of 0 is not known. Without first, only the last gap is returned: the others are older. Without last, only the
// first gap is, and none behind the newest revision that is held, where the journal goes on.
func gapsOf(held []segment.Range, first, last int64) (gaps []local.Loss) {
	// Without anything that is held there is no bound to take in place of one that is not known.
	if len(held) == 0 {
		return []local.Loss{{First: first, Last: last}}
	}
	all := segment.Range{First: cmp.Or(first, held[0].First), Last: cmp.Or(last, held[len(held)-1].Last)}
	for _, g := range segment.Without([]segment.Range{all}, held) {
		gaps = append(gaps, local.Loss{First: g.First, Last: g.Last})
	}
	switch {
	case len(gaps) > 1 && first == 0:
		return gaps[len(gaps)-1:]
	case len(gaps) > 1 && last == 0:
		return gaps[:1]
	}
	return gaps
}
