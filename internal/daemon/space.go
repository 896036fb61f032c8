package daemon

import (
	"net/url"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/disk"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// diskTimeout is how long the free space of a directory is waited for: a network file system may hang.
const diskTimeout = 500 * time.Millisecond

// place is a backend as it is configured.
type place struct {
	status.Place
	space *space // nil unless it is a directory
}

func newPlace(cfg config.Backend, info repository.Info) *place {
	p := &place{Place: status.Place{Name: info.Name, Kind: info.Kind, URI: info.Root, URL: cfg.URL.String(), Free: -1}}
	if u, err := url.Parse(info.Root); err == nil && info.Kind == snapshot.BackendLocal {
		p.space = &space{free: func() (int64, error) { return disk.Free(u.Path) }}
	}
	return p
}

// space is the room on the disk of a directory.
type space struct {
	free func() (int64, error) // asks the disk

	mu    sync.Mutex
	asked *question // the question that is under way; nil when there is none
}

// question is one that a disk was asked.
type question struct {
	begun    time.Time
	answered chan struct{} // closed when free is known
	free     int64
}

// bytes returns how many bytes the disk can take; -1 when it is not known, or the disk does not answer. Those who ask
// while a question is under way get the answer to that one: a disk that hangs keeps one goroutine for each of its
// places.
func (s *space) bytes() int64 {
	s.mu.Lock()
	if s.asked == nil {
		s.asked = &question{begun: time.Now(), answered: make(chan struct{})}
		go s.ask(s.asked)
	}
	q := s.asked
	s.mu.Unlock()
	late := time.NewTimer(time.Until(q.begun.Add(diskTimeout)))
	defer late.Stop()
	select {
	case <-q.answered:
		return q.free
	case <-late.C:
		return -1
	}
}

// ask waits for the disk, however long, and lets the next question begin.
func (s *space) ask(q *question) {
	free, err := s.free()
	if err != nil {
		free = -1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q.free, s.asked = free, nil
	close(q.answered)
}
