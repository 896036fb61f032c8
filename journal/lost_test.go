package journal_test

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/local"
	"github.com/snapshotd/snapshotd/journal/segment"
)

// lines collects a log.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) has(all ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		missing := func(part string) bool { return !strings.Contains(line, part) }
		if !slices.ContainsFunc(all, missing) {
			return true
		}
	}
	return false
}

// storeElsewhere brings the four parts in a directory to a backend, as an earlier process did.
func storeElsewhere(t *testing.T, dir string, other *place) {
	t.Helper()
	copied := t.TempDir()
	must(t, os.CopyFS(copied, os.DirFS(dir)))
	stop := runs(t, uploader(t, copied, []*place{other}))
	eventually(t, "all is stored", func() bool { return len(ends(t, other)) == 4 })
	stop()
}

func logTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// Bad files on the disk are a gap, with its bounds, unless a backend has their revisions. All others are stored.
func TestBadFilesAreAGapWhereNoBackendHasTheirRevisions(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		stored bool // by another backend
		spoil  func(file string) error
		ends   []int64
		lost   string
	}{
		"of a whole part":         {spoil: func(f string) error { return os.WriteFile(f, []byte("{"), 0o600) }, ends: []int64{10, 30, 40}, lost: "revisions 11 to 20"},
		"of the end of a part":    {spoil: func(f string) error { return os.Truncate(f, 100) }, ends: []int64{10, 0, 30, 40}, lost: " to 20"},
		"of a part that is there": {stored: true, spoil: func(f string) error { return os.WriteFile(f, []byte("{"), 0o600) }, ends: []int64{10, 30, 40}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, one, other := t.TempDir(), newPlace("one"), newPlace("other")
			leave(t, dir, 4)
			if tc.stored {
				storeElsewhere(t, dir, other)
			}
			files, err := filepath.Glob(filepath.Join(dir, "*.log"))
			must(t, err)
			must(t, tc.spoil(files[1]))
			var a asked
			var log lines
			j := uploader(t, dir, []*place{one, other}, func(c *journal.Config) { c.Broken, c.Logger = a.broken, logTo(&log) })
			other.away.Store(true)
			runs(t, j)
			eventually(t, "the revisions at stake are named", func() bool { return log.has("level=ERROR", "set aside", " to 20", dir) })
			eventually(t, "the others are stored", func() bool { return len(ends(t, one)) == len(tc.ends) })
			if _, causes := a.all(); len(causes) > 0 {
				t.Errorf("before the other backend has answered, it is known to be a gap: %v", causes)
			}
			other.away.Store(false)
			if tc.stored {
				eventually(t, "nothing is lost", func() bool { return log.has("no revision of the journal is lost") })
				if _, causes := a.all(); len(causes) > 0 || len(look(t, one, other).Timelines[0].Ranges) != 1 {
					t.Errorf("there is a gap: %v", causes)
				}
				return
			}
			eventually(t, "the gap is reported", func() bool { return log.has("journal has a gap", tc.lost) })
			eventually(t, "the gap is counted", func() bool { _, causes := a.all(); return len(causes) > 0 })
			_, causes := a.all()
			ranges := look(t, one).Timelines[0].Ranges
			if !slices.Equal(causes, []segment.Cause{segment.CauseDamaged}) || len(ranges) != 2 || ranges[1].First != 21 || ranges[1].Last != 40 {
				t.Errorf("because of %v, there are %+v", causes, ranges)
			}
			for i, end := range ends(t, one) {
				if want := tc.ends[i]; want != 0 && end != want {
					t.Errorf("the backend has segments up to %v, want %v", ends(t, one), tc.ends)
				}
			}
		})
	}
}

// Somebody removes a file while the journal runs. An earlier process has brought its revisions to a backend, which this one
// does not know before it has asked: there is no gap.
func TestAVanishedFileIsNoGapWhereABackendHasItsRevisions(t *testing.T) {
	t.Parallel()
	dir, one, other := t.TempDir(), newPlace("one"), newPlace("other")
	leave(t, dir, 4)
	storeElsewhere(t, dir, other)
	var a asked
	var log lines
	one.away.Store(true)
	other.away.Store(true)
	j := uploader(t, dir, []*place{one, other}, func(c *journal.Config) { c.Broken, c.Logger = a.broken, logTo(&log) })
	runs(t, j)
	eventually(t, "the journal is opened", func() bool { return j.Status().Waiting == 4 })
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	must(t, err)
	must(t, os.Remove(files[1]))
	one.away.Store(false)
	eventually(t, "the others are stored", func() bool { return slices.Equal(ends(t, one), []int64{10, 30, 40}) })
	other.away.Store(false)
	eventually(t, "all others are stored, and it is known that none is lost", func() bool {
		return j.Status().Waiting == 0 && (log.has("no revision of the journal is lost") || log.has("journal has a gap"))
	})
	if _, causes := a.all(); len(causes) > 0 || len(look(t, one, other).Timelines[0].Ranges) != 1 {
		t.Errorf("there is a gap: %v", causes)
	}
}

// Files vanish while no process runs. Those around them show which revisions they had, and the backends whether these are
// lost.
func TestAFileThatVanishedBetweenTwoProcessesIsAGap(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		remove string // of the files of a part
		part   int
		stored bool // by a backend
		lost   string
		ends   []int64
	}{
		"of the first part":        {remove: "*.*", part: 0, lost: "revisions up to 10", ends: []int64{20, 30, 40}},
		"of a part in the middle":  {remove: "*.*", part: 1, lost: "revisions 11 to 20", ends: []int64{10, 30, 40}},
		"the entries alone":        {remove: "*.log", part: 1, lost: "revisions 11 to 20", ends: []int64{10, 30, 40}},
		"of the last part":         {remove: "*.*", part: 3, lost: "revisions 31 to 40", ends: []int64{10, 20, 30}},
		"and a backend has it":     {remove: "*.*", part: 1, stored: true, ends: []int64{10, 30, 40}},
		"and a backend has it all": {remove: "*.*", part: 3, stored: true, ends: []int64{10, 20, 30}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, one, other := t.TempDir(), newPlace("one"), newPlace("other")
			leave(t, dir, 4)
			if tc.stored {
				storeElsewhere(t, dir, other)
			}
			logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
			must(t, err)
			files, err := filepath.Glob(strings.TrimSuffix(logs[tc.part], "log") + strings.TrimPrefix(tc.remove, "*."))
			must(t, err)
			for _, f := range files {
				must(t, os.Remove(f))
			}
			var a asked
			var log lines
			j := uploader(t, dir, []*place{one, other}, func(c *journal.Config) {
				c.Broken, c.Logger = a.broken, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			})
			other.away.Store(true)
			runs(t, j)
			eventually(t, "the others are stored", func() bool { return slices.Equal(ends(t, one), tc.ends) })
			if _, causes := a.all(); len(causes) > 0 {
				t.Errorf("before the other backend has answered, it is known to be a gap: %v", causes)
			}
			other.away.Store(false)
			if tc.stored {
				eventually(t, "nothing is lost", func() bool { return log.has("no revision of the journal is lost") })
				if _, causes := a.all(); len(causes) > 0 {
					t.Errorf("there is a gap: %v", causes)
				}
				return
			}
			eventually(t, "the gap is reported", func() bool { return log.has("level=ERROR", "journal has a gap", tc.lost, dir) })
			eventually(t, "the gap is counted", func() bool { _, causes := a.all(); return slices.Equal(causes, []segment.Cause{segment.CauseDamaged}) })
		})
	}
}

// A replica that does not lead for long has the note of a timeline that the backends have removed since, with the
// snapshots that needed it. Nothing is lost, whenever it starts.
func TestATimelineThatWasRemovedIsNoGap(t *testing.T) {
	t.Parallel()
	dir, one := t.TempDir(), newPlace("one")
	leave(t, dir, 4)
	stop := runs(t, uploader(t, dir, []*place{one}))
	eventually(t, "the parts are stored, and removed", func() bool {
		files, err := filepath.Glob(filepath.Join(dir, "*.log"))
		return err == nil && len(files) == 0 && len(ends(t, one)) == 4
	})
	stop()
	reopened := local.New(dir, 1<<30)
	must(t, reopened.Open())
	if lost := reopened.TakeLosses(); len(lost) > 0 { // the backend, from which all is gone, would not have them
		t.Errorf("the next process looks for %+v", lost)
	}
}

// A gap that was reported is not reported again by the next process.
func TestAGapIsReportedOnce(t *testing.T) {
	t.Parallel()
	dir, one := t.TempDir(), newPlace("one")
	leave(t, dir, 4)
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	must(t, err)
	for _, f := range []string{logs[3], strings.TrimSuffix(logs[3], "log") + "json"} {
		must(t, os.Remove(f))
	}
	var first lines
	stop := runs(t, uploader(t, dir, []*place{one}, func(c *journal.Config) { c.Logger = logTo(&first) }))
	eventually(t, "the gap is reported", func() bool { return first.has("journal has a gap", "revisions 31 to 40") })
	stop()
	reopened := local.New(dir, 1<<30)
	must(t, reopened.Open())
	if lost := reopened.TakeLosses(); len(lost) > 0 {
		t.Errorf("the next process looks for %+v", lost)
	}
}
