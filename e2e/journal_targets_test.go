//go:build e2e

package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/internal/etcd/member"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/journal/segment"
)

// calm reports whether there was no fault around a time.
func (o *watched) calm(from, to time.Time) bool {
	return !slices.ContainsFunc(o.troubles, func(t trouble) bool { return !t.quiet && t.from.Before(to) && t.to.Add(settles).After(from) })
}

// mayBeEstimated reports whether a lease may have ended before the service had asked for its time to live.
func (o *watched) mayBeEstimated(g *grant, at *truth) bool {
	return g.short || !g.ended.IsZero() || o.load.second && !at.second && !o.calmSince(g.granted, o.back.from)
}

// calmSince reports whether the service was without a fault for long enough, at some moment of a stretch of time, to ask
// for all that was there at its beginning. A history that ends before that takes what was not asked with it.
func (o *watched) calmSince(from, to time.Time) bool {
	for at := from.Add(settles); at.Before(to); at = at.Add(100 * time.Millisecond) {
		if o.calm(at, at) {
			return true
		}
	}
	return false
}

// target is a revision or a time, and where it is restored from.
type target struct {
	revision int64
	base     string // the snapshot that is named; empty when the revision or the time is all that is given
	at       time.Time
	second   bool // it is of the second history
	any      bool // it may be of both histories
	from     []string
}

// next chooses a target, of either history.
func (o *watched) next(i int) (g target) {
	places := [][]string{{o.s3URL("")}, {"file://" + o.dir}, {o.s3URL(""), "file://" + o.dir}}
	g.from = places[o.chance.IntN(len(places))]
	if i%2 == 1 {
		g.at = o.begin.Add(time.Duration(o.chance.Int64N(int64(o.load.ops[len(o.load.ops)-1].acked.Sub(o.begin)))))
		g.second = o.load.second && g.at.After(o.back.from)
		g.any = g.second && g.at.Before(o.back.to)
		return g
	}
	first := o.window.Window.Timelines[0].Ranges[0].RestorableFromRevision
	if !o.load.second {
		g.revision = first + o.chance.Int64N(o.last-first+1)
		return g
	}
	n := o.chance.Int64N(o.back.last - first + 1 + o.last - o.load.back)
	if g.revision = first + n; g.revision > o.back.last {
		g.second, g.revision = true, o.load.back+g.revision-o.back.last
	}
	if !g.second && g.revision > o.load.back && o.chance.IntN(4) > 0 {
		g.base = o.back.base
	}
	g.any = g.base == "" && g.revision > o.load.back && g.revision <= min(o.back.last, o.last)
	return g
}

// args are the arguments of `snapshotd` that restore a target.
func (g *target) args(data string) []string {
	args := []string{"restore"}
	if g.base != "" {
		args = append(args, g.base)
	}
	for _, url := range g.from {
		args = append(args, "--from", url)
	}
	if g.revision > 0 {
		args = append(args, "--revision", fmt.Sprint(g.revision))
	} else {
		args = append(args, "--at", g.at.UTC().Format(time.RFC3339Nano))
	}
	return append(args, "--data-dir", data)
}

// check restores a target.
func (o *watched) check(i int) {
	o.t.Helper()
	o.found.targets++
	data := filepath.Join(o.t.TempDir(), "etcd")
	defer func() { _ = os.RemoveAll(data) }() // now, as the log of each etcd takes 128 MB
	g := o.next(i)
	o.doing = fmt.Sprintf("target %d", i)
	args := g.args(data)
	r := command(o.t.Context(), o.t, program(o.t, ""), args...)
	if r.code != 0 {
		if count := o.refusal(&g, r.stderr); count != nil {
			*count++
			return
		}
		o.wrong("snapshotd %v: exit code %d\n%s%s", args, r.code, r.stdout, r.stderr)
		return
	}
	got := restoredRevision(o.t, r.stdout)
	if g.revision > 0 && got != g.revision {
		o.wrong("snapshotd %v restored revision %d:\n%s", args, got, r.stdout)
	}
	if !g.at.IsZero() && !g.any {
		o.checkTime(&g, got, r.stdout+r.stderr)
	}
	o.compare(fmt.Sprint(args[1:len(args)-2]), data, &g, got, r.stdout)
}

// refusal returns what counts targets that are refused for a good reason; nil when the reason is none.
func (o *watched) refusal(g *target, says string) *int {
	switch {
	case len(g.from) == 1 && strings.HasPrefix(g.from[0], "file:") && o.namesSpoilt(says):
		return &o.found.damaged
	case g.revision == 0:
		return nil
	case (o.inTwo(g.revision) || o.mayBeTwo(g)) && strings.Contains(says, "more than one history"):
		return &o.found.twice
	case o.lost(g) && strings.Contains(says, "revision"):
		return &o.found.refused
	}
	return nil
}

var (
	replayedLine = regexp.MustCompile(`(?m)^journal .*, from revision`)
	timeLine     = regexp.MustCompile(`(?m)^time .* between (\d+), which arrived at .*, and (\d+|an unknown one)`)
	revisionsOf  = regexp.MustCompile(`revisions? (\d+)(?: to (\d+))?`)
)

// namesSpoilt reports whether a text names revisions of a segment that was spoilt.
func (o *watched) namesSpoilt(says string) bool {
	for _, m := range revisionsOf.FindAllStringSubmatch(says, -1) {
		from, _ := strconv.ParseInt(m[1], 10, 64)
		to, err := strconv.ParseInt(m[2], 10, 64)
		if err != nil {
			to = from
		}
		for _, name := range o.spoilt {
			if first, last, _ := segment.ParseName(name); first <= to && from <= last {
				return true
			}
		}
	}
	return false
}

// lost reports whether no backend has the revision of a target, or no snapshot from which the journal leads there because
// etcd had compacted the revision before one could be taken; or, of one behind a snapshot that is named, all that leads there
// from the snapshot.
func (o *watched) lost(g *target) bool {
	compacted := slices.ContainsFunc(o.load.compactions, func(c compaction) bool { return c.revision > g.revision })
	for _, l := range o.window.Window.Timelines {
		for _, r := range l.Ranges {
			behind := g.base == "" || r.FirstRevision-1 <= o.load.back && r.FirstTime.Before(o.back.from)
			if compacted && r.RestorableFromRevision > g.revision {
				continue
			}
			if behind && r.FirstRevision <= g.revision && g.revision <= r.LastRevision {
				return false
			}
		}
	}
	return true
}

// inTwo reports whether two timelines have a revision: a leader that was stopped goes on for a moment with the one that
// another leader has ended.
func (o *watched) inTwo(revision int64) bool {
	n := 0
	for _, l := range o.window.Window.Timelines {
		if l.Ranges[0].FirstRevision <= revision && revision <= l.last() {
			n++
		}
	}
	return n > 1
}

// mayBeTwo reports whether the revision of a target, which names no snapshot, may be of two histories, as far as a restore
// can know: it has no way to see to which revision etcd was restored, up to which they are the same.
func (o *watched) mayBeTwo(g *target) bool {
	return o.load.second && g.base == "" && g.revision <= min(o.back.last, o.load.sampled)
}

// checkGaps checks that no gap is wider than what etcd has forgotten.
func (o *watched) checkGaps() {
	o.t.Helper()
	for _, g := range o.window.Window.Gaps {
		forgotten := func(c compaction) bool { return c.revision >= g.BeforeRevision }
		if strings.HasPrefix(g.Reason, "compacted") && !slices.ContainsFunc(o.load.compactions, forgotten) {
			o.wrong("the gap %+v goes further than all compactions: %+v", g, o.load.compactions)
		}
	}
}

// checkTime checks that what is restored is of a time: nothing of a later one, and all that had arrived.
func (o *watched) checkTime(g *target, got int64, out string) {
	o.t.Helper()
	at := g.at
	lower, upper := o.load.bounds(at, g.second)
	if !replayedLine.MatchString(out) { // the time of a snapshot is when its save began, and it is read a little later
		_, upper = o.load.bounds(at.Add(settles), g.second)
	}
	if got > upper {
		o.wrong("at %s revision %d is restored, and the cluster was at %d at most\n%s", at, got, upper, out)
	}
	if m := timeLine.FindStringSubmatch(out); m != nil {
		if bound, err := strconv.ParseInt(m[2], 10, 64); err == nil {
			o.found.upper++
			if bound < lower {
				o.wrong("at %s the plan says %d at most, and the cluster was at %d\n%s", at, bound, lower, out)
			}
		}
	}
	for _, gap := range o.window.Window.Gaps {
		if at.After(gap.AfterTime) && at.Before(gap.BeforeTime) {
			return
		}
	}
	if o.namesSpoilt(out) {
		return
	}
	before := at.Add(-2*time.Second - envDuration(o.t, "SNAPSHOTD_RPO_SLACK"))
	if arrived, _ := o.load.bounds(before, g.second); o.calm(before, at) && got < arrived {
		o.wrong("at %s revision %d is restored, and the cluster was at %d at %s, without a fault\n%s", at, got, arrived, before, out)
	}
}

// compare starts an etcd on what was restored, and compares it with the truth.
func (o *watched) compare(what, data string, g *target, revision int64, plan string) {
	o.t.Helper()
	replayed := replayedLine.MatchString(plan)
	e := embedded.StartEtcd(o.t, func(cfg *member.Config) { cfg.Dir = data })
	defer e.Close(o.t)
	auth := authState{revision: e.Server().AuthStore().Revision(), enabled: e.Server().AuthStore().IsAuthEnabled()}
	e.Server().AuthStore().AuthDisable() // what follows asks as nobody
	ttls, keys := e.Leases(o.t)
	got := e.At(o.t, revision)
	want := o.truth(g, revision, sumKeys(got.Keys))
	if want == nil {
		o.wrong("%s: revision %d is restored, which the cluster has not had", what, revision)
		return
	}
	if replayed {
		o.found.replayed++
	}
	if sumKeys(got.Keys) != want.keys {
		o.wrong("%s: the keys of revision %d are others", what, revision)
	}
	hash, known := want.hashes[got.Hash.CompactRevision]
	switch {
	case known && hash != got.Hash.Hash:
		o.wrong("%s: HashKV of revision %d is %d for the compact revision %d, and was %d", what, revision, got.Hash.Hash,
			got.Hash.CompactRevision, hash)
	case known:
		o.found.hashes++
	case o.mayBeOpen(want, revision):
		o.found.open++
	default:
		o.wrong("%s: revision %d has the compact revision %d; the cluster had %v", what, revision, got.Hash.CompactRevision, want.hashes)
	}
	at := o.when(want, revision)
	o.compareAuth(what, at, plan, auth)
	o.compareLeases(what, plan, want, revision, replayed, got, ttls, keys)
}

// truth returns what a revision was like: of two histories, the one that the target is of, or that which has these keys.
func (o *watched) truth(g *target, revision int64, keys [sha256.Size]byte) (found *truth) {
	for _, t := range o.load.truths[revision] {
		if fits := g.any || t.second == g.second || revision <= o.load.back; fits && (found == nil || t.keys == keys) {
			found = t
		}
	}
	return found
}

// when is the time at which a revision was there, as far as that is known.
func (o *watched) when(t *truth, revision int64) time.Time {
	i := slices.IndexFunc(o.load.ops, func(p op) bool { return p.second == t.second && p.revision >= revision })
	switch {
	case i >= 0:
		return o.load.ops[i].acked
	case o.load.second && !t.second:
		return o.back.from
	}
	return time.Now()
}

// mayBeOpen reports whether a compaction was so shortly before a revision that nobody may have seen it yet.
func (o *watched) mayBeOpen(t *truth, revision int64) bool {
	at := o.when(t, revision)
	return slices.ContainsFunc(o.load.compactions, func(c compaction) bool {
		since := at.Sub(c.done)
		return c.revision <= revision && since > -settles && (since < settles || !o.calmSince(c.done, at))
	})
}

// compareLeases compares the leases that keys name, exactly, and those without keys that were there long before and long
// after, or were not.
func (o *watched) compareLeases(what, plan string, want *truth, revision int64, replayed bool, got embedded.Moment,
	ttls map[int64]int64, keys map[int64][]string) {
	o.t.Helper()
	at := o.when(want, revision)
	for id, names := range got.Leases {
		g := o.load.leases[id]
		ttl, there := ttls[id]
		if g == nil || g.short && !there { // the service's own, or expired since the etcd was started
			continue
		}
		o.found.leases++
		slices.Sort(names)
		switch {
		case !there || !reflect.DeepEqual(names, keys[id]):
			o.wrong("%s: the lease %x of revision %d has the keys %q, want %q", what, id, revision, keys[id], names)
		case ttl == g.ttl:
		case (ttl == assumedTTL || !replayed) && o.mayBeEstimated(g, want): // a snapshot alone guesses by the keys
			o.found.estimated++
		default:
			o.wrong("%s: the lease %x of revision %d has %d s, and was granted %d s at %s\n%s", what, id, revision, ttl, g.ttl,
				g.granted.UTC().Format(time.StampMilli), plan)
		}
	}
	if !replayed || !o.calm(at.Add(-settles), at) {
		return
	}
	for id, g := range o.load.leases {
		_, there := ttls[id]
		switch named := len(got.Leases[id]) > 0; {
		case g.short || g.unsure || named:
		case !there && g.granted.Before(at.Add(-settles)) && (g.ended.IsZero() || g.ended.After(at.Add(settles))):
			o.wrong("%s: the lease %x without keys is missing at revision %d", what, id, revision)
		case there && (g.granted.After(at.Add(settles)) || !g.ended.IsZero() && g.ended.Before(at.Add(-settles))):
			o.wrong("%s: the lease %x is there at revision %d, and was not", what, id, revision)
		}
	}
}
