package local_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/testenv/check"
	"github.com/snapshotd/snapshotd/journal/local"
	"github.com/snapshotd/snapshotd/journal/segment"
)

var must = check.OK

const timeline = segment.Timeline("cdf818194e3a8c32-1784203200")

func open(t testing.TB, dir string) *local.Log {
	t.Helper()
	l := local.New(dir, 1<<30)
	if err := l.Open(); err != nil {
		t.Fatal(err)
	}
	return l
}

func revision(main int64) segment.Revision {
	return segment.Revision{Main: main, Time: time.UnixMilli(1_784_203_200_000 + main).UTC(), Records: []segment.Record{
		{Value: fmt.Appendf(nil, "value of revision %d", main)}, {Sub: 1, Tombstone: true, Value: []byte("gone")},
	}}
}

func add(t testing.TB, l *local.Log, first, last int64) {
	t.Helper()
	for r := first; r <= last; r++ {
		must(t, l.Append(revision(r)))
	}
}

// read returns the revisions in all sealed parts, and checks that each part is the one that its header says.
func read(t testing.TB, l *local.Log) []int64 {
	t.Helper()
	parts, _ := l.Sealed()
	var all []int64
	for i := range parts {
		var in []int64
		for e, err := range parts[i].Entries() {
			must(t, err)
			if r, ok := e.(segment.Revision); ok {
				in = append(in, r.Main)
				if want := revision(r.Main); !bytes.Equal(r.Records[0].Value, want.Records[0].Value) || !r.Time.Equal(want.Time) {
					t.Fatalf("revision %d is %+v", r.Main, r)
				}
			}
		}
		if h := parts[i].Header; len(in) == 0 || h.First != in[0] || h.Last != in[len(in)-1] {
			t.Fatalf("the header says %d to %d of %v", h.First, h.Last, in)
		}
		all = append(all, in...)
	}
	return all
}

func upTo(first, last int64) []int64 {
	var all []int64
	for r := first; r <= last; r++ {
		all = append(all, r)
	}
	return all
}

func TestWhatIsSealedIsThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	must(t, l.Begin(segment.Header{Timeline: timeline, Reason: "compacted: it had to be"}))
	add(t, l, 7, 10)
	must(t, l.Seal())
	must(t, l.Seal())
	if parts, _ := l.Sealed(); len(parts) != 1 {
		t.Fatalf("%d parts are sealed, and one has a revision", len(parts))
	}
	add(t, l, 11, 12)
	must(t, l.Close())
	at := l.Position()

	l = open(t, dir)
	if got := read(t, l); !slices.Equal(got, upTo(7, 12)) {
		t.Errorf("there are %v", got)
	}
	if got := l.Position(); got != at || got.Revision != 12 || got.Anchor != 12 {
		t.Errorf("the position is %+v, and was %+v", got, at)
	}
	parts, _ := l.Sealed()
	if len(parts) != 2 || parts[0].Header.Reason == "" || parts[1].Header.Previous != 10 ||
		parts[1].Header.PreviousChain != parts[0].Header.Chain {
		t.Errorf("the parts are %+v", parts)
	}
	for _, p := range parts {
		must(t, l.Remove(p.Number))
	}
	if got := open(t, dir); got.Position() != at {
		t.Errorf("without its parts, the position is %+v, and was %+v", got.Position(), at)
	}
}

// A process that dies leaves the file as far as it was written. Wherever that is, everything before is there, and the
// journal goes on behind it.
func TestATornEndIsCutOff(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	must(t, l.Begin(segment.Header{Timeline: timeline}))
	var sizes []int64 // after each revision
	for r := int64(1); r <= 4; r++ {
		add(t, l, r, r)
		all, _ := l.Size()
		sizes = append(sizes, all)
	}
	must(t, l.Sync())
	file := only(t, dir, "*.log")
	whole, err := os.ReadFile(file)
	must(t, err)
	facts, err := os.ReadFile(only(t, dir, "*.json"))
	must(t, err)
	for cut := range len(whole) + 1 {
		died := t.TempDir()
		must(t, os.WriteFile(filepath.Join(died, filepath.Base(file)), whole[:cut], 0o600))
		must(t, os.WriteFile(filepath.Join(died, filepath.Base(only(t, dir, "*.json"))), facts, 0o600))
		want := int64(0)
		for i, size := range sizes {
			if int64(cut) >= size {
				want = int64(i + 1)
			}
		}
		l := open(t, died)
		if got := read(t, l); !slices.Equal(got, upTo(1, want)) {
			t.Fatalf("cut at %d of %d, there are %v, want up to %d", cut, len(whole), got, want)
		}
		must(t, l.Begin(segment.Header{Timeline: timeline}))
		add(t, l, want+1, want+2)
		must(t, l.Close())
		if got := read(t, open(t, died)); !slices.Equal(got, upTo(1, want+2)) {
			t.Fatalf("cut at %d, and gone on with, there are %v", cut, got)
		}
	}
}

func only(t testing.TB, dir, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) != 1 {
		t.Fatalf("%s: %v, %v", pattern, files, err)
	}
	return files[0]
}

func TestWhatADiskDidNotTakeIsGivenUp(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	must(t, l.Begin(segment.Header{Timeline: timeline}))
	add(t, l, 1, 3)
	must(t, l.Sync())
	add(t, l, 4, 9)
	must(t, l.Abandon())
	if l.Position().Revision != 3 || !slices.Equal(read(t, l), upTo(1, 3)) {
		t.Errorf("the position is %+v, and there are %v", l.Position(), read(t, l))
	}
	must(t, l.Begin(segment.Header{Timeline: timeline}))
	add(t, l, 4, 5)
	must(t, l.Close())
	if got := read(t, open(t, dir)); !slices.Equal(got, upTo(1, 5)) {
		t.Errorf("there are %v", got)
	}
}

// After a sync that failed, the kernel may have dropped what it could not write, and the next sync succeeds.
func TestWhatASyncLostIsNeverCalledDurable(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	must(t, l.Begin(segment.Header{Timeline: timeline}))
	add(t, l, 1, 3)
	must(t, l.Sync())
	add(t, l, 4, 9)
	full := errors.New("no space left on device")
	l.FailNextSync(full)
	for range 2 {
		if err := l.Sync(); !errors.Is(err, full) {
			t.Errorf("the sync returned %v", err)
		}
	}
	if err := l.Seal(); !errors.Is(err, full) {
		t.Errorf("it was sealed: %v", err)
	}
	if err := l.Close(); !errors.Is(err, full) {
		t.Errorf("it was closed: %v", err)
	}
	if got := l.Synced().Revision; got != 3 {
		t.Errorf("revision %d is said to be durable", got)
	}
	must(t, l.Abandon())
	must(t, l.Begin(segment.Header{Timeline: timeline}))
	add(t, l, 4, 5)
	must(t, l.Close())
	l = open(t, dir)
	if got := read(t, l); !slices.Equal(got, upTo(1, 5)) || l.Position().Revision != 5 {
		t.Errorf("there are %v, up to %d", got, l.Position().Revision)
	}
}

// A disk may hang for as long as it likes. Metrics and status show meanwhile what was durable before.
func TestTheJournalIsSeenWhileItsDiskHangs(t *testing.T) {
	l := open(t, t.TempDir())
	must(t, l.Begin(segment.Header{Timeline: timeline}))
	add(t, l, 1, 3)
	must(t, l.Seal())
	add(t, l, 4, 5)
	must(t, l.Sync())
	add(t, l, 6, 9)
	hangs, letGo := l.HangNextSync()
	sealed, ended := make(chan error), make(chan struct{})
	_, another := l.Sealed()
	go func() { sealed <- l.Seal() }()
	<-hangs
	go func() {
		defer close(ended)
		parts, changed := l.Sealed()
		all, unsealed := l.Size()
		if h := l.Unsealed(); len(parts) != 1 || changed != another || h.First != 4 || h.Last != 9 ||
			l.Synced().Revision != 5 || unsealed == 0 || all != unsealed+parts[0].Size {
			t.Errorf("%d parts are sealed, revision %d is durable, %d to %d are not sealed, and %d of %d bytes",
				len(parts), l.Synced().Revision, h.First, h.Last, unsealed, all)
		}
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the disk is waited for")
	}
	letGo()
	must(t, <-sealed)
	<-another
	if got := read(t, l); !slices.Equal(got, upTo(1, 9)) || l.Synced().Revision != 9 || l.Unsealed().First != 0 {
		t.Errorf("there are %v, %d is durable, and %d is not sealed", got, l.Synced().Revision, l.Unsealed().First)
	}
}

// The noted position is of no use when the disk has lost what it was noted after.
func TestThePositionIsNotBehindWhatTheDiskHas(t *testing.T) {
	for name, tc := range map[string]struct{ seal, left, want int64 }{
		"the end of a part is lost":                      {seal: 0, left: 2, want: 2},
		"all of the only part is lost":                   {seal: 0, left: 0, want: 0},
		"all of the last part is lost":                   {seal: 3, left: 0, want: 3},
		"the end of the last part is lost":               {seal: 3, left: 1, want: 4},
		"nothing is lost":                                {seal: 3, left: 6, want: 9},
		"the backends have the last part, not the first": {seal: 3, left: -1, want: 9},
		"the last part was about to be removed":          {seal: 3, left: -2, want: 9},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := open(t, dir)
			must(t, l.Begin(segment.Header{Timeline: timeline}))
			add(t, l, 1, tc.seal)
			must(t, l.Seal())
			var size int64 // of the revisions that are left of the last part
			for r := tc.seal + 1; r <= 9; r++ {
				if r == tc.seal+tc.left+1 {
					_, size = l.Size()
				}
				add(t, l, r, r)
			}
			must(t, l.Close())
			parts, _ := l.Sealed()
			last := parts[len(parts)-1]
			switch file := filepath.Join(dir, fmt.Sprintf("%016x.log", last.Number)); {
			case tc.left == -2:
				must(t, os.Remove(file))
			case tc.left == -1:
				must(t, l.Remove(last.Number))
			case tc.want < 9:
				must(t, os.Truncate(file, size))
			}
			if got := open(t, dir).Position(); got.Revision != tc.want || (got.Anchor != tc.want) {
				t.Errorf("the position is %+v, want revision %d", got, tc.want)
			}
		})
	}
}

// A clock that was wrong has named a timeline. The journal goes on where it was before, or has been since.
func TestATimelineOfTheFutureIsNoPosition(t *testing.T) {
	future := segment.NewTimeline(1, time.Now().Add(48*time.Hour))
	for name, order := range map[string][]segment.Timeline{
		"it is the newest": {timeline, future}, "it was mended": {future, timeline}, "there is no other": {future},
	} {
		dir := t.TempDir()
		l := open(t, dir)
		for _, t1 := range order {
			must(t, l.Begin(segment.Header{Timeline: t1}))
			add(t, l, 1, 3)
			must(t, l.Close())
		}
		want := timeline
		if len(order) == 1 {
			want = ""
		}
		if got := open(t, dir); got.Position().Timeline != want {
			t.Errorf("%s: it is %+v", name, got.Position())
		}
	}
}

func TestARevisionThatDoesNotFollowIsRefused(t *testing.T) {
	l := open(t, t.TempDir())
	if err := l.Append(revision(1)); err == nil {
		t.Error("a revision was added before a part was begun")
	}
	must(t, l.Begin(segment.Header{Timeline: timeline}))
	add(t, l, 5, 6)
	for _, r := range []int64{6, 8, 1} {
		if err := l.Append(revision(r)); err == nil {
			t.Errorf("revision %d follows revision 6", r)
		}
	}
	add(t, l, 7, 7)
	must(t, l.Close())
	if got := read(t, l); !slices.Equal(got, upTo(5, 7)) {
		t.Errorf("there are %v", got)
	}
}

// A number that is taken, by files of which the log does not know, is passed over, and those files stay.
func TestABeginningPartTakesNoOtherOnesFiles(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	other := open(t, dir)
	must(t, other.Begin(segment.Header{Timeline: timeline, Reason: "compacted: it had to be"}))
	add(t, other, 1, 3)
	must(t, other.Close())

	must(t, l.Begin(segment.Header{Timeline: timeline}))
	add(t, l, 4, 5)
	must(t, l.Close())
	if got := read(t, other); !slices.Equal(got, upTo(1, 3)) {
		t.Errorf("of the other one's part there are %v", got)
	}
	again := open(t, dir)
	if got := read(t, again); !slices.Equal(got, upTo(1, 5)) {
		t.Errorf("there are %v", got)
	}
	if parts, _ := again.Sealed(); parts[0].Header.Reason == "" {
		t.Error("the facts of the other one's part were replaced")
	}
}

func TestShrinkRemovesWhatIsStoredElsewhereAlone(t *testing.T) {
	dir := t.TempDir()
	l := local.New(dir, 1)
	must(t, l.Open())
	must(t, l.Begin(segment.Header{Timeline: timeline}))
	for r := int64(1); r <= 3; r++ {
		add(t, l, r, r)
		must(t, l.Seal())
	}
	removed, within, err := l.Shrink(func(p local.Part) bool { return p.Header.First == 2 })
	if err != nil || within || len(removed) != 1 || removed[0].Header.First != 2 || !slices.Equal(read(t, l), []int64{1, 3}) {
		t.Errorf("within the limit: %t (%v), with %v", within, err, read(t, l))
	}
	removed, within, err = l.Shrink(func(local.Part) bool { return true })
	if err != nil || !within || len(removed) != 2 || len(read(t, l)) != 0 {
		t.Errorf("within the limit: %t (%v), with %v", within, err, read(t, l))
	}
}

// Whatever is in the files, they are refused, or what is read of them is read again the same way.
func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	l := open(f, dir)
	must(f, l.Begin(segment.Header{Timeline: timeline}))
	add(f, l, 3, 5)
	must(f, l.Append(segment.Leases{IDs: []int64{4, -1}, Revision: 5}))
	must(f, l.Append(segment.Watermark{Revision: 5, Time: time.UnixMilli(1_784_203_200_000)}))
	must(f, l.Close())
	log, err := os.ReadFile(only(f, dir, "*.log"))
	must(f, err)
	facts, err := os.ReadFile(only(f, dir, "*.json"))
	must(f, err)
	f.Add(log, facts)
	f.Add(log[:len(log)-3], facts)
	f.Add([]byte{}, []byte("{}"))
	f.Fuzz(func(t *testing.T, log, facts []byte) {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "0000000000000001.log"), log, 0o600))
		must(t, os.WriteFile(filepath.Join(dir, "0000000000000001.json"), facts, 0o600))
		l := local.New(dir, 1<<20)
		if l.Open() != nil {
			return
		}
		parts, _ := l.Sealed()
		again := open(t, dir)
		same, _ := again.Sealed()
		if len(parts) != len(same) || again.Position() != l.Position() {
			t.Fatalf("%+v at %+v, and then %+v at %+v", parts, l.Position(), same, again.Position())
		}
		for i := range parts {
			n := int64(0)
			for _, err := range parts[i].Entries() {
				must(t, err)
				n++
			}
			if n != parts[i].Header.Entries || parts[i].Header.Last < parts[i].Header.First {
				t.Fatalf("%d entries of %+v", n, parts[i].Header)
			}
		}
	})
}
