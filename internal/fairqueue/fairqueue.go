// Package fairqueue lets so many jobs run at a time, and shares the places fairly between those that want many.
package fairqueue

import (
	"slices"
	"sync"
)

// Queue has places for jobs. A free place goes to the owners that wait in turn, and of each owner's jobs to the one
// that came first: an owner with many jobs does not keep the others waiting for all of them.
type Queue struct {
	changed func(running, waiting int)

	mu      sync.Mutex
	places  int
	running int
	waiting int
	owners  []string          // those with jobs that wait, the next one first
	jobs    map[string][]*Job // that wait, by owner
}

// New returns a queue with so many places. It calls changed, which may be nil, with what runs and waits, one call at a
// time.
func New(places int, changed func(running, waiting int)) *Queue {
	if changed == nil {
		changed = func(int, int) {}
	}
	return &Queue{places: places, changed: changed, jobs: map[string][]*Job{}}
}

// SetPlaces changes how many jobs may run at a time. Those that run beyond it go on until they end.
func (q *Queue) SetPlaces(places int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.places = places
	q.next()
}

// Job is a job that waits or runs.
type Job struct {
	queue *Queue
	owner string
	turn  chan struct{} // closed when it has a place
	over  bool
}

// Join makes a job of an owner wait for a place. The caller calls End, whether the job got one or not.
func (q *Queue) Join(owner string) *Job {
	j := &Job{queue: q, owner: owner, turn: make(chan struct{})}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.jobs[owner]) == 0 {
		q.owners = append(q.owners, owner)
	}
	q.jobs[owner] = append(q.jobs[owner], j)
	q.waiting++
	q.next()
	return j
}

// Turn is closed when the job has a place.
func (j *Job) Turn() <-chan struct{} { return j.turn }

// End gives the job's place to the next one, or ends its waiting. It may be called again.
func (j *Job) End() {
	q := j.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if j.over {
		return
	}
	j.over = true
	select {
	case <-j.turn:
		q.running--
	default:
		q.waiting--
		q.jobs[j.owner] = slices.DeleteFunc(q.jobs[j.owner], func(other *Job) bool { return other == j })
		if len(q.jobs[j.owner]) == 0 {
			q.forget(j.owner)
		}
	}
	q.next()
}

// forget removes an owner without a job that waits. q.mu is held.
func (q *Queue) forget(owner string) {
	delete(q.jobs, owner)
	q.owners = slices.DeleteFunc(q.owners, func(other string) bool { return other == owner })
}

// next gives the free places away. q.mu is held.
func (q *Queue) next() {
	for q.running < q.places && len(q.owners) > 0 {
		owner := q.owners[0]
		j := q.jobs[owner][0]
		q.owners = q.owners[1:]
		if rest := q.jobs[owner][1:]; len(rest) > 0 {
			q.jobs[owner] = rest
			q.owners = append(q.owners, owner)
		} else {
			delete(q.jobs, owner)
		}
		q.running++
		q.waiting--
		close(j.turn)
	}
	q.changed(q.running, q.waiting)
}
