package repository_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/signing"
	"github.com/snapshotd/snapshotd/snapshot"
)

func TestRemoveRemovesManifestAndData(t *testing.T) {
	for what, spoil := range map[string]func(*place){
		"whole":            func(*place) {},
		"no data":          func(p *place) { p.backend.Remove(dataKey) },
		"no manifest":      func(p *place) { p.backend.Remove(manifestKey) },
		"damaged manifest": func(p *place) { p.backend.Set(manifestKey, []byte("{")) },
		"large manifest":   func(p *place) { p.backend.Set(manifestKey, make([]byte, 2<<20)) },
		"lock that is over": func(p *place) {
			p.backend.Lock(dataKey, time.Now().Add(-time.Minute))
		},
	} {
		p := newPlace()
		rec, _ := p.save(t, stream(4*page), snapshot.CompressionZstd)
		rec.Pinned = false
		p.backend.Set(manifestKey, encoded(t, rec, nil))
		p.backend.Set("default/other.db.zst", []byte("other"))
		spoil(p)
		if err := p.Remove(t.Context(), rec); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if keys := p.backend.Keys(); !slices.Equal(keys, []string{"default/other.db.zst"}) {
			t.Errorf("%s: left %q", what, keys)
		}
	}
}

func TestRemoveLeavesAloneWhatMustStay(t *testing.T) {
	signer, _ := newSigner(t)
	_, strangers := newSigner(t)
	other := func(edit func(*snapshot.Record)) func(*testing.T, *place) {
		return func(t *testing.T, p *place) {
			rec, _ := record(t, stream(4*page), snapshot.CompressionZstd)
			edit(rec)
			p.backend.Set(manifestKey, encoded(t, rec, signer))
		}
	}
	for what, x := range map[string]struct {
		spoil  func(*testing.T, *place)
		trust  *signing.Trust
		reason snapshot.Reason
	}{
		"locked": {func(_ *testing.T, p *place) {
			p.backend.Lock(dataKey, time.Now().Add(time.Hour))
		}, nil, snapshot.ReasonObjectLocked},
		"of another name": {
			other(func(r *snapshot.Record) { r.Name = "other" }), nil, snapshot.ReasonConflict,
		},
		"of another cluster": {
			other(func(r *snapshot.Record) { r.Cluster = "other" }), nil, snapshot.ReasonConflict,
		},
		"another of this name": {
			other(func(r *snapshot.Record) { r.StoredSHA256 = r.SHA256 }), nil, snapshot.ReasonConflict,
		},
		"another that is not trusted": {
			other(func(r *snapshot.Record) { r.Cluster = "other" }), strangers, snapshot.ReasonConflict,
		},
		"in another store": {func(_ *testing.T, p *place) {
			p.backend.Set(snapshot.MarkerKey, []byte(`{"formatVersion": 1, "storeId": "other"}`))
		}, nil, snapshot.ReasonBackendWrongStore},
	} {
		p := newPlace(func(c *repository.Config) { c.Trust = x.trust })
		must(t, p.OpenVerified(t.Context(), true))
		rec, _ := p.save(t, stream(4*page), snapshot.CompressionZstd)
		x.spoil(t, p)
		before := p.backend.Keys()
		wantReason(t, what, p.Removable(t.Context(), rec), x.reason)
		wantReason(t, what, p.Remove(t.Context(), rec), x.reason)
		if keys := p.backend.Keys(); !slices.Equal(keys, before) {
			t.Errorf("%s: left %q", what, keys)
		}
	}
}

// adopted returns the record of a file of 5 bytes that another program put there.
func (p *place) adopted() *snapshot.Record {
	rec := &snapshot.Record{File: "backup.db"}
	rec.Name, rec.Trigger = "backup", snapshot.TriggerAdopted
	l := p.Location(rec, time.Now())
	l.State, l.Size = snapshot.StateReady, 5
	rec.Found(l)
	return rec
}

// An adopted file is removed when its size is that of the adoption, and a .json beside it is another program's.
func TestRemoveAdoptedFile(t *testing.T) {
	p := newPlace()
	rec := p.adopted()
	must(t, p.Removable(t.Context(), rec)) // it is gone
	p.backend.Set("default/backup.json", []byte("{}"))
	p.backend.Set("default/backup.db", []byte("123456"))
	wantReason(t, "another file", p.Remove(t.Context(), rec), snapshot.ReasonConflict)
	p.backend.Set("default/backup.db", []byte("12345"))
	wantReason(t, "pinned on its backend", p.Remove(t.Context(), rec), snapshot.ReasonPinned)
	must(t, p.Unpin(t.Context(), rec))
	rec.StoredSHA256 = "another" // file of the same size has taken its place
	wantReason(t, "pinned on its backend", p.Remove(t.Context(), rec), snapshot.ReasonPinned)
	must(t, p.Unpin(t.Context(), rec))
	must(t, p.Pin(t.Context(), rec))
	wantReason(t, "pinned again", p.Remove(t.Context(), rec), snapshot.ReasonPinned)
	must(t, p.Unpin(t.Context(), rec))
	must(t, p.Remove(t.Context(), rec))
	if keys := p.backend.Keys(); !slices.Equal(keys, []string{"default/backup.json"}) {
		t.Errorf("left %q", keys)
	}
}

func TestUndoEndsAtTheFirstError(t *testing.T) {
	p := newPlace()
	rec, _ := p.save(t, stream(4*page), snapshot.CompressionZstd)
	p.backend.Lock(manifestKey, time.Now().Add(time.Hour))
	err := p.DeleteFiles(t.Context(), snapshot.ManifestKey(name), rec.DataKey())
	wantReason(t, "locked", err, snapshot.ReasonBackendAccessDenied)
	wantText(t, "locked", err, "delete "+manifestKey)
	if keys := p.backend.Keys(); len(keys) != 2 {
		t.Errorf("left %q", keys)
	}
	p.backend.Lock(manifestKey, time.Time{})
	must(t, p.DeleteFiles(t.Context(), snapshot.ManifestKey(name), rec.DataKey()))
	if keys := p.backend.Keys(); len(keys) != 0 {
		t.Errorf("left %q", keys)
	}
}

func TestDataIsReplacedOnlyOnRequest(t *testing.T) {
	p := newPlace()
	rec, object := p.save(t, stream(4*page), snapshot.CompressionZstd)
	again := func(replace bool) error {
		return p.PutData(t.Context(), rec, &onlyReader{object}, repository.PutDataOptions{Replace: replace})
	}
	wantReason(t, "that is there", again(false), snapshot.ReasonObjectExists)
	must(t, again(true))
	must(t, p.Whole(t.Context(), rec))
}

func TestLeftoversAreSwept(t *testing.T) {
	p := newPlace()
	p.backend.Plant(dataKey)
	p.backend.Plant("other/x.db.zst")
	n, err := p.Sweep(t.Context(), repository.SweepOptions{OlderThan: time.Now().Add(time.Hour)})
	if left := p.backend.Leftovers(); n != 1 || err != nil || !slices.Equal(left, []string{"other/x.db.zst"}) {
		t.Errorf("%d, %v, left %q", n, err, left)
	}
}

// A file that belongs to a snapshot of ours is that of no adopted one, whatever its record says.
func TestAdoptedFileIsNoPartOfAnotherSnapshot(t *testing.T) {
	for file, want := range map[string]string{
		"backup.db": "backup", "etcd-snapshot-n-1700000000": "etcd-snapshot-n-1700000000",
		"etcd-snapshot-n-1700000000.zip": "etcd-snapshot-n-1700000000", "a.db.zst": "", "a.json": "", "a.db.age": "",
		"snapshotd-store.json": "", "../a.db": "", "": "", "a": "", "a.zip": "",
	} {
		for _, name := range []string{file, strings.TrimSuffix(file, ".db"), strings.TrimSuffix(file, ".zip"), "a"} {
			if got := snapshot.FileOf(name, file); got != (want != "" && name == want) {
				t.Errorf("%q of %q: %t", file, name, got)
			}
		}
	}
	p := newPlace()
	for _, name := range []string{"victim.db", "victim.json", "victim.db.zst"} {
		p.backend.Set("default/"+name, []byte("x"))
		rec := &snapshot.Record{File: name, Snapshot: snapshot.Snapshot{Name: name, Trigger: snapshot.TriggerAdopted}}
		wantReason(t, "unpin "+name, p.Unpin(t.Context(), rec), snapshot.ReasonConflict)
		wantReason(t, "remove "+name, p.Remove(t.Context(), rec), snapshot.ReasonConflict)
	}
}
