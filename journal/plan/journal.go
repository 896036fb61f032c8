package plan

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository/segments"
)

// Journal is the segments of one cluster, as the listings of its backends show them. While a backend is in Unread, a
// gap may be none: that backend may have the revisions.
type Journal struct {
	Timelines []*Timeline // in ascending order of their start
	Unread    []error     // why some backends could not be listed
}

// Timeline is the journal of one history.
type Timeline struct {
	Name segment.Timeline
	End  time.Time // when the next one of any history began; zero for the last one

	spans []*span         // in ascending order of the first revision
	held  []segment.Range // revisions of the spans
}

// span is a run of consecutive revisions, and the segments that hold exactly it.
type span struct {
	first, last int64
	copies      []segmentCopy // in the order of the backends, upper levels first
}

// segmentCopy is one segment on one backend.
type segmentCopy struct {
	segments.Ref
	place *segments.Segments
}

// Gap is a hole in a timeline: revisions that no segment holds.
type Gap = segment.Range

// Load lists the journal on some backends.
func Load(ctx context.Context, places []*segments.Segments) *Journal {
	j := &Journal{}
	byName := map[segment.Timeline]*builder{}
	for _, p := range places {
		// The segments that were listed before the error stay: they are there.
		if err := load(ctx, p, byName); err != nil {
			j.Unread = append(j.Unread, err)
		}
	}
	for _, b := range byName {
		j.Timelines = append(j.Timelines, b.timeline())
	}
	slices.SortFunc(j.Timelines, func(a, b *Timeline) int { return a.Name.Compare(b.Name) })
	for i, t := range j.Timelines[:max(len(j.Timelines)-1, 0)] {
		t.End = j.Timelines[i+1].Name.Start()
	}
	return j
}

// builder gathers the spans of a timeline.
type builder struct {
	name  segment.Timeline
	spans map[[2]int64]*span
}

func load(ctx context.Context, p *segments.Segments, byName map[segment.Timeline]*builder) error {
	for item, err := range p.Every(ctx) { // upper levels first: they hold more in fewer objects
		if err != nil {
			return err
		}
		b := byName[item.Timeline]
		if b == nil {
			b = &builder{item.Timeline, map[[2]int64]*span{}}
			byName[item.Timeline] = b
		}
		b.add(segmentCopy{item.Ref, p})
	}
	return nil
}

// add adds a segment to those that hold the same revisions, on any level: each of them does for the others.
func (b *builder) add(c segmentCopy) {
	key := [2]int64{c.First, c.Last}
	s := b.spans[key]
	if s == nil {
		s = &span{first: c.First, last: c.Last}
		b.spans[key] = s
	}
	s.copies = append(s.copies, c)
}

func (b *builder) timeline() *Timeline {
	t := &Timeline{Name: b.name}
	held := make([]segment.Range, 0, len(b.spans))
	for _, s := range b.spans {
		t.spans, held = append(t.spans, s), append(held, segment.Range{First: s.first, Last: s.last})
	}
	t.held = segment.Union(held)
	slices.SortFunc(t.spans, func(a, b *span) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(b.last, a.last))
	})
	return t
}

// Behind returns the timelines of the same cluster that begin after another one, and at a revision or behind it.
func (j *Journal) Behind(t *Timeline, revision int64) []*Timeline {
	var all []*Timeline
	for _, next := range j.Timelines {
		if next.Name.EtcdCluster() == t.Name.EtcdCluster() && next.Name.Later(t.Name) && next.First() >= revision {
			all = append(all, next)
		}
	}
	return all
}

// OfRestored reports whether the timeline may have begun because etcd was restored. Its first segment says why it
// began, unless that was removed since, or cannot be read.
func (t *Timeline) OfRestored(ctx context.Context) bool {
	// When it cannot be known, it may have: who asks must not take one history for another.
	for _, c := range t.spans[0].copies {
		if m, err := c.place.Manifest(ctx, c.Ref); err == nil && m.Previous == 0 {
			return segment.CauseOf(m.Reason).Alarming()
		}
	}
	return true
}

// First returns the lowest revision of the timeline.
func (t *Timeline) First() int64 { return t.held[0].First }

// Last returns the highest revision of the timeline.
func (t *Timeline) Last() int64 { return t.held[len(t.held)-1].Last }

// HistoryOf reports whether a snapshot of an etcd cluster, whose id is in hex as records have it, can be of the
// timeline's history. When it was taken, the journal of this history had begun, and that of the next one had not. A
// snapshot of another time or cluster can have the same revision numbers with other content.
func (t *Timeline) HistoryOf(etcdCluster string, taken time.Time) bool {
	return t.Name.Of(etcdCluster) && !taken.Before(t.Name.Start()) && (t.End.IsZero() || taken.Before(t.End))
}

// Leads reports whether the timeline leads on from a snapshot, which is a base then: the snapshot can be of this
// history, and no revision is missing between it and the first one of the timeline.
func (t *Timeline) Leads(etcdCluster string, taken time.Time, revision int64) bool {
	return t.HistoryOf(etcdCluster, taken) && revision >= t.First()-1
}

// Gaps returns the holes between the first and the last revision.
func (t *Timeline) Gaps() []Gap {
	return segment.Without([]segment.Range{{First: t.First(), Last: t.Last()}}, t.held)
}

// Hole returns the first hole after a revision up to another one, by the listing alone; nil when segments lead there.
func (t *Timeline) Hole(after, to int64) *Gap {
	gaps := segment.Without([]segment.Range{{First: after + 1, Last: to}}, t.held)
	if len(gaps) == 0 {
		return nil
	}
	return &gaps[0]
}

// cursor goes through spans in the order of revisions.
type cursor struct {
	spans []*span
	next  int     // of spans, the first that begins too late
	open  []*span // that begin early enough, and do not end too early
}

// best returns the span that holds the next revision after one and reaches the furthest; nil when there is none. The
// revisions of one cursor never go down.
func (c *cursor) best(after int64) *span {
	for c.next < len(c.spans) && c.spans[c.next].first <= after+1 {
		c.open = append(c.open, c.spans[c.next])
		c.next++
	}
	c.open = slices.DeleteFunc(c.open, func(s *span) bool { return s.last <= after })
	if len(c.open) == 0 {
		return nil
	}
	return slices.MaxFunc(c.open, func(a, b *span) int { return cmp.Compare(a.last, b.last) })
}

// drop leaves a span out from now on.
func (c *cursor) drop(s *span) {
	c.open = slices.DeleteFunc(c.open, func(o *span) bool { return o == s })
}

// resumes returns the first revision of the next span; one beyond all when there is none.
func (c *cursor) resumes() int64 {
	if c.next < len(c.spans) {
		return c.spans[c.next].first
	}
	return segment.MaxRevision + 1
}
