package local

import (
	"fmt"
	"slices"

	"github.com/snapshotd/snapshotd/journal/segment"
)

// Synced returns how far the journal would be after a crash now.
func (l *Log) Synced() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		return l.last
	}
	return l.synced.last
}

// Sealed returns the sealed parts, the oldest first, and a channel that is closed when there is another one.
func (l *Log) Sealed() ([]Part, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	parts := make([]Part, len(l.sealed))
	for i, p := range l.sealed {
		parts[i] = *p
	}
	return parts, l.changed
}

// Has reports whether there is a sealed part with a number.
func (l *Log) Has(number int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.sealed, func(p *Part) bool { return p.Number == number })
}

// Unsealed returns the header of the part that is open; First is 0 when it has no revision, or there is none.
func (l *Log) Unsealed() segment.Header {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		return segment.Header{}
	}
	return l.open.Header
}

// Size returns how many bytes all parts have, and how many bytes of entries the open one has.
func (l *Log) Size() (all, unsealed int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size()
}

func (l *Log) size() (all, unsealed int64) {
	if l.open != nil {
		unsealed = l.open.Size
	}
	all = unsealed
	for _, p := range l.sealed {
		all += p.Size
	}
	return all, unsealed
}

// Remove deletes a sealed part that is safe elsewhere. One that is gone already is no error.
func (l *Log) Remove(number int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.remove(number)
}

// GiveUp takes a sealed part away whose files have vanished. Until [Log.Resolve], the next Open names its revisions.
func (l *Log) GiveUp(number int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unresolved = true
	return l.remove(number)
}

func (l *Log) remove(number int64) error {
	i := slices.IndexFunc(l.sealed, func(p *Part) bool { return p.Number == number })
	if i < 0 {
		return nil
	}
	if err := l.sealed[i].remove(); err != nil {
		return fmt.Errorf("remove a part of the journal: %w", err)
	}
	l.sealed = slices.Delete(l.sealed, i, i+1)
	_ = l.note() // without it, the backends are asked for the part after a restart
	return nil
}

// Shrink deletes the oldest sealed parts until all parts are within the limit, as far as they are stored elsewhere. It
// returns those that it has deleted, and reports whether all others are within the limit then.
func (l *Log) Shrink(stored func(Part) bool) (removed []Part, within bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all, _ := l.size()
	for i := 0; i < len(l.sealed) && all > l.limit; {
		p := l.sealed[i]
		if !stored(*p) {
			i++
			continue
		}
		if err := p.remove(); err != nil {
			return removed, false, fmt.Errorf("remove a part of the journal: %w", err)
		}
		l.sealed = slices.Delete(l.sealed, i, i+1)
		removed = append(removed, *p)
		all -= p.Size
	}
	if len(removed) > 0 {
		_ = l.note()
	}
	return removed, all <= l.limit, nil
}
