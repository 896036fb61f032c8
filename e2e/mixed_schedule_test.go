//go:build e2e

package e2e

import (
	"slices"
	"testing"
)

// TestMixedFleetKeepsItsSchedule kills the leader again and again. Each run of the schedule has one snapshot, of one
// version or the other.
func TestMixedFleetKeepsItsSchedule(t *testing.T) {
	m := newMixed(t, oldBinary(t))
	const schedule = "    schedules: [{name: often, cron: \"@every 5s\"}]\n"
	m.old.start(t, schedule)
	m.new.start(t, schedule)
	nodes := map[string]bool{}
	for range 4 {
		leader, other := m.leader(t)
		m.nextRun(t, leader)
		leader.kill()
		m.nextRun(t, other)
		nodes[other.name] = true
		leader.start(t, schedule)
	}
	if len(nodes) != 2 {
		t.Errorf("only %v have taken over", nodes)
	}
	leader, other := m.leader(t)
	m.nextRun(t, leader)
	other.kill()
	leader.kill()
	m.new.start(t, "")
	state := m.new.states()
	for due, names := range m.runs(t) {
		ready := 0
		for _, name := range names {
			if state[name] == "STATE_READY" {
				ready++
			}
		}
		if ready != 1 {
			t.Errorf("the run of %d has the snapshots %q, and %d of them are READY", due, names, ready)
		}
	}
}

// runs returns the snapshots of the runs of the schedule, by when they were due.
func (m *mixed) runs(t *testing.T) map[int64][]string {
	t.Helper()
	f := &fleet{world: m.world, t: t, client: m.client}
	return f.requests()["often"]
}

// nextRun waits for one more run of the schedule, and until its snapshot is READY.
func (m *mixed) nextRun(t *testing.T, r *mixedReplica) {
	t.Helper()
	begun := len(m.runs(t))
	eventually(t, "the "+r.name+" one takes a scheduled snapshot", func() bool {
		runs := m.runs(t)
		if len(runs) <= begun {
			return false
		}
		state := r.states()
		due := sortedKeys(runs)
		last := runs[due[len(due)-1]]
		return slices.ContainsFunc(last, func(name string) bool { return state[name] == "STATE_READY" })
	})
}

// states returns the state of each snapshot, by its name.
func (s *service) states() map[string]string {
	s.t.Helper()
	all := map[string]string{}
	for _, sn := range s.list() {
		all[sn.Name] = sn.State
	}
	return all
}
