package fairqueue_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/snapshotd/snapshotd/internal/fairqueue"
)

// runs reports whether a job has a place.
func runs(j *fairqueue.Job) bool {
	select {
	case <-j.Turn():
		return true
	default:
		return false
	}
}

// whoRuns returns the indices of the jobs that have a place.
func whoRuns(all []*fairqueue.Job) (running []int) {
	for i, j := range all {
		if runs(j) {
			running = append(running, i)
		}
	}
	return running
}

func TestOnlySoManyJobsRunAtATime(t *testing.T) {
	running, waiting := 0, 0
	q := fairqueue.New(3, func(r, w int) { running, waiting = r, w })
	var all []*fairqueue.Job
	for i := range 60 {
		all = append(all, q.Join(fmt.Sprint("cluster ", i)))
	}
	if got := whoRuns(all); !slices.Equal(got, []int{0, 1, 2}) || running != 3 || waiting != 57 {
		t.Fatalf("%v run; %d and %d wait", got, running, waiting)
	}
	for i := range 60 { // each one in its turn
		if !runs(all[i]) || i+3 < 60 && runs(all[i+3]) {
			t.Fatalf("when %d have ended, %v run", i, whoRuns(all))
		}
		all[i].End()
	}
	if running != 0 || waiting != 0 {
		t.Errorf("at the end %d run and %d wait", running, waiting)
	}
}

func TestAnOwnerWithManyJobsLetsTheOthersPass(t *testing.T) {
	q := fairqueue.New(1, nil)
	first := q.Join("greedy")
	var greedy []*fairqueue.Job
	for range 10 {
		greedy = append(greedy, q.Join("greedy"))
	}
	modest := q.Join("modest")
	first.End()
	greedy[0].End() // it came before the modest one
	if !runs(modest) {
		t.Errorf("the second owner waits for all of the first one's jobs; %v run", whoRuns(greedy))
	}
	modest.End()
	if !runs(greedy[1]) || runs(greedy[2]) {
		t.Errorf("%v run then", whoRuns(greedy))
	}
}

func TestAJobThatIsGivenUpLeavesTheQueue(t *testing.T) {
	waiting := 0
	q := fairqueue.New(1, func(_, w int) { waiting = w })
	a, b, c := q.Join("a"), q.Join("b"), q.Join("c")
	b.End()
	b.End() // again, as a deferred call does
	if waiting != 1 || runs(b) || runs(c) {
		t.Fatalf("%d wait, and b runs: %v, c: %v", waiting, runs(b), runs(c))
	}
	a.End()
	if !runs(c) || runs(b) {
		t.Errorf("b runs: %v, c: %v", runs(b), runs(c))
	}
	a.End() // must not free a place that it has not any more
	d := q.Join("d")
	if runs(d) {
		t.Error("two run at a time")
	}
}

func TestPlacesChangeWhileJobsRun(t *testing.T) {
	q := fairqueue.New(2, nil)
	a, b, c, d := q.Join("a"), q.Join("b"), q.Join("c"), q.Join("d")
	q.SetPlaces(3)
	if !runs(c) || runs(d) {
		t.Fatalf("with a third place %v run", whoRuns([]*fairqueue.Job{a, b, c, d}))
	}
	q.SetPlaces(1)
	a.End()
	b.End()
	if runs(d) {
		t.Error("a job begins beside another one, and there is one place")
	}
	c.End()
	if !runs(d) {
		t.Error("the last job does not run")
	}
}
