package local

import (
	"sync"

	"github.com/snapshotd/snapshotd/journal/segment"
)

// shown is what those see who only ask how far the journal is. A disk that hangs keeps the lock of the log for as long
// as it likes, and metrics and status of all clusters would wait with it.
type shown struct {
	mu       sync.Mutex // never held while a disk is waited for
	synced   Position
	sealed   []*Part        // none of them changes, nor does the list
	unsealed segment.Header // of the open part
	size     int64          // of the open part
	changed  chan struct{}
}

// unlock shows what has changed and unlocks the log.
func (l *Log) unlock() {
	l.shown.mu.Lock()
	s := &l.shown
	s.synced, s.sealed, s.unsealed, s.size = l.last, l.sealed, segment.Header{}, 0
	if l.open != nil {
		s.synced, s.unsealed, s.size = l.synced.last, l.open.Header, l.open.Size
	}
	if l.grown { // only now: who is woken looks at once
		l.grown = false
		close(s.changed)
		s.changed = make(chan struct{})
	}
	l.shown.mu.Unlock()
	l.mu.Unlock()
}

// Synced returns how far the journal would be after a crash now.
func (l *Log) Synced() Position {
	l.shown.mu.Lock()
	defer l.shown.mu.Unlock()
	return l.shown.synced
}

// Sealed returns the sealed parts, the oldest first, and a channel that is closed when there is another one.
func (l *Log) Sealed() ([]Part, <-chan struct{}) {
	l.shown.mu.Lock()
	sealed, changed := l.shown.sealed, l.shown.changed
	l.shown.mu.Unlock()
	parts := make([]Part, len(sealed))
	for i, p := range sealed {
		parts[i] = *p
	}
	return parts, changed
}

// Unsealed returns the header of the part that is open; First is 0 when it has no revision, or there is none.
func (l *Log) Unsealed() segment.Header {
	l.shown.mu.Lock()
	defer l.shown.mu.Unlock()
	return l.shown.unsealed
}

// Size returns how many bytes all parts have, and how many bytes of entries the open one has.
func (l *Log) Size() (all, unsealed int64) {
	l.shown.mu.Lock()
	sealed, unsealed := l.shown.sealed, l.shown.size
	l.shown.mu.Unlock()
	return unsealed + sizeOf(sealed), unsealed
}
