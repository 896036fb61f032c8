package upkeep

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

// inRow is how many segments in a row a backend fails to give before it counts as away. One that it alone does not give
// is on a bad sector of a disk, in a cold class of storage, or not for us.
const inRow = 3

// at is a segment on a backend.
type at struct {
	backend string
	segments.Ref
}

// finding is what the last look at a segment has told.
type finding struct {
	looked time.Time
	err    error // why it is not good, or was not given; nil when it is good
	bad    bool  // it is damaged or not trusted, or it could not be read twice while the backend gave another segment

	// spare is when the backend refused to remove this bad segment, though others that were read back hold its revisions.
	// It does not count as damaged for spareFor.
	spare time.Time
}

// spareFor is for how long a segment that cannot be removed is left alone: a lock may end.
const spareFor = 24 * time.Hour

// isSpare reports whether a segment is to be left alone.
func (f finding) isSpare(now time.Time) bool { return f.bad && now.Sub(f.spare) < spareFor }

// findings are what this process knows of the segments on all backends. They have no other memory.
//
// Bytes that are wrong are damage at once. A segment that is not given is bad only after a second failure, at a time
// when the backend gives another one: from a single failure, it could not be told from a backend that is away.
type findings struct {
	mu    sync.Mutex
	of    map[at]finding
	given map[string]segments.Ref // by backend: the segment that it gave last, with its data
}

// answer is what a look at a segment tells.
type answer int

const (
	good       answer = iota
	absent            // it was merged or pruned meanwhile
	damaged           // also not trusted, or not given twice, while the backend gives another one
	unreadable        // not given; the backend may be away
)

// look reads a segment back as it is stored, and notes the answer. The error says why it is not good.
func (f *findings) look(ctx context.Context, s *segments.Segments, r segments.Ref, now time.Time) (answer, error) {
	err := read(ctx, s, r)
	it := at{s.Name(), r}
	if err != nil {
		f.lose(it)
	}
	// Only the second time: the first may be a moment of the network, and each look would cost two.
	gives := f.isSecond(it, err) && f.gives(ctx, s)
	if ctx.Err() != nil {
		return unreadable, context.Cause(ctx)
	}
	got := f.note(it, err, gives, now)
	if err != nil && !snapshot.IsDamage(err) {
		err = fmt.Errorf("read the segment %s, revisions %d to %d: %w", s.URI(r), r.First, r.Last, err)
	}
	return got, err
}

// read reads a segment back as it is stored.
func read(ctx context.Context, s *segments.Segments, r segments.Ref) error {
	m, err := s.Manifest(ctx, r)
	if err != nil {
		return err
	}
	return s.Check(ctx, m)
}

// isSecond reports whether an error is that a segment is not given once more.
func (f *findings) isSecond(a at, err error) bool {
	was := f.last(a)
	return err != nil && !snapshot.IsDamage(err) && !snapshot.IsNotFound(err) && was.err != nil && !was.bad
}

// gives reports whether a backend gives a segment now that it gave before.
func (f *findings) gives(ctx context.Context, s *segments.Segments) bool {
	f.mu.Lock()
	r, known := f.given[s.Name()]
	f.mu.Unlock()
	if !known {
		return false
	}
	err := read(ctx, s, r)
	if err != nil && ctx.Err() == nil {
		f.lose(at{s.Name(), r}) // the next repair looks for another one
	}
	return err == nil
}

// lose forgets that a backend gave a segment.
func (f *findings) lose(a at) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.given[a.backend] == a.Ref {
		delete(f.given, a.backend)
	}
}

// drop forgets a segment, which was written over or removed.
func (f *findings) drop(a at) {
	f.lose(a)
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.of, a)
}

// gave notes that a backend gave a segment.
func (f *findings) gave(a at) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.given == nil {
		f.given = map[string]segments.Ref{}
	}
	f.given[a.backend] = a.Ref
}

// note notes the outcome of reading a segment. gives says that the backend gives another one at the same time.
func (f *findings) note(a at, err error, gives bool, now time.Time) answer {
	if err == nil {
		f.gave(a)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of == nil {
		f.of = map[at]finding{}
	}
	was, is := f.of[a], finding{looked: now, err: err}
	switch {
	case err == nil:
		f.of[a] = is
		return good
	case snapshot.IsNotFound(err):
		delete(f.of, a)
		return absent
	case snapshot.IsDamage(err):
		// That the backend did not let it go is remembered: the same damage, seen once more, changes nothing of that.
		is.bad, is.spare = true, was.spare
	// A backend that does not give it now says nothing of the damage that was seen: it stays until it is read and good.
	case was.bad:
		is.bad, is.err, is.spare = true, was.err, was.spare
	default:
		is.bad = gives
	}
	f.of[a] = is
	if is.bad {
		return damaged
	}
	return unreadable
}

// found notes a segment that is damaged, and reports whether that is new.
func (f *findings) found(a at, err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of == nil {
		f.of = map[at]finding{}
	}
	was := f.of[a]
	f.of[a] = finding{looked: was.looked, err: err, bad: true, spare: was.spare}
	return !was.bad
}

// spare notes when a backend refused to remove a segment that it does not need; the zero time when it needs it.
func (f *findings) spare(a at, since time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if is, ok := f.of[a]; ok && is.bad {
		is.spare = since
		f.of[a] = is
	}
}

// last returns what is known of a segment.
func (f *findings) last(a at) finding {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.of[a]
}

// damaged returns how many segments of a backend are, and are needed.
func (f *findings) damaged(backend string) (n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for a, is := range f.of {
		if a.backend == backend && is.bad && is.spare.IsZero() {
			n++
		}
	}
	return n
}

// knows reports whether a segment is known that a backend gave.
func (f *findings) knows(backend string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, known := f.given[backend]
	return known
}

// forget forgets the segments of a backend that are not there any more: they were merged, pruned or replaced.
func (f *findings) forget(backend string, there func(segments.Ref) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for a := range f.of {
		if a.backend == backend && !there(a.Ref) {
			delete(f.of, a)
		}
	}
	if r, known := f.given[backend]; known && !there(r) {
		delete(f.given, backend)
	}
}
