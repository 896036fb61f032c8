package snapshot

import "time"

// progressInterval is how often progress is published at most.
const progressInterval = 200 * time.Millisecond

// meter publishes how many bytes have moved.
type meter struct {
	s           *save
	backend     string
	done, total int64
	last        time.Time
}

// meter returns a meter for the bytes read from etcd (backend empty) or written to a backend.
func (s *save) meter(backend string, total int64) *meter {
	return &meter{s: s, backend: backend, total: total}
}

func (m *meter) add(n int) {
	m.done += int64(n)
	now := m.s.cfg.Now()
	if n > 0 && now.Sub(m.last) < progressInterval {
		return
	}
	m.last = now
	m.s.publish(Event{Type: EventProgress, Backend: m.backend, Done: m.done, Total: m.total})
}
