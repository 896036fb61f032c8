package proving_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	filippo "filippo.io/age"

	catalogmemory "github.com/snapshotd/snapshotd/catalog/memory"
	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/etcd"
	"github.com/snapshotd/snapshotd/internal/proving"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/internal/testenv/check"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

var (
	must       = check.OK
	eventually = check.Eventually
)

func TestMain(m *testing.M) {
	embedded.SmallLog()
	testenv.RunWaiting(m)
}

// rig is an etcd that is saved and followed, on one backend.
type rig struct {
	*embedded.History
	*cluster.Cluster
	backend *memory.Backend
	catalog *catalogmemory.Catalog
	journal *journal.Journal
	driller *embedded.Driller
	log     bytes.Buffer
	checked []string
	turns   []string // that were taken and given back
	drilled *snapshot.JournalDrill
	repo    *repository.Repository
}

func newRig(t *testing.T, recipients ...string) *rig {
	t.Helper()
	var to age.Recipients
	if len(recipients) > 0 {
		var err error
		to, err = age.NewRecipients(recipients)
		must(t, err)
	}
	r := &rig{
		History: embedded.NewHistory(t, 41), backend: memory.New("s3", snapshot.BackendS3), catalog: catalogmemory.New(time.Now),
		driller: &embedded.Driller{TB: t},
	}
	conn, err := etcd.New(etcd.Config{Endpoints: r.Endpoints()})
	must(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	source := etcd.NewSource(conn, etcd.SourceConfig{})
	r.Cluster, err = cluster.New(cluster.Config{
		Name: "default", Node: "node-1", Prefix: "default/", SpoolDir: t.TempDir(), Source: source,
		Records: r.catalog, Saves: r.catalog, History: r.catalog, Stores: r.catalog, Backends: []repository.Backend{r.backend},
		Recipients: to,
	})
	must(t, err)
	r.repo = repository.New(repository.Config{Backend: r.backend, Cluster: "default", Prefix: "default/"})
	store := segments.New(segments.Config{Repository: r.repo, Recipients: to})
	r.journal = journal.New(journal.Config{
		Source: etcd.NewFollowed(source), Stores: []journal.Store{store}, Dir: t.TempDir(),
		FlushInterval: 20 * time.Millisecond, UploadInterval: 50 * time.Millisecond,
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var work sync.WaitGroup
	work.Go(func() { r.journal.Run(ctx) })
	work.Go(func() { r.journal.Follow(ctx, 1) })
	t.Cleanup(func() {
		cancel()
		work.Wait()
	})
	eventually(t, "the journal has begun", func() bool {
		r.Change(t, 1)
		return r.journal.Live() != ""
	})
	return r
}

func (r *rig) prover(t *testing.T, draw func(int64) int64, edits ...func(*proving.Config)) *proving.Prover {
	cfg := proving.Config{
		Catalog: r.catalog, Repositories: []*repository.Repository{r.repo}, Driller: r.driller, Dir: t.TempDir(), Rand: draw,
		Logger: slog.New(slog.NewTextHandler(&r.log, nil)),
		Turn: func(context.Context) (func(), error) {
			r.turns = append(r.turns, "taken")
			return func() { r.turns = append(r.turns, "given back") }, nil
		},
		Drilled: func(_ context.Context, d *snapshot.JournalDrill) error { r.drilled = d; return nil },
		Checked: func(_ context.Context, k proving.Kind, passed bool) {
			r.checked = append(r.checked, string(k)+map[bool]string{true: " passed", false: " failed"}[passed])
		},
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	return proving.New(cfg)
}

// save saves the etcd, and waits until the backend has its journal up to the snapshot.
func (r *rig) save(t *testing.T) *snapshot.Snapshot {
	t.Helper()
	res, err := r.Save(t.Context(), cluster.SaveRequest{})
	must(t, err)
	listing := segments.New(segments.Config{Repository: r.repo})
	eventually(t, "the journal is on the backend", func() bool {
		r.Change(t, 1) // facts are uploaded with the next revision
		for item, err := range listing.Every(t.Context()) {
			must(t, err)
			if item.Last > res.Snapshot.Revision {
				return true
			}
		}
		return false
	})
	return res.Snapshot
}

// proof returns the verdict on the journal before a snapshot.
func (r *rig) proof(t *testing.T, s *snapshot.Snapshot) *snapshot.Verification {
	t.Helper()
	rec, err := r.catalog.Get(t.Context(), s.Name)
	must(t, err)
	return rec.JournalProof
}

func TestTheJournalBeforeEachSnapshotIsChecked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.prover(t, nil)
	first := r.save(t)
	r.Change(t, 120)
	second := r.save(t)
	r.Change(t, 60)
	third := r.save(t)
	must(t, p.Round(t.Context()))
	if v := r.proof(t, first); v != nil {
		t.Errorf("before the first snapshot there is no journal: %+v", v)
	}
	for s, base := range map[*snapshot.Snapshot]*snapshot.Snapshot{second: first, third: second} {
		v := r.proof(t, s)
		if v == nil || !v.Passed || v.HashKV == 0 || !strings.Contains(v.Live, base.Name) || v.Error != "" {
			t.Errorf("before %s, it is %+v\n%s", s.Name, v, r.log.String())
		}
	}
	if got := strings.Join(r.checked, ", "); got != "snapshot passed, snapshot passed" || !p.UpTo().Equal(third.CreateTime) {
		t.Errorf("checked: %s, up to %s", got, p.UpTo())
	}
	r.tookTurns(t, 2)
	// What was checked is not checked again, by another leader neither.
	before := r.driller.Count
	other := r.prover(t, nil)
	must(t, other.Round(t.Context()))
	must(t, p.Round(t.Context()))
	if r.driller.Count != before || !other.UpTo().Equal(third.CreateTime) {
		t.Errorf("%d etcds more were started, up to %s", r.driller.Count-before, other.UpTo())
	}

	// A segment that cannot be read is a verdict, and names its revisions.
	r.Change(t, 40)
	from := r.Revision()
	fourth := r.save(t)
	spoiled := ""
	for _, key := range r.backend.Keys() {
		if strings.HasSuffix(key, ".seg") && r.holds(t, key, from) {
			r.backend.Set(key, r.backend.Content(key)[:40])
			spoiled = filepath.Base(strings.TrimSuffix(key, ".seg"))
		}
	}
	must(t, p.Round(t.Context()))
	v := r.proof(t, fourth)
	if v == nil || v.Passed || !strings.Contains(v.Error, spoiled) || spoiled == "" || r.checked[len(r.checked)-1] != "snapshot failed" {
		t.Errorf("with the bad segment %s: %+v, %s", spoiled, v, r.checked)
	}
	if !strings.Contains(r.log.String(), "journal does not lead to the snapshot") || !p.UpTo().Equal(third.CreateTime) {
		t.Errorf("up to %s: %s", p.UpTo(), r.log.String())
	}
}

// tookTurns checks that each check waited for its turn, and gave it back before the next one.
func (r *rig) tookTurns(t *testing.T, n int) {
	t.Helper()
	want := strings.TrimSuffix(strings.Repeat("taken, given back, ", n), ", ")
	if got := strings.Join(r.turns, ", "); got != want {
		t.Errorf("the turns were %s, want %s", got, want)
	}
}

// holds reports whether the segment under a key has a revision.
func (r *rig) holds(t *testing.T, key string, revision int64) bool {
	t.Helper()
	listing := segments.New(segments.Config{Repository: r.repo})
	for item, err := range listing.Every(t.Context()) {
		must(t, err)
		if item.First <= revision && revision <= item.Last && strings.Contains(listing.URI(item.Ref), strings.TrimSuffix(filepath.Base(key), ".seg")) {
			return true
		}
	}
	return false
}

// A drill restores a revision between two snapshots, drawn at random.
func TestARandomRevisionOfTheWindowIsDrilled(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	must(t, r.prover(t, nil).Drill(t.Context()))
	if r.driller.Count != 0 {
		t.Error("without a snapshot, something was drilled")
	}
	first := r.save(t)
	r.Change(t, 60)
	r.save(t)
	for _, n := range []int64{0, 30} {
		must(t, r.prover(t, func(int64) int64 { return n }).Drill(t.Context()))
	}
	if got := strings.Join(r.checked, ", "); got != "revision passed, revision passed" || r.driller.Count != 2 {
		t.Errorf("checked: %s, with %d etcds\n%s", got, r.driller.Count, r.log.String())
	}
	r.tookTurns(t, 2)
	if d := r.drilled; !d.Verdict.Proves() || d.Verdict.HashKV == 0 || d.Revision != first.Revision+31 || d.Base != first.Name || d.Timeline == "" {
		t.Errorf("the verdict is %+v", d)
	}
	for _, key := range r.backend.Keys() {
		if strings.HasSuffix(key, ".seg") && r.holds(t, key, first.Revision+31) {
			r.backend.Set(key, []byte("torn"))
		}
	}
	err := r.prover(t, func(int64) int64 { return 30 }).Drill(t.Context())
	if !snapshot.IsDamage(err) || r.checked[len(r.checked)-1] != "revision failed" {
		t.Errorf("with a bad segment: %v, %s", err, r.checked)
	}
	if d := r.drilled; d.Verdict.Passed || d.Verdict.Error != err.Error() || d.Revision != first.Revision+31 {
		t.Errorf("the verdict is %+v", d)
	}
}

// Each snapshot from which the journal leads on has its turn, however many newer ones there are.
func TestRevisionsBehindOldSnapshotsAreDrilled(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.save(t)
	rec, err := r.catalog.Get(t.Context(), first.Name)
	must(t, err)
	for i := range 250 { // of an etcd that nobody follows
		other := rec.Copy()
		other.Name, other.EtcdClusterID = fmt.Sprint("other-", i), "0000000000000001"
		other.CreateTime = other.CreateTime.Add(time.Duration(i+1) * time.Millisecond)
		must(t, r.catalog.Create(t.Context(), other))
	}
	must(t, r.prover(t, func(int64) int64 { return 0 }).Drill(t.Context()))
	if got := strings.Join(r.checked, ", "); got != "revision passed" || !strings.Contains(r.log.String(), fmt.Sprint("base=", first.Revision)) {
		t.Errorf("checked: %s\n%s", got, r.log.String())
	}
}

// A service that cannot decrypt says once that it drills nothing. Its scrub does not fail for that.
func TestADrillWithoutAnIdentityIsNoted(t *testing.T) {
	t.Parallel()
	id, err := filippo.GenerateX25519Identity()
	must(t, err)
	r := newRig(t, id.Recipient().String())
	r.save(t)
	p := r.prover(t, nil)
	for range 2 {
		must(t, p.Drill(t.Context()))
	}
	if n := strings.Count(r.log.String(), "no revision of the recovery window is drilled"); n != 1 || len(r.checked) > 0 || r.driller.Count > 0 {
		t.Errorf("it is said %d times, and checked: %v\n%s", n, r.checked, r.log.String())
	}
}
