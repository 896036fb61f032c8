package local

import (
	"fmt"
	"slices"
)

// Has reports whether there is a sealed part with a number. It waits for the disk, so that a part which is being
// removed is not there any more.
func (l *Log) Has(number int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.sealed, func(p *Part) bool { return p.Number == number })
}

// Remove deletes a sealed part that is safe elsewhere. One that is gone already is no error.
func (l *Log) Remove(number int64) error {
	l.mu.Lock()
	defer l.unlock()
	return l.remove(number)
}

// GiveUp takes a sealed part away whose files have vanished. Until [Log.Resolve], the next Open names its revisions.
func (l *Log) GiveUp(number int64) error {
	l.mu.Lock()
	defer l.unlock()
	l.unresolved = true
	return l.remove(number)
}

// remove takes a part away. The files go first: a part that is not listed and still there would be uploaded again.
func (l *Log) remove(number int64) error {
	i := slices.IndexFunc(l.sealed, func(p *Part) bool { return p.Number == number })
	if i < 0 {
		return nil
	}
	if err := l.sealed[i].remove(); err != nil {
		return fmt.Errorf("remove a part of the journal: %w", err)
	}
	l.drop(i)
	_ = l.note() // without it, the backends are asked for the part after a restart
	return nil
}

// drop takes a sealed part out of the list. The one before may be shown and stays as it is.
func (l *Log) drop(i int) { l.sealed = slices.Concat(l.sealed[:i], l.sealed[i+1:]) }

// size returns how many bytes all parts have.
func (l *Log) size() (all int64) {
	if l.open != nil {
		all = l.open.Size
	}
	return all + sizeOf(l.sealed)
}

func sizeOf(parts []*Part) (all int64) {
	for _, p := range parts {
		all += p.Size
	}
	return all
}

// Shrink deletes the oldest sealed parts until all parts are within the limit, as far as they are stored elsewhere. It
// returns those that it has deleted, and reports whether all others are within the limit then.
func (l *Log) Shrink(stored func(Part) bool) (removed []Part, within bool, err error) {
	l.mu.Lock()
	defer l.unlock()
	all := l.size()
	for i := 0; i < len(l.sealed) && all > l.limit; {
		p := l.sealed[i]
		// One that no backend has stays, and later ones go in its place: a restore may read them from there.
		if !stored(*p) {
			i++
			continue
		}
		if err := p.remove(); err != nil {
			return removed, false, fmt.Errorf("remove a part of the journal: %w", err)
		}
		l.drop(i)
		removed = append(removed, *p)
		all -= p.Size
	}
	if len(removed) > 0 {
		_ = l.note()
	}
	return removed, all <= l.limit, nil
}
