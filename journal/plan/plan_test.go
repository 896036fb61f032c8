package plan_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/testenv/check"
	"github.com/snapshotd/snapshotd/journal/plan"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

var must = check.OK

var begin = time.Unix(1_784_203_200, 0).UTC()

const timeline = segment.Timeline("cdf818194e3a8c32-1784203200")

// at is when a revision arrives.
func at(main int64) time.Time { return begin.Add(time.Duration(main) * time.Second) }

// written is what was written at a revision of a history.
func written(main int64, history string) segment.Revision {
	return segment.Revision{Main: main, Time: at(main), Records: []segment.Record{{Value: fmt.Appendf(nil, "%s %d", history, main)}}}
}

// chain returns that after a revision of a history that begins with revision 1.
func chain(last int64, history string) (c segment.Chain) {
	for main := int64(1); main <= last; main++ {
		c = c.Next(written(main, history))
	}
	return c
}

// place is a backend in memory with the journal on it.
type place struct {
	*segments.Segments
	backend *memory.Backend
}

func newPlace(name string) *place {
	b := memory.New(name, snapshot.BackendS3)
	repo := repository.New(repository.Config{Backend: b, Cluster: "default", Prefix: "default/"})
	return &place{segments.New(segments.Config{Repository: repo}), b}
}

// put stores the revisions of a history from first to last. Others than the one of the journal have the name of a
// letter.
func (p *place) put(t *testing.T, l segment.Level, first, last int64, history string, extra ...segment.Entry) {
	t.Helper()
	h := segment.Header{Timeline: timeline, Level: l, Previous: first - 1, PreviousChain: chain(first-1, history)}
	b, err := segment.NewBuilder(h)
	must(t, err)
	for main := first; main <= last; main++ {
		must(t, b.Add(written(main, history)))
	}
	for _, e := range extra {
		must(t, b.Add(e))
	}
	s, err := b.Seal()
	must(t, err)
	must(t, p.Put(t.Context(), s))
}

// putBehind stores revisions of a history that are known to follow an earlier one.
func (p *place) putBehind(t *testing.T, first, last, previous int64, history string) {
	t.Helper()
	h := segment.Header{
		Timeline: timeline, Level: segment.Level10s, Previous: previous, PreviousChain: chain(previous, history), Reason: "full: it was",
	}
	b, err := segment.NewBuilder(h)
	must(t, err)
	for main := first; main <= last; main++ {
		must(t, b.Add(written(main, history)))
	}
	s, err := b.Seal()
	must(t, err)
	must(t, p.Put(t.Context(), s))
}

// remove removes a segment.
func (p *place) remove(t *testing.T, first, last int64) {
	t.Helper()
	must(t, p.Remove(t.Context(), segments.Ref{Timeline: timeline, Level: segment.Level10s, First: first, Last: last}))
}

// spoil cuts the data of a segment.
func (p *place) spoil(first, last int64) {
	for _, key := range p.backend.Keys() {
		if strings.HasSuffix(key, segment.Name(first, last)+".seg") {
			p.backend.Set(key, p.backend.Content(key)[:20])
		}
	}
}

func load(t *testing.T, places ...*place) *plan.Journal {
	t.Helper()
	var all []*segments.Segments
	for _, p := range places {
		all = append(all, p.Segments)
	}
	return plan.Load(t.Context(), all)
}

// target has the revisions of one history.
type target struct {
	history string
	has     []int64
	failed  error
}

func (f *target) Holds(r segment.Revision) error {
	if slices.Contains(f.has, r.Main) && reflect.DeepEqual(r, written(r.Main, f.history)) {
		return nil
	}
	return fmt.Errorf("revision %d: %w", r.Main, plan.ErrDiffers)
}

func (f *target) Add(r segment.Revision) error {
	if f.failed != nil {
		return f.failed
	}
	f.has = append(f.has, r.Main)
	return nil
}

// base is a target that has the revisions from 1 on.
func base(last int64, history string) *target {
	f := &target{history: history}
	for main := int64(1); main <= last; main++ {
		f.has = append(f.has, main)
	}
	return f
}

func walk(t *testing.T, j *plan.Journal, f *target, to int64) (*plan.Walk, error) {
	t.Helper()
	w := &plan.Walk{
		Timeline: j.Timelines[0], After: f.has[len(f.has)-1], To: to, Dir: t.TempDir(), Target: f, Fact: func(segment.Entry) {},
	}
	return w, w.Run(t.Context())
}

func TestWalkTakesTheFewestSegments(t *testing.T) {
	p := newPlace("one")
	for first := int64(1); first < 100; first += 10 {
		p.put(t, segment.Level10s, first, first+9, "a")
	}
	p.put(t, segment.Level5m, 21, 50, "a")
	p.put(t, segment.Level1h, 1, 60, "a")
	f := base(15, "a")
	w, err := walk(t, load(t, p), f, 75)
	must(t, err)
	var used []string
	for _, r := range w.Used {
		used = append(used, fmt.Sprintf("%s %d", r.Level, r.First))
	}
	if got := strings.Join(used, ", "); got != "1h 1, 10s 61, 10s 71" {
		t.Errorf("it has used %s", got)
	}
	if want := base(75, "a").has; !slices.Equal(f.has, want) {
		t.Errorf("the target has %v", f.has)
	}
}

func TestBadSegmentIsMadeUpForByAnotherLevelOrBackend(t *testing.T) {
	one, two := newPlace("one"), newPlace("two")
	for first := int64(1); first < 60; first += 10 {
		one.put(t, segment.Level10s, first, first+9, "a")
	}
	one.put(t, segment.Level5m, 11, 40, "a")
	two.put(t, segment.Level10s, 41, 50, "a")
	one.spoil(11, 40)
	one.spoil(41, 50)
	f := base(10, "a")
	w, err := walk(t, load(t, one, two), f, 60)
	must(t, err)
	if len(w.Used) != 5 || len(w.Skipped) != 2 || !slices.Equal(f.has, base(60, "a").has) {
		t.Errorf("used %v, skipped %v, has %v", w.Used, w.Skipped, f.has)
	}
	// The same without the second backend is lost exactly from the first revision that nobody has.
	_, err = walk(t, load(t, one), base(10, "a"), 60)
	lost := (*plan.Lost)(nil)
	if !errors.As(err, &lost) || lost.Gap != (plan.Gap{First: 41, Last: 50}) || len(lost.Causes) != 1 {
		t.Errorf("%v", err)
	}
}

// A target that cannot take a revision is no fault of the segment, and a bad segment adds nothing before that is known.
func TestTargetNeverGetsAPartOfABadSegment(t *testing.T) {
	p := newPlace("one")
	p.put(t, segment.Level10s, 1, 10, "a")
	p.put(t, segment.Level10s, 11, 20, "a")
	p.spoil(11, 20)
	f := base(5, "a")
	if _, err := walk(t, load(t, p), f, 20); err == nil || len(f.has) != 10 {
		t.Errorf("%v, and the target has %v", err, f.has)
	}
	full := base(5, "a")
	full.failed = errors.New("the disk is full")
	w, err := walk(t, load(t, p), full, 8)
	if !errors.Is(err, full.failed) || len(w.Skipped) > 0 {
		t.Errorf("%v, %v", err, w.Skipped)
	}
}

// A gap is crossed where both sides of it are shown to be one history, and nowhere else.
func TestAGapIsCrossedWithinOneHistoryAlone(t *testing.T) {
	for name, tc := range map[string]struct {
		place   func(t *testing.T, p *place)
		after   int64 // what the target has
		oldest  int64 // the compaction of the target
		to      int64
		gaps    []plan.Gap
		refused plan.Refusal
	}{
		"a segment is missing": {after: 5, to: 50, gaps: []plan.Gap{{First: 11, Last: 20}}},
		"two gaps":             {place: func(t *testing.T, p *place) { p.remove(t, 31, 40) }, after: 5, to: 50, gaps: []plan.Gap{{First: 11, Last: 20}, {First: 31, Last: 40}}},
		"a damaged one follows": {
			place: func(_ *testing.T, p *place) { p.spoil(21, 30) }, after: 5, to: 50, gaps: []plan.Gap{{First: 11, Last: 30}},
		},
		"the target is at its beginning": {after: 10, to: 50, gaps: []plan.Gap{{First: 11, Last: 20}}},
		"the target is in the gap":       {after: 15, to: 50, gaps: []plan.Gap{{First: 16, Last: 20}}},
		"it is compacted there":          {after: 15, oldest: 14, to: 50, refused: plan.RefusedUnknown},
		"the revision is lost":           {after: 5, to: 15, refused: plan.RefusedInside},
		"all behind it is damaged": {
			place: func(_ *testing.T, p *place) { p.spoil(21, 30); p.spoil(31, 40); p.spoil(41, 50) }, after: 5, to: 50, refused: plan.RefusedInside,
		},
		"another history follows": {place: func(t *testing.T, p *place) {
			p.remove(t, 31, 40)
			p.put(t, segment.Level10s, 31, 40, "b")
		}, after: 5, to: 50, refused: plan.RefusedUnlinked},
		"another history is behind the gap": {place: func(t *testing.T, p *place) {
			p.remove(t, 21, 30)
			p.putBehind(t, 21, 30, 10, "b")
		}, after: 5, to: 50, refused: plan.RefusedUnlinked},
		"the journal knew of the gap": {place: func(t *testing.T, p *place) {
			p.remove(t, 21, 30)
			p.putBehind(t, 21, 30, 10, "a")
		}, after: 5, to: 30, gaps: []plan.Gap{{First: 11, Last: 20}}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace("one")
			for first := int64(1); first <= 41; first += 10 {
				if first != 11 {
					p.put(t, segment.Level10s, first, first+9, "a")
				}
			}
			if tc.place != nil {
				tc.place(t, p)
			}
			f := base(tc.after, "a")
			var before []plan.Gap
			w := &plan.Walk{
				Timeline: load(t, p).Timelines[0], After: tc.after, To: tc.to, Oldest: tc.oldest, Dir: t.TempDir(), Target: f,
				Fact: func(segment.Entry) {},
				Cross: func(g plan.Gap) error {
					if before = append(before, g); f.has[len(f.has)-1] >= g.First {
						t.Errorf("the gap %v is told when the target has %v", g, f.has)
					}
					return nil
				},
			}
			err := w.Run(t.Context())
			if lost := (*plan.Lost)(nil); tc.refused != "" {
				if !errors.As(err, &lost) || lost.Refused != tc.refused || lost.First != 11 && lost.First != tc.after+1 && lost.First != 31 {
					t.Fatalf("%v (%+v), want it refused: %s", err, lost, tc.refused)
				}
				return
			}
			must(t, err)
			var crossed []plan.Gap
			for _, c := range w.Crossed {
				crossed = append(crossed, c.Gap)
				if !c.Until.Equal(at(c.Last+1)) || tc.after <= 10 && !c.Since.Equal(at(c.First-1)) {
					t.Errorf("it is said to be between %s and %s", c.Since, c.Until)
				}
			}
			if !slices.Equal(crossed, tc.gaps) || !slices.Equal(before, tc.gaps) {
				t.Errorf("it has crossed %v, told %v, want %v", crossed, before, tc.gaps)
			}
			for main := int64(1); main <= tc.to; main++ {
				lost := slices.ContainsFunc(tc.gaps, func(g plan.Gap) bool { return g.First <= main && main <= g.Last })
				if slices.Contains(f.has, main) == lost {
					t.Errorf("the target has %v", f.has)
				}
			}
		})
	}
}

func TestHistoriesAreComparedBeforeAnythingIsAdded(t *testing.T) {
	p := newPlace("one")
	p.put(t, segment.Level10s, 1, 10, "a")
	p.put(t, segment.Level10s, 11, 20, "a")
	p.put(t, segment.Level10s, 21, 30, "b") // it was written behind another history
	f := base(10, "b")
	if _, err := walk(t, load(t, p), f, 15); !errors.Is(err, plan.ErrDiffers) || len(f.has) != 10 {
		t.Errorf("another base: %v, and the target has %v", err, f.has)
	}
	f = base(5, "a")
	_, err := walk(t, load(t, p), f, 30)
	lost := (*plan.Lost)(nil)
	if !errors.As(err, &lost) || lost.Gap != (plan.Gap{First: 21, Last: 30}) || !strings.Contains(err.Error(), "does not follow revision 20") {
		t.Errorf("a segment of another history: %v", err)
	}
	if len(f.has) != 20 {
		t.Errorf("the target has %v", f.has)
	}
}

func TestHolesAreKnownFromTheListing(t *testing.T) {
	p := newPlace("one")
	for _, first := range []int64{1, 11, 31, 61} {
		p.put(t, segment.Level10s, first, first+9, "a")
	}
	p.put(t, segment.Level5m, 5, 15, "a")
	line := load(t, p).Timelines[0]
	if got := line.Gaps(); !slices.Equal(got, []plan.Gap{{First: 21, Last: 30}, {First: 41, Last: 60}}) {
		t.Errorf("the holes are %v", got)
	}
	for _, tc := range []struct {
		after, to int64
		want      *plan.Gap
	}{
		{0, 20, nil}, {3, 20, nil}, {0, 21, &plan.Gap{First: 21, Last: 21}}, {0, 70, &plan.Gap{First: 21, Last: 30}},
		{25, 40, &plan.Gap{First: 26, Last: 30}}, {30, 40, nil}, {40, 70, &plan.Gap{First: 41, Last: 60}}, {61, 80, &plan.Gap{First: 71, Last: 80}},
	} {
		if got := line.Hole(tc.after, tc.to); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("from %d to %d: %v, want %v", tc.after, tc.to, got, tc.want)
		}
	}
}

func TestMomentIsTheLastRevisionThatHadArrived(t *testing.T) {
	p := newPlace("one")
	mark := func(main int64, after time.Duration) segment.Entry {
		return segment.Watermark{Revision: main, Time: at(main).Add(after)}
	}
	p.put(t, segment.Level10s, 1, 10, "a", mark(10, 500*time.Millisecond))
	p.put(t, segment.Level10s, 11, 20, "a")
	p.put(t, segment.Level10s, 21, 30, "a", mark(25, 2*time.Second), mark(30, 0))
	p.put(t, segment.Level10s, 41, 50, "a")
	p.put(t, segment.Level5m, 1, 20, "a", mark(10, 500*time.Millisecond))
	j := load(t, p)
	for _, tc := range []struct {
		time     time.Time
		revision int64
		upper    int64
		gap      *plan.Gap
	}{
		{at(1), 1, 10, nil},
		{at(5).Add(999 * time.Millisecond), 5, 10, nil},
		{at(10).Add(500 * time.Millisecond), 10, 10, nil},
		{at(10).Add(501 * time.Millisecond), 10, 25, nil}, // the next watermark is in the next segment
		{at(27), 27, 27, nil},                             // the one of revision 25 began then
		{at(27).Add(time.Millisecond), 27, 30, nil},
		{at(35), 30, 0, &plan.Gap{First: 31, Last: 40}},
		{at(45), 45, 0, nil},
		{at(500), 50, 0, nil},
	} {
		m, skipped, err := j.Moment(t.Context(), tc.time, t.TempDir())
		if err != nil || m == nil || m.Revision != tc.revision || m.Upper != tc.upper || !reflect.DeepEqual(m.Gap, tc.gap) || len(skipped) > 0 {
			t.Errorf("%s: %+v, %v, %v; want %d, %d and %v", tc.time, m, skipped, err, tc.revision, tc.upper, tc.gap)
		}
	}
	if m, skipped, err := j.Moment(t.Context(), at(0), t.TempDir()); m != nil || len(skipped) > 0 || err != nil {
		t.Errorf("before all: %+v, %v, %v", m, skipped, err)
	}
	// What cannot be read is made up for, or leaves a hole, also at the end.
	p.spoil(1, 20)
	m, skipped, err := j.Moment(t.Context(), at(15), t.TempDir())
	if err != nil || m.Revision != 15 || len(skipped) != 1 {
		t.Errorf("another level: %+v, %v, %v", m, skipped, err)
	}
	p.spoil(11, 20)
	m, skipped, err = j.Moment(t.Context(), at(15), t.TempDir())
	if err != nil || m.Revision != 10 || !reflect.DeepEqual(m.Gap, &plan.Gap{First: 11, Last: 20}) || len(skipped) != 2 {
		t.Errorf("a hole: %+v, %v, %v", m, skipped, err)
	}
	p.spoil(41, 50)
	m, skipped, err = j.Moment(t.Context(), at(500), t.TempDir())
	lost := (*plan.Lost)(nil)
	if err != nil || m.Revision != 30 || !reflect.DeepEqual(m.Gap, &plan.Gap{First: 31, Last: 50}) || len(skipped) != 1 ||
		!errors.As(skipped[0], &lost) || lost.Gap != (plan.Gap{First: 41, Last: 50}) || !snapshot.IsDamage(lost.Causes[0]) {
		t.Errorf("a bad end: %+v, %v, %v", m, skipped, err)
	}
}

func TestTimelinesFollowOneAnother(t *testing.T) {
	p := newPlace("one")
	p.put(t, segment.Level10s, 1, 10, "a")
	next := segment.NewTimeline(timeline.EtcdCluster(), begin.Add(time.Hour))
	b, err := segment.NewBuilder(segment.Header{Timeline: next, Level: segment.Level10s, Reason: "etcd was restored"})
	must(t, err)
	fifth := written(5, "b")
	fifth.Time = fifth.Time.Add(time.Hour)
	must(t, b.Add(fifth))
	s, err := b.Seal()
	must(t, err)
	must(t, p.Put(t.Context(), s))
	j := load(t, p)
	if len(j.Timelines) != 2 || !j.Timelines[0].End.Equal(next.Start()) || !j.Timelines[1].End.IsZero() {
		t.Fatalf("%+v", j.Timelines)
	}
	for after, want := range map[time.Duration]*plan.Timeline{
		-time.Second: nil, 5 * time.Second: j.Timelines[0], 59 * time.Minute: j.Timelines[0],
		// The timeline that begins then has no revision yet.
		time.Hour: j.Timelines[0], time.Hour + 4*time.Second: j.Timelines[0], time.Hour + 5*time.Second: j.Timelines[1],
	} {
		m, skipped, err := j.Moment(t.Context(), begin.Add(after), t.TempDir())
		if err != nil || len(skipped) > 0 || (m == nil) != (want == nil) || m != nil && m.Timeline != want {
			t.Errorf("%s after the beginning: %+v, %v, %v", after, m, skipped, err)
		}
	}
	if got := j.Holding(5); len(got) != 2 {
		t.Errorf("revision 5 is in %d timelines", len(got))
	}
	if got := j.Holding(6); len(got) != 1 || got[0] != j.Timelines[0] {
		t.Errorf("revision 6 is in %d timelines", len(got))
	}
	first, last := j.Timelines[0], j.Timelines[1]
	ours, other := fmt.Sprintf("%016x", timeline.EtcdCluster()), fmt.Sprintf("%016x", timeline.EtcdCluster()+1)
	for _, tc := range []struct {
		what    string
		history *plan.Timeline
		cluster string
		taken   time.Time
		want    bool
	}{
		{"before it", first, ours, begin.Add(-1), false},
		{"at its beginning", first, ours, begin, true},
		{"at its end", first, ours, next.Start().Add(-1), true},
		{"of the next one", first, ours, next.Start(), false},
		{"of the last one, much later", last, ours, next.Start().Add(time.Hour), true},
		{"of another cluster", last, other, next.Start(), false},
		{"of a cluster that is not known", last, "", next.Start(), false},
	} {
		if got := tc.history.HistoryOf(tc.cluster, tc.taken); got != tc.want {
			t.Errorf("a snapshot %s: %v, want %v", tc.what, got, tc.want)
		}
	}
	for revision, want := range map[int64]bool{3: false, 4: true, 5: true} { // it begins with revision 5
		if got := last.Leads(ours, next.Start(), revision); got != want {
			t.Errorf("it leads on from revision %d: %v", revision, got)
		}
	}
	if last.Leads(ours, next.Start().Add(-1), 5) {
		t.Error("it leads on from a snapshot of the history before")
	}
}

func TestBackendThatCannotBeListedIsNamed(t *testing.T) {
	good, away := newPlace("one"), newPlace("two")
	good.put(t, segment.Level10s, 1, 10, "a")
	away.backend.Vanish()
	j := load(t, good, away)
	if len(j.Timelines) != 1 || len(j.Unread) != 1 || snapshot.BackendOf(j.Unread[0]) != "two" {
		t.Errorf("%+v", j)
	}
}

func TestCancelledWalkEnds(t *testing.T) {
	p := newPlace("one")
	p.put(t, segment.Level10s, 1, 10, "a")
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the caller went away")
	cancel(gone)
	w := &plan.Walk{Timeline: load(t, p).Timelines[0], After: 5, To: 10, Dir: t.TempDir(), Target: base(5, "a"), Fact: func(segment.Entry) {}}
	if err := w.Run(ctx); !errors.Is(err, gone) {
		t.Error(err)
	}
}

func TestLeases(t *testing.T) {
	type facts []segment.Entry
	lease := func(id, ttl, revision int64) segment.Entry {
		return segment.Lease{ID: id, GrantedTTL: ttl, Revision: revision, Gone: ttl == 0}
	}
	list := func(revision int64, ids ...int64) segment.Entry { return segment.Leases{IDs: ids, Revision: revision} }
	for name, tc := range map[string]struct {
		facts facts
		alive []int64
		ttls  map[int64]int64 // at revision 100, from a base at 50 with the leases 1 and 2
	}{
		"nothing":                           {nil, []int64{1, 2}, map[int64]int64{1: 10, 2: 20}},
		"one is gone":                       {facts{lease(1, 0, 60)}, []int64{2}, nil},
		"one goes later":                    {facts{lease(1, 0, 101)}, []int64{1, 2}, nil},
		"a new one":                         {facts{lease(3, 30, 60)}, []int64{1, 2, 3}, map[int64]int64{3: 30}},
		"an older one than the base":        {facts{lease(3, 30, 49), lease(1, 0, 49), list(49, 3)}, []int64{1, 2}, map[int64]int64{3: 30}},
		"a later one":                       {facts{lease(3, 30, 101)}, []int64{1, 2}, map[int64]int64{3: 30}},
		"an old answer after a newer one":   {facts{lease(1, 0, 70), lease(1, 10, 60)}, []int64{2}, nil},
		"gone wins at the same revision":    {facts{lease(1, 0, 60), lease(1, 10, 60)}, []int64{2}, nil},
		"granted again":                     {facts{lease(1, 0, 60), lease(1, 99, 70)}, []int64{1, 2}, map[int64]int64{1: 99}},
		"granted again later":               {facts{lease(1, 0, 101), lease(1, 99, 102)}, []int64{1, 2}, map[int64]int64{1: 10}},
		"a list":                            {facts{list(60, 2)}, []int64{2}, nil},
		"a list, and one gone after it":     {facts{list(60, 1, 2), lease(2, 0, 60)}, []int64{1}, nil},
		"a list, and a new one after it":    {facts{list(60, 2), lease(3, 30, 60)}, []int64{2, 3}, nil},
		"a list with one of no known time":  {facts{list(60, 2, 9)}, []int64{2, 9}, nil},
		"a newer list":                      {facts{list(60, 1, 2), list(70)}, []int64{}, nil},
		"an older list that comes later":    {facts{list(70), list(60, 1, 2)}, []int64{}, nil},
		"a list of a later revision":        {facts{list(101)}, []int64{1, 2}, nil},
		"a fact before a list that has it":  {facts{lease(1, 0, 60), list(70, 1, 2)}, []int64{1, 2}, nil},
		"negative ids are in their order":   {facts{lease(-3, 30, 60), lease(5, 30, 60)}, []int64{1, 2, 5, -3}, nil},
		"the closest later time to live":    {facts{lease(3, 31, 120), lease(3, 30, 110), lease(3, 32, 130)}, []int64{1, 2}, map[int64]int64{3: 30}},
		"a time to live before a later one": {facts{lease(3, 31, 120), lease(3, 30, 90)}, []int64{1, 2, 3}, map[int64]int64{3: 30}},
	} {
		l := plan.NewLeases(100, map[int64]int64{1: 10, 2: 20}, 50)
		for _, e := range tc.facts {
			l.Take(e)
		}
		if got := l.Alive(); !slices.Equal(got, tc.alive) {
			t.Errorf("%s: %v are there, want %v", name, got, tc.alive)
		}
		for id, want := range tc.ttls {
			if got, ok := l.TTL(id); got != want || !ok {
				t.Errorf("%s: lease %d has %d s (%t), want %d", name, id, got, ok, want)
			}
		}
	}
}

// A later timeline says how long a lease lives of which nothing else is known, and never which leases there were.
func TestALaterTimelineGivesATimeToLiveAlone(t *testing.T) {
	l := plan.NewLeases(100, map[int64]int64{1: 10}, 50)
	l.Take(segment.Lease{ID: 2, GrantedTTL: 20, Revision: 120})
	taken := 0
	for _, e := range []segment.Entry{
		segment.Leases{IDs: []int64{9}, Revision: 100},
		segment.Lease{ID: 1, GrantedTTL: 11, Revision: 100}, // the id was given again
		segment.Lease{ID: 2, GrantedTTL: 21, Revision: 100},
		segment.Lease{ID: 3, GrantedTTL: 30, Revision: 100},
		segment.Lease{ID: 3, GrantedTTL: 31, Revision: 110},
		segment.Lease{ID: 4, Revision: 100, Gone: true},
	} {
		if l.TakeLater(e) {
			taken++
		}
	}
	got := map[int64]int64{}
	for id := range int64(10) {
		if ttl, ok := l.TTL(id); ok {
			got[id] = ttl
		}
	}
	if want := map[int64]int64{1: 10, 2: 20, 3: 30}; taken != 1 || !reflect.DeepEqual(got, want) || !slices.Equal(l.Alive(), []int64{1}) {
		t.Errorf("%d are taken; the times to live are %v, want %v; there were %v", taken, got, want, l.Alive())
	}
}

// The timelines that follow another one are those of its cluster that begin later and at its revision or behind it.
func TestTheTimelinesBehindOneAreThoseOfItsCluster(t *testing.T) {
	p := newPlace("one")
	p.put(t, segment.Level10s, 1, 10, "a")
	begins := func(cluster uint64, after time.Duration, main int64) segment.Timeline {
		t.Helper()
		line := segment.NewTimeline(cluster, begin.Add(after))
		b, err := segment.NewBuilder(segment.Header{Timeline: line, Level: segment.Level10s, Reason: "behind: some are missing"})
		must(t, err)
		must(t, b.Add(written(main, "a")))
		must(t, b.Add(segment.Lease{ID: main, GrantedTTL: 60, Revision: main}))
		s, err := b.Seal()
		must(t, err)
		must(t, p.Put(t.Context(), s))
		return line
	}
	id := timeline.EtcdCluster()
	begins(id, -time.Hour, 20) // an earlier one
	begins(id, time.Hour, 7)   // one of a restored state
	begins(id+1, 2*time.Hour, 20)
	same, later := begins(id, 3*time.Hour, 8), begins(id, 4*time.Hour, 30)
	j := load(t, p)
	i := slices.IndexFunc(j.Timelines, func(l *plan.Timeline) bool { return l.Name == timeline })
	var names []segment.Timeline
	var leases []int64
	for _, l := range j.Behind(j.Timelines[i], 8) {
		names = append(names, l.Name)
		w := plan.NewFacts(l, t.TempDir(), func(e segment.Entry) {
			if e, ok := e.(segment.Lease); ok {
				leases = append(leases, e.ID)
			}
		})
		for range 2 { // there is one segment
			must(t, w.ReadOn(t.Context()))
		}
		if len(w.Used) != 1 {
			t.Errorf("of %s, %v is read", l.Name, w.Used)
		}
	}
	if !slices.Equal(names, []segment.Timeline{same, later}) || !slices.Equal(leases, []int64{8, 30}) {
		t.Errorf("behind are %v with the leases %v", names, leases)
	}
}
