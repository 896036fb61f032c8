package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	catalogmemory "github.com/snapshotd/snapshotd/catalog/memory"
	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/fairqueue"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
)

const waitTimeout = 30 * time.Second

// fleet is many clusters in memory with the same queue. Each etcd sends its snapshot when the test lets it.
type fleet struct {
	clusters []*managed
	spools   []string
	backends []*memory.Backend
	drills   drills
	adopted  drills        // the reads of other programs' snapshots
	read     chan string   // the clusters whose etcd is asked
	send     chan struct{} // lets one etcd send

	mu     sync.Mutex
	events []snapshot.Event
	states [][2]int // running and waiting, as metrics were told
}

func newFleet(t *testing.T, clusters, places int, more ...repository.Backend) *fleet {
	t.Helper()
	f := &fleet{
		read: make(chan string, clusters), send: make(chan struct{}, clusters),
		drills:  drills{make(chan struct{}, clusters), make(chan struct{})},
		adopted: drills{make(chan struct{}, clusters), make(chan struct{})},
	}
	turns := fairqueue.New(places, func(running, waiting int) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.states = append(f.states, [2]int{running, waiting})
	})
	restores := fairqueue.New(places, nil)
	for i := range clusters {
		f.spools = append(f.spools, t.TempDir())
		name := fmt.Sprintf("cluster-%02d", i)
		records := catalogmemory.New(time.Now)
		f.backends = append(f.backends, memory.New("memory", snapshot.BackendS3))
		c, err := cluster.New(cluster.Config{
			Name: name, Node: "node-1", Prefix: name + "/", SpoolDir: f.spools[i], Source: source{f, t, name}, Driller: f.drills,
			Records: records, Saves: records, History: records, Stores: records,
			Backends: append([]repository.Backend{holding{f.backends[i], f.adopted}}, more...), Turn: adoptInTurn(restores, name),
		})
		if err != nil {
			t.Fatal(err)
		}
		f.clusters = append(f.clusters, &managed{
			Cluster: c, queues: queues{saves: turns, restores: restores}, restoring: fairqueue.New(1, nil), watched: f,
			log: slog.New(slog.DiscardHandler),
		})
	}
	return f
}

// Observe implements [snapshot.Observer].
func (f *fleet) Observe(_ context.Context, ev snapshot.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, ev)
}

type source struct {
	*fleet
	t    *testing.T
	name string
}

func (s source) Snapshot(ctx context.Context) (*cluster.Stream, error) {
	s.read <- s.name
	select {
	case <-s.send:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	st := testenv.Stored(s.t, 0)
	return &cluster.Stream{
		ReadCloser: io.NopCloser(bytes.NewReader(st.Data)), Size: int64(len(st.Data)),
		Member: cluster.Member{
			ClusterID: st.ClusterID, MemberID: st.MemberID, Endpoint: "http://stored", Version: st.Version, StorageVersion: st.StorageVersion,
		},
	}, nil
}

// reading waits until another cluster is read.
func (f *fleet) reading(t *testing.T) string {
	t.Helper()
	select {
	case name := <-f.read:
		return name
	case <-time.After(waitTimeout):
		t.Fatal("no other cluster is saved")
		return ""
	}
}

// TestClustersThatAreDueTogetherAreSavedInTurn: of 60 that are due in the same second, three are saved at a time, and
// all are saved in the end.
func TestClustersThatAreDueTogetherAreSavedInTurn(t *testing.T) {
	const clusters, places = 60, 3
	f := newFleet(t, clusters, places)
	ended := make(chan error, clusters)
	for _, c := range f.clusters {
		go func() {
			res, err := c.Save(t.Context(), cluster.SaveRequest{Trigger: snapshot.TriggerScheduled})
			if err == nil && res.Snapshot.State() != snapshot.StateReady {
				err = fmt.Errorf("%s is %v", res.Snapshot.Name, res.Snapshot.State())
			}
			ended <- err
		}()
	}
	var saved []string
	for range places {
		saved = append(saved, f.reading(t))
	}
	eventually(t, "all others wait", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return slices.Contains(f.states, [2]int{places, clusters - places})
	})
	for i := range clusters {
		if n := len(f.read); n > 0 {
			t.Fatalf("%d further clusters are read while %d are", n, places)
		}
		f.send <- struct{}{}
		if err := <-ended; err != nil {
			t.Errorf("save %d: %v", i+1, err)
		}
		if i+places < clusters {
			saved = append(saved, f.reading(t))
		}
	}
	slices.Sort(saved)
	if saved = slices.Compact(saved); len(saved) != clusters {
		t.Errorf("%d clusters were saved", len(saved))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	most, waited := 0, 0
	for _, s := range f.states {
		most, waited = max(most, s[0]), max(waited, s[1])
	}
	if most != places || waited != clusters-places || f.states[len(f.states)-1] != [2]int{} {
		t.Errorf("metrics have seen %d run and %d wait; the last is %v", most, waited, f.states[len(f.states)-1])
	}
}

func TestASaveThatWaitsSaysSoAndCanBeCancelled(t *testing.T) {
	f := newFleet(t, 2, 1)
	first := make(chan error, 1)
	go func() {
		_, err := f.clusters[0].Save(t.Context(), cluster.SaveRequest{})
		first <- err
	}()
	f.reading(t)
	ctx, cancel := context.WithCancel(t.Context())
	second := make(chan error, 1)
	go func() {
		_, err := f.clusters[1].Save(ctx, cluster.SaveRequest{RequestID: "mine"})
		second <- err
	}()
	waiting := func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return slices.ContainsFunc(f.events, func(ev snapshot.Event) bool {
			return ev.Type == snapshot.EventProgress && ev.Phase == snapshot.PhaseWaiting && ev.Cluster == "cluster-01" &&
				ev.RequestID == "mine" && !ev.Time.IsZero()
		})
	}
	eventually(t, "it is told that the save waits", waiting)
	cancel()
	if err := <-second; snapshot.ReasonOf(err) != snapshot.ReasonCancelled {
		t.Errorf("the save that was cancelled ends with %v", err)
	}
	f.send <- struct{}{}
	if err := <-first; err != nil {
		t.Error(err)
	}
	if len(f.read) > 0 {
		t.Error("the cluster of the cancelled save was read")
	}
}

// waits waits until a save with a request id has said that it waits.
func (f *fleet) waits(t *testing.T, requestID string) {
	t.Helper()
	eventually(t, "save "+requestID+" waits", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return slices.ContainsFunc(f.events, func(ev snapshot.Event) bool {
			return ev.Phase == snapshot.PhaseWaiting && ev.RequestID == requestID
		})
	})
}

// save saves a cluster of the fleet, and sends how that ended.
func (f *fleet) save(ctx context.Context, i int, req cluster.SaveRequest) <-chan saved {
	ended := make(chan saved, 1)
	go func() {
		res, err := f.clusters[i].Save(ctx, req)
		ended <- saved{res, err}
	}()
	return ended
}

type saved struct {
	res cluster.SaveResult
	err error
}

// TestOneSaveOfACallerWaitsAtATime: another one is refused at once, and the same one gets the outcome of the first.
func TestOneSaveOfACallerWaitsAtATime(t *testing.T) {
	f := newFleet(t, 2, 1)
	busy := f.save(t.Context(), 0, cluster.SaveRequest{})
	f.reading(t)
	first := f.save(t.Context(), 1, cluster.SaveRequest{RequestID: "first"})
	f.waits(t, "first")
	soon, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	for _, id := range []string{"second", ""} {
		if _, err := f.clusters[1].Save(soon, cluster.SaveRequest{RequestID: id}); snapshot.ReasonOf(err) != snapshot.ReasonSaveInProgress {
			t.Errorf("save %q, while the first one waits, ends with %v", id, err)
		}
	}
	again := f.save(t.Context(), 1, cluster.SaveRequest{RequestID: "first"})
	bad := cluster.SaveRequest{RequestID: "first", Labels: map[string]string{"": "x"}}
	if _, err := f.clusters[1].Save(soon, bad); snapshot.ReasonOf(err) != snapshot.ReasonInvalidArgument {
		t.Errorf("a save with a wrong label, which need not wait, ends with %v", err)
	}
	f.send <- struct{}{}
	f.send <- struct{}{}
	one, two := <-first, <-again
	if err := errors.Join((<-busy).err, one.err, two.err); err != nil {
		t.Fatal(err)
	}
	if one.res.Snapshot.Name != two.res.Snapshot.Name {
		t.Errorf("the same request has saved %s and %s", one.res.Snapshot.Name, two.res.Snapshot.Name)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := slices.IndexFunc(f.events, func(ev snapshot.Event) bool {
		return ev.Type == snapshot.EventSaveRejected && ev.Cluster == "cluster-01" && !ev.Time.IsZero()
	}); n < 0 {
		t.Error("nobody is told of the saves that were refused")
	}
}

// TestAScheduledSaveDoesNotWaitForThoseOfCallers: it has its turn after one of them at most.
func TestAScheduledSaveDoesNotWaitForThoseOfCallers(t *testing.T) {
	f := newFleet(t, 1, 1)
	var callers []*fairqueue.Job // of repeated requests, as many as may wait
	for range 5 {
		j := f.clusters[0].queues.saves.Join("cluster-00")
		defer j.End()
		callers = append(callers, j)
	}
	scheduled := f.save(t.Context(), 0, cluster.SaveRequest{RequestID: "scheduled", Trigger: snapshot.TriggerScheduled})
	f.waits(t, "scheduled")
	callers[0].End()
	callers[1].End() // it came before the scheduled one
	f.reading(t)
	f.send <- struct{}{}
	if s := <-scheduled; s.err != nil {
		t.Error(s.err)
	}
}

// TestTheBaseOfAJournalIsSavedInTurn: as every save is.
func TestTheBaseOfAJournalIsSavedInTurn(t *testing.T) {
	f := newFleet(t, 2, 1)
	busy := f.save(t.Context(), 0, cluster.SaveRequest{})
	f.reading(t)
	base := make(chan error, 1)
	go func() { base <- saveBase(t.Context(), f.clusters[1], journal.Base{Since: time.Now()}) }()
	f.waits(t, "")
	if len(f.read) > 0 {
		t.Error("two clusters are read at a time")
	}
	f.send <- struct{}{}
	f.send <- struct{}{}
	if err := errors.Join((<-busy).err, <-base); err != nil {
		t.Error(err)
	}
}

// A backend is away, so that the base of a journal is not there. It gets it when it is back: no other one is taken.
func TestTheBaseThatABackendLacksIsTakenOnce(t *testing.T) {
	away := memory.New("away", snapshot.BackendS3)
	away.Vanish()
	f := newFleet(t, 1, 1, away)
	id, err := strconv.ParseUint(testenv.Stored(t, 0).ClusterID, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	need := journal.Base{Since: time.Now(), Cluster: id}
	f.send <- struct{}{}
	for range 3 {
		err := saveBase(t.Context(), f.clusters[0], need)
		partial, is := errors.AsType[*journal.PartialBase](err)
		if !is || !slices.Equal(partial.Lacking, []string{"away"}) {
			t.Fatalf("with a backend that is away: %v", err)
		}
	}
	if n := len(f.read); n != 1 {
		t.Errorf("etcd was read %d times", n)
	}
}

// A snapshot that was never to go to one of the backends is no base there.
func TestASnapshotOfSomeBackendsIsNoBase(t *testing.T) {
	f := newFleet(t, 1, 1, memory.New("second", snapshot.BackendS3))
	id, err := strconv.ParseUint(testenv.Stored(t, 0).ClusterID, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	need := journal.Base{Since: time.Now(), Cluster: id}
	f.send <- struct{}{}
	if s := <-f.save(t.Context(), 0, cluster.SaveRequest{Backends: []string{"second"}}); s.err != nil {
		t.Fatal(s.err)
	}
	f.reading(t)
	f.send <- struct{}{}
	for range 2 {
		if err := saveBase(t.Context(), f.clusters[0], need); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(f.read); n != 1 {
		t.Errorf("etcd was read %d times for the base, want once", n)
	}
}

// drills counts those that run.
type drills struct {
	running chan struct{}
	end     chan struct{}
}

func (d drills) Drill(context.Context, string, int64) (repository.Drilled, error) {
	d.running <- struct{}{}
	<-d.end
	return repository.Drilled{}, nil
}

func TestDrillsOfAllClustersRunInTurn(t *testing.T) {
	d := drills{make(chan struct{}, 9), make(chan struct{})}
	turns := fairqueue.New(2, nil)
	var all sync.WaitGroup
	for i := range 9 {
		all.Go(func() {
			if _, err := (inTurn{d, fmt.Sprint("cluster ", i), turns}).Drill(t.Context(), "", 0); err != nil {
				t.Error(err)
			}
		})
	}
	for range 9 {
		<-d.running
		if len(d.running) > 1 {
			t.Errorf("%d drills run", len(d.running)+1)
		}
		d.end <- struct{}{}
	}
	all.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	busy := turns.Join("busy")
	defer busy.End()
	other := turns.Join("busy")
	defer other.End()
	if _, err := (inTurn{d, "late", turns}).Drill(ctx, "", 0); snapshot.ReasonOf(err) != snapshot.ReasonCancelled {
		t.Errorf("a drill that was cancelled while it waited ends with %v", err)
	}
}

// restored returns how many databases there were in the spools of all clusters at one moment, at least: those that a
// second look finds as well. During one look, one can go and another one come.
func (f *fleet) restored(t *testing.T) int {
	t.Helper()
	before := f.databases(t)
	after := f.databases(t)
	return len(slices.DeleteFunc(before, func(dir string) bool { return !slices.Contains(after, dir) }))
}

func (f *fleet) databases(t *testing.T) (all []string) {
	t.Helper()
	for _, dir := range f.spools {
		found, err := filepath.Glob(filepath.Join(dir, "verify-*"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

// TestDatabasesAreRestoredInTurn: of many clusters that are verified or scrubbed in the same second, two have a
// database on the disk at a time. Several verifications of one cluster take one place.
func TestDatabasesAreRestoredInTurn(t *testing.T) {
	const clusters, places = 12, 2
	f := newFleet(t, clusters, places)
	var names []string
	for _, c := range f.clusters {
		f.send <- struct{}{}
		res, err := c.Save(t.Context(), cluster.SaveRequest{})
		if err != nil {
			t.Fatal(err)
		}
		f.reading(t)
		names = append(names, res.Snapshot.Name)
	}
	var all sync.WaitGroup
	for i, c := range f.clusters {
		all.Go(func() {
			if i%2 == 0 {
				_ = c.scrubInTurn(c.Scrub)(t.Context(), cluster.Scrub{Drill: true}) // the verdict of a drill that does nothing
				return
			}
			_, _ = c.Verify(t.Context(), cluster.VerifyRequest{Name: names[i], Level: snapshot.LevelDrill})
		})
	}
	again := make(chan error, 5) // they wait for another one of their cluster, and take no place
	waits, cancel := context.WithCancel(t.Context())
	for range cap(again) {
		go func() {
			_, err := f.clusters[1].Verify(waits, cluster.VerifyRequest{Name: names[1], Level: snapshot.LevelStructure})
			again <- err
		}()
	}
	done := make(chan struct{})
	go func() {
		all.Wait()
		close(done)
	}()
	drilled := 0
	for over := false; !over; {
		select {
		case <-f.drills.running:
			drilled++
			if n := f.restored(t); n > places {
				t.Errorf("%d databases are restored at a time", n)
			}
			f.drills.end <- struct{}{}
		case <-done:
			over = true
		case <-time.After(waitTimeout):
			t.Fatal("no other database is restored")
		}
	}
	if drilled < clusters {
		t.Errorf("%d databases were drilled", drilled)
	}
	for range cap(again) {
		if err := <-again; err != nil {
			t.Errorf("one of several verifications of a cluster: %v", err)
		}
	}
	busy := f.clusters[0].queues.restores
	for range places {
		defer busy.Join("busy").End()
	}
	cancel()
	_, err := f.clusters[1].Verify(waits, cluster.VerifyRequest{Name: names[1], Level: snapshot.LevelStructure})
	if snapshot.ReasonOf(err) != snapshot.ReasonCancelled {
		t.Errorf("a verification that was cancelled while it waited ends with %v", err)
	}
	if _, err := f.clusters[1].Verify(t.Context(), cluster.VerifyRequest{Name: names[1], Level: snapshot.LevelChecksum}); err != nil {
		t.Errorf("checksums need no turn: %v", err)
	}
}

func TestTheNumberOfSavesFollowsTheMachine(t *testing.T) {
	const giB = 1 << 30
	for _, c := range []struct {
		cpus         int
		memory, free int64
		want         int
	}{
		{2, 0, 0, 4}, {1, 64 * giB, 1000 * giB, 2}, {64, 64 * giB, 1000 * giB, 16}, {64, giB, 1000 * giB, 5},
		{8, 128 << 20, 1000 * giB, 1}, {8, 64 * giB, 7 * giB, 3}, {8, 64 * giB, 100 << 20, 1},
	} {
		if got := savesAtATime(c.cpus, c.memory, c.free); got != c.want {
			t.Errorf("%d CPUs, %d bytes of memory, %d free: %d saves, want %d", c.cpus, c.memory, c.free, got, c.want)
		}
	}
	for text, want := range map[string]int64{
		"MemTotal:       16384 kB\nMemFree: 1 kB\n": 16384 << 10, "536870912\n": 536870912, "max\n": 0, "": 0, "x y z": 0,
	} {
		if got := bytesIn(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
