//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// copyID is a snapshot on a backend.
type copyID struct{ Name, Backend string }

// decision is prune's decision about a copy.
type decision struct {
	copyID
	Stays bool
	Why   string
	Error *struct{ Message string }
}

func (d decision) String() string {
	switch {
	case d.Name == "":
		return "is not there"
	case d.Stays:
		return "stays: " + d.Why
	case d.Error != nil:
		return "is to go and could not: " + d.Error.Message
	}
	return "goes: " + d.Why
}

// lateFaults begin somewhere in the middle of a prune, which makes more requests than a save.
var lateFaults = []fault{
	s3Fault("503 later", func(k *soak) testenv.HTTPFault { return testenv.Answers(k.chance.IntN(200), 503, "SlowDown") }),
	s3Fault("403 later", func(k *soak) testenv.HTTPFault {
		return testenv.Answers(k.chance.IntN(200), 403,
			"AccessDenied")
	}),
}

// prune asks what retention would remove, compares the answer with the rules, and then lets retention remove it, two of
// three times under a fault first. Copies that were to stay must be READY after it, and all others gone.
func (k *soak) prune() {
	k.prunes++
	k.settle()
	before, said := k.dryRun()
	if k.chance.IntN(3) > 0 {
		k.pruneUnderFault(said)
	}
	var did map[copyID]decision
	k.eventually("a prune does not meet the leader's", func() bool {
		var r result
		did, r = k.decide()
		met := strings.Contains(r.stderr, "changed meanwhile")
		if r.code != 0 && !met {
			k.errorf("prune: exit code %d: %s", r.code, r.stderr)
		}
		k.agree("without a fault", said, did)
		return !met && !slices.ContainsFunc(k.list(), half) // the leader may be at it still
	})
	k.judgePruned(before, said, did)
}

// dryRun makes a dry run, and returns it with the records before it. When copies have gone meanwhile, the leader has
// pruned by itself, or the dry run has: it is made again, and in the end there must be copies left to prune.
func (k *soak) dryRun() (before []snap, said map[copyID]decision) {
	k.eventually("a dry run is not overtaken by the leader", func() bool {
		before = k.list()
		var r result
		said, r = k.decide("--dry-run")
		if r.code != 0 {
			k.errorf("prune --dry-run: exit code %d: %s", r.code, r.stderr)
		}
		same := k.sameCopies(before, k.list())
		if !same {
			k.overtaken++
		}
		return same
	})
	k.checkDryRun(before, said)
	return before, said
}

func (k *soak) sameCopies(before, after []snap) bool {
	for _, b := range backends {
		if !maps.Equal(k.staying(b, before), k.staying(b, after)) {
			return false
		}
	}
	return true
}

// decide runs prune. Its decisions are empty when there was no answer.
func (k *soak) decide(args ...string) (map[copyID]decision, result) {
	r := k.run(append([]string{"prune", "-o", "json"}, args...)...)
	var out struct{ Decisions []decision }
	if r.stdout != "" {
		decode(k.t, r.stdout, &out)
	}
	all := map[copyID]decision{}
	for _, d := range out.Decisions {
		all[d.copyID] = d
	}
	return all, r
}

// checkDryRun compares the copies to remove with the rules as the soak applies them.
func (k *soak) checkDryRun(before []snap, said map[copyID]decision) {
	for _, b := range backends {
		for name, stays := range k.staying(b, before) {
			d, ok := said[copyID{name, b}]
			if !ok || d.Stays != stays {
				k.errorf("prune --dry-run: %s on %s %v, and by the rules that it stays is %v", name, b, d, stays)
			}
		}
	}
}

// pruneUnderFault prunes during a fault, for a while. Reconcile has to finish the rest then.
func (k *soak) pruneUnderFault(said map[copyID]decision) {
	faults := slices.Concat(soakFaults, lateFaults, lateFaults, oddStores)
	f := faults[k.chance.IntN(len(faults))]
	when := "under " + f.name
	k.prunedUnder[f.name]++
	defer k.during("prune " + when)()
	end := f.begin(k)
	did, r := k.decide("--timeout", "4s")
	end()
	k.agree(when, said, did)
	if len(did) > 0 && r.code != pruneCode(did) {
		k.errorf("prune %s: exit code %d for %v", when, r.code, did)
	}
	if left := len(leftOf(said, byName(k.list()))); left > 0 && left < len(leftOf(said, nil)) {
		k.cut++
	}
	var there map[string]snap
	k.eventually("reconcile settles what was half pruned", func() bool {
		if r := k.run("reconcile"); r.code != 0 {
			return false
		}
		all := k.list()
		there = byName(all)
		return !slices.ContainsFunc(all, half)
	})
	for id, d := range said {
		state := there[id.Name].on(id.Backend)
		if d.Stays && state != ready {
			k.errorf("prune %s: %s on %s was to stay (%s) and is %q", when, id.Name, id.Backend, d.Why, state)
		}
		if now, ok := did[id]; ok && !now.Stays && now.Error == nil && state != "" {
			k.errorf("prune %s: %s on %s was said to be removed and is %q", when, id.Name, id.Backend, state)
		}
	}
}

// leftOf returns those copies to remove that are still READY; all of them when nothing is known.
func leftOf(said map[copyID]decision, there map[string]snap) []copyID {
	var left []copyID
	for id, d := range said {
		if !d.Stays && (there == nil || there[id.Name].on(id.Backend) == ready) {
			left = append(left, id)
		}
	}
	return left
}

// half reports whether a snapshot is about to come or go.
func half(s snap) bool {
	return s.State == "STATE_SAVING" || s.State == "STATE_DELETING" ||
		slices.ContainsFunc(backends, func(b string) bool { return s.on(b) == "STATE_DELETING" })
}

// pruneCode returns the exit code that belongs to decisions.
func pruneCode(did map[copyID]decision) int {
	going, failed := 0, 0
	for _, d := range did {
		if !d.Stays {
			going++
		}
		if d.Error != nil {
			failed++
		}
	}
	switch failed {
	case 0:
		return 0
	case going:
		return 1
	}
	return 3
}

// agree compares the decisions of a prune with those of the dry run. The leader may have pruned by itself in between.
func (k *soak) agree(when string, said, did map[copyID]decision) {
	for id, d := range did {
		if s, ok := said[id]; !ok || s.Stays != d.Stays {
			k.errorf("prune %s: %s on %s %v, and the dry run said that it %v", when, id.Name, id.Backend, d, s)
		}
	}
}

// judgePruned sees to it that all that was said to stay is READY, and that nothing is left of the rest.
func (k *soak) judgePruned(before []snap, said, did map[copyID]decision) {
	was, there := byName(before), byName(k.list())
	keys := k.w.objects(k.t)
	for id, d := range said {
		state := there[id.Name].on(id.Backend)
		if d.Stays {
			if state != ready {
				k.errorf("%s on %s was to stay (%s) and is %q", id.Name, id.Backend, d.Why, state)
			}
			continue
		}
		k.pruned++
		if state != "" {
			k.errorf("%s on %s was pruned and is %q: it %v", id.Name, id.Backend, state, did[id])
		}
		for _, file := range k.files(id.Backend, keys) {
			if strings.HasPrefix(file, id.Name+".") {
				k.errorf("%s on %s was pruned and %s is there", id.Name, id.Backend, file)
			}
		}
		if _, ok := there[id.Name]; !ok {
			k.deleted[id.Name] = was[id.Name]
		}
	}
}

// files returns the names of all files of the cluster on a backend.
func (k *soak) files(backend string, keys []string) []string {
	if backend == "s3" {
		var names []string
		for _, key := range keys {
			names = append(names, strings.TrimPrefix(key, "etcd/default/"))
		}
		return names
	}
	entries, err := os.ReadDir(filepath.Join(k.w.dir, "default"))
	if err != nil {
		k.errorf("read the directory: %v", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// absorb takes in the catalog. A copy that was promised may be gone only if retention could remove it: the leader
// prunes by itself at the beginning of its term. Snapshots that were saved without the catalog are in it only once all
// is settled.
func (k *soak) absorb(all []snap, settled bool) {
	k.note(all)
	there := byName(all)
	for _, name := range slices.Sorted(maps.Keys(k.ready)) {
		gone := 0
		for _, b := range backends {
			state := there[name].on(b)
			if state == ready {
				delete(k.left[b], name)
				continue
			}
			if !settled && !k.seen[b][name] {
				continue
			}
			k.seen[b][name] = true // it was promised there, also when it has gone before the catalog was asked
			gone++
			if k.left[b][name] && state != "STATE_FAILED" {
				continue // it could go then, even if it cannot now
			}
			if why := k.held(b, name); why != "" || state == "STATE_FAILED" {
				k.errorf("%s was READY on %s and is %q there; %s", name, b, state, why)
			}
			k.left[b][name] = true
		}
		if gone == len(backends) {
			k.forget(name)
		}
	}
}

// forget says that a promised snapshot must not be anywhere any more.
func (k *soak) forget(name string) {
	k.deleted[name] = k.ready[name].snap
	delete(k.ready, name)
}

// list returns the catalog, once it answers.
func (k *soak) list() []snap {
	var l struct{ Snapshots []snap }
	k.eventually("the catalog answers", func() bool {
		r := k.run("list", "-o", "json")
		if r.code == 0 {
			decode(k.t, r.stdout, &l)
		}
		return r.code == 0
	})
	k.absorb(l.Snapshots, false)
	return l.Snapshots
}

func byName(all []snap) map[string]snap {
	m := map[string]snap{}
	for _, s := range all {
		m[s.Name] = s
	}
	return m
}

// pin pins a snapshot, or unpins it.
func (k *soak) pin(name string) {
	how := "--pin"
	if k.pinned[name] {
		how = "--unpin"
	}
	out, there := k.ask(fmt.Sprintf("update %s %s", how, name), name, "update", name, how, "-o", "json")
	switch {
	case !there:
		return
	case how == "--unpin":
		k.pinned[name] = false
	default:
		var now snap
		if err := json.Unmarshal([]byte(out), &now); err != nil {
			k.errorf("the answer of update %s: %v", how, err)
		}
		k.pinFrom(name, now)
	}
	k.pins++
}

// pinFrom says that a snapshot is pinned from now on. The leader may have removed a copy just before, while it could
// go.
func (k *soak) pinFrom(name string, now snap) {
	for _, b := range backends {
		if now.on(b) == "" && k.held(b, name) == "" {
			k.seen[b][name], k.left[b][name] = true, true
		}
	}
	k.pinned[name] = true
}
