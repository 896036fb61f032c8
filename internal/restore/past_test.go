package restore_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	filippo "filippo.io/age"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/codec/seekable"
	"github.com/snapshotd/snapshotd/internal/etcd/database"
	"github.com/snapshotd/snapshotd/internal/etcd/member"
	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
)

// saved is a snapshot as etcd sends it.
type saved struct {
	data  []byte
	facts database.Result
}

func save(t *testing.T, e *embedded.Etcd) saved {
	t.Helper()
	path := filepath.Join(t.TempDir(), "saved.db")
	e.Save(t, path)
	facts, err := database.File(t.Context(), path, database.Options{})
	if err != nil {
		t.Fatal(err)
	}
	db, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(db)
	return saved{append(db, sum[:]...), facts}
}

// form is how a snapshot is stored.
type form struct {
	foreign   bool   // it is a file of another program
	suffix    string // of such a file
	zstd      bool
	recipient string
	old       bool   // its manifest does not name the oldest revision
	cluster   string // etcd's id
	late      bool   // its name has the next second, because another one had its own
}

// put stores a snapshot that was taken some time ago, and returns its name.
func (s saved) put(t *testing.T, b *memory.Backend, f form, age time.Duration) string {
	t.Helper()
	created := now.Add(-age)
	named := created
	if f.late {
		named = created.Add(time.Second)
	}
	name := fmt.Sprintf("on-demand-node-1-%d", named.Unix())
	if f.foreign {
		data := s.data
		if f.suffix == ".zip" {
			data = zipped(t, name, data)
		}
		b.Set("default/"+name+f.suffix, data)
		return name
	}
	sum := func(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }
	db := s.data[:len(s.data)-repository.ChecksumSize]
	stored := f.encode(t, s.data)
	facts := snapshot.Snapshot{
		Name: name, Cluster: "default", Trigger: snapshot.TriggerManual, CreateTime: created, Node: "node-1", EtcdClusterID: f.cluster,
		Revision: s.facts.Revision, OldestRevision: s.facts.OldestRevision, TotalKeys: s.facts.TotalKeys, Hash: s.facts.Hash,
		DBSize: int64(len(db)), SHA256: sum(db), Compression: snapshot.CompressionNone,
		StoredSize: int64(len(stored)), StoredSHA256: sum(stored),
	}
	if f.zstd {
		facts.Compression = snapshot.CompressionZstd
	}
	if f.recipient != "" {
		facts.EncryptionRecipients = []string{f.recipient}
	}
	if f.old {
		facts.OldestRevision = 0
	}
	rec := snapshot.NewSave(facts, "", "", nil)
	doc, err := repository.EncodeManifest(rec, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.Set("default/"+rec.DataKey(), stored)
	b.Set("default/"+snapshot.ManifestKey(name), doc)
	return name
}

func (f form) encode(t *testing.T, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if f.zstd {
		if _, err := seekable.Copy(t.Context(), &out, bytes.NewReader(data), seekable.Options{}); err != nil {
			t.Fatal(err)
		}
		data = bytes.Clone(out.Bytes())
	}
	if f.recipient == "" {
		return data
	}
	to, err := age.NewRecipients([]string{f.recipient})
	if err != nil {
		t.Fatal(err)
	}
	out.Reset()
	w, err := to.NewWriter(&out)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zipped(t *testing.T, name string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	e, err := w.Create(name)
	if err == nil {
		_, err = e.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// options restore from backends into a new directory.
func options(t *testing.T, c restore.Choice, backends ...repository.Backend) restore.Options {
	t.Helper()
	c.Now = now
	o := restore.Options{
		Choice: c, DataDir: filepath.Join(t.TempDir(), "data"), EndedLeaseTTL: time.Hour,
		Member: restore.Member{
			Name: "default", InitialCluster: "default=http://localhost:2380", PeerURLs: []string{"http://localhost:2380"}, ClusterToken: "token",
		},
	}
	for _, b := range backends {
		o.Repositories = append(o.Repositories, repository.New(repository.Config{Backend: b, Prefix: "default/"}))
	}
	return o
}

// started restores, and starts an etcd on the result.
func started(t *testing.T, o restore.Options) (*embedded.Etcd, restore.Result) {
	t.Helper()
	res, err := restore.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return embedded.StartEtcd(t, func(c *member.Config) { c.Dir = o.DataDir }), res
}

func TestRevisionIsRestoredFromEveryFormOfASnapshot(t *testing.T) {
	t.Parallel()
	identity, err := filippo.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "identity")
	if err := os.WriteFile(file, []byte(identity.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	h := embedded.NewHistory(t, 1)
	h.Change(t, 150)
	h.Compact(t, h.Revision()-60)
	s := save(t, h.Etcd)
	for name, f := range map[string]form{
		"plain":               {},
		"zstd":                {zstd: true},
		"of an older version": {zstd: true, old: true},
		"zstd and encrypted":  {zstd: true, recipient: identity.Recipient().String()},
		"a file of etcdctl":   {foreign: true, suffix: ".db"},
		"a file of K3s":       {foreign: true},
		"an archive of K3s":   {foreign: true, suffix: ".zip"},
	} {
		t.Run(name, func(t *testing.T) {
			b := memory.New("one", snapshot.BackendLocal)
			id := s.put(t, b, f, time.Hour)
			revision := h.Revision() - 25
			for _, c := range []restore.Choice{{Name: id, Revision: revision}, {Latest: true, Revision: revision}, {Revision: revision}} {
				o := options(t, c, b)
				if o.Identities, err = age.ReadIdentities(file); err != nil {
					t.Fatal(err)
				}
				e, res := started(t, o)
				if res.Past == nil || res.Past.Revision != revision || res.Past.Oldest != revision-35 || res.Past.Newest != h.Revision() {
					t.Fatalf("%+v: %+v", c, res.Past)
				}
				got, want := e.At(t, revision), h.At(t, revision)
				if e.Revision() != revision || got.Hash.Hash != want.Hash.Hash || len(got.Keys) != len(want.Keys) {
					t.Errorf("%+v: revision %d, %+v and %d keys; want %d, %+v, %d", c, e.Revision(), got.Hash, len(got.Keys), revision, want.Hash, len(want.Keys))
				}
				e.Close(t)
			}
		})
	}
}

// TestRevisionAloneFindsASnapshotThatHoldsIt has snapshots whose ranges overlap: 1 holds 1 to a, 2 holds a-9 to b, 3
// holds b-9 to c.
func TestRevisionAloneFindsASnapshotThatHoldsIt(t *testing.T) {
	t.Parallel()
	h := embedded.NewHistory(t, 2)
	var all []saved
	var ends []int64
	for range 3 {
		h.Change(t, 100)
		if len(all) > 0 {
			h.Compact(t, ends[len(ends)-1]-9)
		}
		all, ends = append(all, save(t, h.Etcd)), append(ends, h.Revision())
	}
	a, b, c := ends[0], ends[1], ends[2]
	for name, forms := range map[string][]form{
		"described":                       {{}, {}, {}},
		"of an older version":             {{old: true}, {old: true}, {old: true}},
		"of other programs":               {{foreign: true}, {foreign: true, suffix: ".zip"}, {foreign: true, suffix: ".db"}},
		"the middle one of another":       {{}, {foreign: true}, {old: true}},
		"the last ones of other programs": {{}, {foreign: true}, {foreign: true}},
	} {
		t.Run(name, func(t *testing.T) {
			m := memory.New("one", snapshot.BackendLocal)
			var names []string
			for i, s := range all {
				names = append(names, s.put(t, m, forms[i], time.Duration(10-i)*time.Hour))
			}
			for revision, holders := range map[int64][]int{
				1: {0}, a - 10: {0}, a - 9: {0, 1}, a: {0, 1}, a + 1: {1}, b - 10: {1}, b - 9: {1, 2}, b: {1, 2}, b + 1: {2}, c: {2},
			} {
				res, err := restore.Plan(t.Context(), options(t, restore.Choice{Revision: revision}, m))
				if err != nil {
					t.Errorf("revision %d: %v", revision, err)
					continue
				}
				held := false
				for _, i := range holders {
					held = held || res.Snapshot.Name == names[i]
				}
				if !held || res.Past.Revision != revision {
					t.Errorf("revision %d: %s and %+v, which hold it: %v", revision, res.Snapshot.Name, res.Past, holders)
				}
				if forms[0] == (form{}) && forms[1] == (form{}) && res.Snapshot.Name != names[holders[0]] {
					t.Errorf("revision %d: %s, and not the one with most of its leases, %s", revision, res.Snapshot.Name, names[holders[0]])
				}
			}
			_, err := restore.Plan(t.Context(), options(t, restore.Choice{Revision: c + 1}, m))
			if snapshot.ReasonOf(err) != snapshot.ReasonRevisionNotFound {
				t.Errorf("revision %d: %v", c+1, err)
			}
		})
	}
}

func TestRevisionThatCannotBeRestoredNamesTheNearestOnes(t *testing.T) {
	t.Parallel()
	h := embedded.NewHistory(t, 3)
	h.Change(t, 80)
	first, end := save(t, h.Etcd), h.Revision()
	h.Change(t, 80)
	h.Compact(t, h.Revision()-5)
	b := memory.New("one", snapshot.BackendLocal)
	older, newer := first.put(t, b, form{}, 2*time.Hour), save(t, h.Etcd).put(t, b, form{}, time.Hour)
	oldest := h.Revision() - 5
	between := (end + oldest) / 2
	for _, tc := range []struct {
		choice restore.Choice
		want   []string
	}{
		{restore.Choice{Revision: between}, []string{"no snapshot holds it", fmt.Sprintf("below is %d, the newest of %s", end, older),
			fmt.Sprintf("above is %d, the oldest of %s", oldest, newer)}},
		{restore.Choice{Name: older, Revision: between}, []string{fmt.Sprintf("%s holds the revisions 1 to %d", older, end),
			fmt.Sprintf("above is %d, the oldest of %s", oldest, newer)}},
		{restore.Choice{Latest: true, Revision: between}, []string{fmt.Sprintf("%s holds the revisions %d to %d", newer, oldest, h.Revision())}},
		{restore.Choice{Revision: 1 << 40}, []string{fmt.Sprintf("below is %d, the newest of %s", h.Revision(), newer)}},
	} {
		o := options(t, tc.choice, b)
		_, err := restore.Run(t.Context(), o)
		if snapshot.ReasonOf(err) != snapshot.ReasonRevisionNotFound {
			t.Fatalf("%+v: %v", tc.choice, err)
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %v; it should say %q", tc.choice, err, want)
			}
		}
		if left, err := os.ReadDir(filepath.Dir(o.DataDir)); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	}
}

// A revision that the snapshot does not have is no reason to damage anything: the next one that holds it is taken.
func TestRevisionIsTakenFromTheNextSnapshotWhenTheFirstIsDamagedOrCannotBeRead(t *testing.T) {
	t.Parallel()
	h := embedded.NewHistory(t, 4)
	h.Change(t, 60)
	first, revision := save(t, h.Etcd), h.Revision()-7
	h.Change(t, 60)
	b := &faulty{Backend: memory.New("one", snapshot.BackendLocal)}
	older, newer := first.put(t, b.Backend, form{}, 2*time.Hour), save(t, h.Etcd).put(t, b.Backend, form{}, time.Hour)
	for name, err := range map[string]error{
		"damaged": snapshot.ReasonChecksumMismatch.New("it"), "denied": snapshot.ReasonBackendAccessDenied.New("it"),
	} {
		b.get = failOn(older+".db", err)
		res, err := restore.Plan(t.Context(), options(t, restore.Choice{Revision: revision}, b))
		if err != nil || res.Snapshot.Name != newer || len(res.Skipped) != 1 || res.Past.Revision != revision {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
}

func TestRevisionOfTwoHistoriesIsRefused(t *testing.T) {
	t.Parallel()
	h := embedded.NewHistory(t, 5)
	h.Change(t, 60)
	first, revision := save(t, h.Etcd), h.Revision()-7
	h.Change(t, 60)
	second := save(t, h.Etcd)
	for name, forms := range map[string][2]form{
		"another cluster": {{cluster: strings.Repeat("1", 16)}, {cluster: strings.Repeat("2", 16)}},
		"begun again":     {{cluster: strings.Repeat("1", 16)}, {cluster: strings.Repeat("1", 16)}},
	} {
		b := memory.New("one", snapshot.BackendLocal)
		parts := [2]saved{first, second}
		if name == "begun again" {
			parts = [2]saved{second, first}
		}
		older, newer := parts[0].put(t, b, forms[0], 2*time.Hour), parts[1].put(t, b, forms[1], time.Hour)
		_, err := restore.Plan(t.Context(), options(t, restore.Choice{Revision: revision}, b))
		if snapshot.ReasonOf(err) != snapshot.ReasonInvalidArgument || !strings.Contains(err.Error(), older) || !strings.Contains(err.Error(), newer) {
			t.Errorf("%s: %v", name, err)
		}
		if res, err := restore.Plan(t.Context(), options(t, restore.Choice{Name: older, Revision: revision}, b)); err != nil || res.Past.Revision != revision {
			t.Errorf("%s, by its name: %+v, %v", name, res, err)
		}
	}
}

// The revisions at the times of the snapshots are a, b and c; the second one holds a to b, the third one b-5 to c.
func TestTimeIsTheNewestProvenRevisionOrAnEstimate(t *testing.T) {
	t.Parallel()
	h := embedded.NewHistory(t, 6)
	h.Change(t, 60)
	m := memory.New("one", snapshot.BackendLocal)
	a, one := h.Revision(), save(t, h.Etcd).put(t, m, form{}, 4*time.Hour)
	h.Change(t, 60)
	h.Compact(t, a)
	b, two := h.Revision(), save(t, h.Etcd).put(t, m, form{zstd: true}, 3*time.Hour)
	h.Change(t, 60)
	h.Compact(t, b-5)
	c, three := h.Revision(), save(t, h.Etcd).put(t, m, form{}, 2*time.Hour)
	at := func(age time.Duration) time.Time { return now.Add(-age) }
	const quarter, half = 15 * time.Minute, 30 * time.Minute
	for _, tc := range []struct {
		name     string
		choice   restore.Choice
		snapshot string
		revision int64 // 0: as it is
		estimate bool
	}{
		{"alone", restore.Choice{At: at(3*time.Hour + half)}, one, 0, false},
		{"alone, at the time of a snapshot", restore.Choice{At: at(3 * time.Hour)}, two, 0, false},
		{"estimate", restore.Choice{At: at(3*time.Hour + half), Estimate: true}, two, a + (b-a)/2, true},
		{"estimate, at the time of a snapshot", restore.Choice{At: at(3 * time.Hour), Estimate: true}, three, b, true},
		{"estimate, near the end", restore.Choice{At: at(2*time.Hour + quarter), Estimate: true}, three, b + (c-b)*3/4, true},
		{"estimate, after all", restore.Choice{At: at(time.Hour), Estimate: true}, three, 0, false},
		{"latest", restore.Choice{Latest: true, At: at(2*time.Hour + half)}, three, b, false},
		{"latest, estimate", restore.Choice{Latest: true, At: at(2*time.Hour + half), Estimate: true}, three, b + (c-b)/2, true},
		{"latest, after all", restore.Choice{Latest: true, At: at(time.Hour)}, three, 0, false},
		{"a name", restore.Choice{Name: two, At: at(3*time.Hour + half)}, two, a, false},
		{"a name, later", restore.Choice{Name: two, At: at(half)}, two, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res, err := restore.Plan(t.Context(), options(t, tc.choice, m))
			if err != nil {
				t.Fatal(err)
			}
			revision := int64(0)
			if res.Past != nil {
				revision = res.Past.Revision
			}
			if res.Snapshot.Name != tc.snapshot || revision != tc.revision || res.Bracket == nil || res.Bracket.Estimated != tc.estimate {
				t.Errorf("%s at %d, %+v; want %s at %d (a, b, c: %d, %d, %d)", res.Snapshot.Name, revision, res.Bracket, tc.snapshot, tc.revision, a, b, c)
			}
		})
	}
	for name, tc := range map[string]struct {
		choice restore.Choice
		want   string
	}{
		"before all":        {restore.Choice{Name: one, At: at(5 * time.Hour)}, "is not known"},
		"not held":          {restore.Choice{Name: three, At: at(3*time.Hour + half)}, fmt.Sprintf("%s holds the revisions %d to %d", three, b-5, c)},
		"estimate not held": {restore.Choice{Latest: true, At: at(3*time.Hour + half), Estimate: true}, "cannot be restored"},
	} {
		if _, err := restore.Plan(t.Context(), options(t, tc.choice, m)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What is estimated was compacted: the newest of the time or before is taken, and the plan says why.
	h.Change(t, 20)
	h.Compact(t, h.Revision())
	four := save(t, h.Etcd).put(t, m, form{}, time.Hour)
	res, err := restore.Plan(t.Context(), options(t, restore.Choice{At: at(time.Hour + half), Estimate: true}, m))
	if err != nil || res.Snapshot.Name != three || res.Past != nil || !strings.Contains(res.Bracket.Why, four) {
		t.Errorf("an estimate that was compacted: %+v, %+v, %v", res, res.Bracket, err)
	}
}

// Snapshots of other programs have no manifest: those around the time are read.
func TestTimeAmongSnapshotsOfOtherPrograms(t *testing.T) {
	t.Parallel()
	h := embedded.NewHistory(t, 7)
	h.Change(t, 60)
	m := memory.New("one", snapshot.BackendLocal)
	a := h.Revision()
	save(t, h.Etcd).put(t, m, form{foreign: true}, 4*time.Hour)
	h.Change(t, 60)
	b, two := h.Revision(), save(t, h.Etcd).put(t, m, form{foreign: true, suffix: ".zip"}, 2*time.Hour)
	for revision, c := range map[int64]restore.Choice{
		a:           {Latest: true, At: now.Add(-3 * time.Hour)},
		a + (b-a)/2: {At: now.Add(-3 * time.Hour), Estimate: true},
	} {
		res, err := restore.Plan(t.Context(), options(t, c, m))
		if err != nil || res.Snapshot.Name != two || res.Past == nil || res.Past.Revision != revision {
			t.Errorf("%+v: %+v, %v; want revision %d", c, res, err, revision)
		}
	}
}

func TestPastRevisionIsBumpedAsAnyOther(t *testing.T) {
	t.Parallel()
	h := embedded.NewHistory(t, 8)
	h.Change(t, 100)
	b := memory.New("one", snapshot.BackendLocal)
	save(t, h.Etcd).put(t, b, form{}, time.Hour)
	revision := h.Revision() - 30
	o := options(t, restore.Choice{Revision: revision}, b)
	o.Member.RevisionBump, o.Member.MarkCompacted = 1_000_000, true
	e, _ := started(t, o)
	if got := e.Revision(); got != revision+1_000_000 {
		t.Errorf("it begins with revision %d", got)
	}
	got, want := e.At(t, e.Revision()), h.At(t, revision)
	var keys []string
	for _, kv := range got.Keys {
		if len(kv.Key) > 0 { // etcdutl puts an empty one for the bump
			keys = append(keys, string(kv.Key))
		}
	}
	if len(keys) != len(want.Keys) {
		t.Errorf("%d keys, want %d", len(keys), len(want.Keys))
	}

	// Between the last revision and the bumped one there is nothing to go back to.
	bumped := memory.New("two", snapshot.BackendLocal)
	name := save(t, e).put(t, bumped, form{old: true}, time.Hour)
	if _, err := restore.Plan(t.Context(), options(t, restore.Choice{Name: name, Revision: revision + 5}, bumped)); snapshot.ReasonOf(err) != snapshot.ReasonRevisionNotFound {
		t.Errorf("a revision that was bumped over: %v", err)
	}
}

// At the newest revision nothing is changed, the leases without keys included.
func TestNewestRevisionIsThePlainRestore(t *testing.T) {
	t.Parallel()
	h := embedded.NewHistory(t, 9)
	h.Change(t, 100)
	b := memory.New("one", snapshot.BackendLocal)
	save(t, h.Etcd).put(t, b, form{}, time.Hour)
	e, res := started(t, options(t, restore.Choice{Latest: true, Revision: h.Revision()}, b))
	got, _ := e.Leases(t)
	want, _ := h.Leases(t)
	if !res.Past.Whole() || len(got) != len(want) {
		t.Errorf("%d leases, want %d: %+v", len(got), len(want), res.Past)
	}
}
