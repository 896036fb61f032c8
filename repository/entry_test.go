package repository_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
)

// only returns the record of the only entry.
func (p *place) only(t *testing.T) (*snapshot.Record, error) {
	t.Helper()
	entries, err := p.Entries(t.Context())
	must(t, err)
	if len(entries) != 1 {
		t.Fatalf("%d entries: %+v", len(entries), entries)
	}
	return p.Record(t.Context(), entries[0])
}

func TestEntriesAreTheSnapshotsNewestFirst(t *testing.T) {
	p := newPlace()
	written := time.Unix(1_800_000_000, 0)
	p.backend.SetClock(func() time.Time { return written })
	p.save(t, stream(4*page), snapshot.CompressionZstd)
	sent, _ := etcdDatabase(t, 10)
	archive := zipped(t, sent)
	p.backend.Set("default/backup.db", sent)
	p.backend.Set("default/x-1700000001.zip", archive)
	p.backend.Set("default/lost-1700000002.json", []byte("{}")) // its data is gone
	p.backend.Set("default/readme.txt", []byte("hello"))
	entries, err := p.Entries(t.Context())
	must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name)
	}
	if len(got) != 4 || got[0] != "backup" || got[1] != "lost-1700000002" || got[2] != "x-1700000001" || got[3] != name {
		t.Fatalf("entries %q", got)
	}
	if _, err := p.Record(t.Context(), entries[1]); snapshot.ReasonOf(err) != snapshot.ReasonSnapshotUnreadable {
		t.Errorf("an entry that has lost its data: %v", err)
	}
	entries = slices.Delete(entries, 1, 2)
	if !entries[0].Time.Equal(written) || entries[0].Size != int64(len(sent)) || entries[2].Time.Unix() != 1_700_000_000 {
		t.Errorf("entries %+v", entries)
	}
	for i, want := range []snapshot.Record{
		{File: "backup.db", Snapshot: snapshot.Snapshot{Compression: snapshot.CompressionNone, StoredSize: int64(len(sent))}},
		{File: "x-1700000001.zip", Snapshot: snapshot.Snapshot{Compression: snapshot.CompressionZip, StoredSize: int64(len(archive))}},
	} {
		rec, err := p.Record(t.Context(), entries[i])
		if err != nil || rec.File != want.File || rec.Compression != want.Compression || rec.StoredSize != want.StoredSize ||
			rec.Trigger != snapshot.TriggerAdopted || rec.State() != snapshot.StateReady || len(rec.Locations()) != 1 {
			t.Errorf("%s: %+v, %v", entries[i].Name, rec, err)
		}
	}
	must(t, p.RemoveEntry(t.Context(), entries[2]))
	if p.backend.Content(dataKey) != nil || p.backend.Content(manifestKey) != nil || len(p.backend.Keys()) != 4 {
		t.Errorf("left %q", p.backend.Keys())
	}
}

func TestRecordOfAnEntry(t *testing.T) {
	p := newPlace()
	rec, _ := p.save(t, stream(4*page), snapshot.CompressionZstd)
	got, err := p.only(t)
	must(t, err)
	l := got.Location("one")
	if got.State() != snapshot.StateReady || l == nil || l.Size != rec.StoredSize || l.URI != p.URI(rec.DataKey()) ||
		got.Revision != rec.Revision || got.RequestID != rec.RequestID {
		t.Errorf("%+v", got)
	}
	for what, x := range map[string]struct {
		spoil func(*place)
		text  string
	}{
		"other data": {func(p *place) { p.backend.Set(dataKey, []byte("12345")) }, "it has 5 bytes instead of "},
		"no data": {func(p *place) {
			p.backend.Set("default/"+name+".db", []byte("1"))
			p.backend.Remove(dataKey)
		}, "its data is missing"},
		"no manifest":      {func(p *place) { p.backend.Remove(manifestKey) }, "its manifest is missing"},
		"damaged manifest": {func(p *place) { p.backend.Set(manifestKey, []byte("{")) }, "decode the manifest: "},
	} {
		p := newPlace()
		p.save(t, stream(4*page), snapshot.CompressionZstd)
		x.spoil(p)
		_, err := p.only(t)
		wantReason(t, what, err, snapshot.ReasonSnapshotUnreadable)
		wantText(t, what, err, p.URI(name)+" is not whole: "+x.text)
	}
}

// One key signs for several clusters. A snapshot that is signed for another one is not restored as this one's, wherever
// it is.
func TestSignedManifestOfAnotherClusterIsNotTrusted(t *testing.T) {
	signer, trust := newSigner(t)
	for cluster, trusted := range map[string]bool{"default": false, "other": true, "": true} {
		p := newPlace(func(c *repository.Config) { c.Trust, c.Cluster = trust, cluster })
		rec, _ := p.save(t, stream(4*page), snapshot.CompressionZstd)
		rec.Cluster = "other"
		must(t, p.PutManifest(t.Context(), name, encoded(t, rec, signer)))
		got, err := p.only(t)
		switch {
		case trusted && (err != nil || got.Name != name):
			t.Errorf("for %q: %v", cluster, err)
		case !trusted:
			wantReason(t, cluster, err, snapshot.ReasonManifestUntrusted)
			wantText(t, cluster, err, `is of cluster "other", and not of "default"`)
		}
	}
}

func TestEntriesWhereOnlySignedSnapshotsAreAccepted(t *testing.T) {
	_, trust := newSigner(t)
	p := newPlace(func(c *repository.Config) { c.Trust = trust })
	p.save(t, stream(4*page), snapshot.CompressionZstd)
	_, err := p.only(t)
	wantReason(t, "unsigned", err, snapshot.ReasonManifestUntrusted)
	p.backend.Remove(manifestKey)
	_, err = p.only(t)
	wantReason(t, "no manifest", err, snapshot.ReasonSnapshotUnreadable)
	wantText(t, "no manifest", err, "only signed ones")
	p.backend.Vanish()
	_, err = p.Entries(t.Context())
	wantReason(t, "vanished", err, snapshot.ReasonBackendNotFound)
}

// A file of another program that cannot be a snapshot is not READY, and one that can be is only looked at.
func TestEntriesOfOthersAreLookedAt(t *testing.T) {
	sent, _ := etcdDatabase(t, 3000)
	archive := zipped(t, sent)
	garbage := make([]byte, 200<<10)
	_, _ = rand.NewChaCha8([32]byte{}).Read(garbage)
	for file, x := range map[string]struct {
		content []byte
		why     string // empty: it is READY
		reads   int
	}{
		"etcd-snapshot-n-1700000000":     {sent, "", 1},
		"etcd-snapshot-n-1700000001.zip": {archive, "", 2},
		"nosum.db":                       {sent[:len(sent)-repository.ChecksumSize], "", 1}, // --skip-hash-check takes it
		"etcd-snapshot-n-1700000002":     {nil, "it is empty", 1},
		"etcd-snapshot-n-1700000003":     {garbage[:1000], "it ends after 1000 bytes", 1},
		"etcd-snapshot-n-1700000004":     {garbage, "it does not begin like a database of etcd", 1},
		"etcd-snapshot-n-1700000005":     {sent[:len(sent)-4096], "and the database in it has", 1},
		"etcd-snapshot-n-1700000006.zip": {nil, "not a whole zip archive", 1},
		"etcd-snapshot-n-1700000007.zip": {garbage, "not a whole zip archive", 1},
		"etcd-snapshot-n-1700000008.zip": {archive[:len(archive)-1], "its end is cut off", 2},
		"etcd-snapshot-n-1700000009.zip": {archive[:len(archive)/2], "its end is cut off", 2},
		"etcd-snapshot-n-1700000010.zip": {append(bytes.Clone(archive), 0), "its end is cut off", 2},
		"backup.db":                      {garbage[:200], "it ends after 200 bytes", 1},
	} {
		b := memory.New("one", snapshot.BackendS3)
		b.Set("default/"+file, x.content)
		reads, most := 0, int64(0)
		h := &hooked{Backend: b}
		h.get = func(ctx context.Context, key string, r repository.Range) (io.ReadCloser, error) {
			in, err := b.Get(ctx, key, r)
			reads++
			most = max(most, r.Length)
			if r.Length == 0 { // all that follows
				most = max(most, int64(len(x.content))-r.Offset)
			}
			return in, err
		}
		p := &place{Repository: repository.New(repository.Config{Backend: h, Cluster: "default", Prefix: "default/"})}
		entries, err := p.Entries(t.Context())
		if err != nil || len(entries) != 1 || reads != 0 {
			t.Fatalf("%s: %+v, %v, after %d reads", file, entries, err, reads)
		}
		rec, err := p.Record(t.Context(), entries[0])
		if x.why == "" {
			if err != nil || rec.State() != snapshot.StateReady || rec.StoredSize != int64(len(x.content)) {
				t.Errorf("%s: %+v, %v", file, rec, err)
			}
		} else {
			wantReason(t, file, err, snapshot.ReasonSnapshotUnreadable)
			wantText(t, file, err, x.why)
		}
		if reads != x.reads || most > 192<<10 {
			t.Errorf("%s: %d reads, of %d bytes at most", file, reads, most)
		}
	}
}

// A backend's answer for the head says nothing of the file.
func TestEntryWhoseHeadCannotBeRead(t *testing.T) {
	b := memory.New("one", snapshot.BackendS3)
	b.Set("default/etcd-snapshot-n-1700000000", []byte("12345"))
	h := &hooked{Backend: b}
	h.get = func(context.Context, string, repository.Range) (io.ReadCloser, error) { return nil, errDown }
	p := &place{Repository: repository.New(repository.Config{Backend: h, Prefix: "default/"})}
	if _, err := p.only(t); !errors.Is(err, errDown) {
		t.Errorf("%v", err)
	}
}

// Of two files under one name, the good one is the snapshot.
func TestEntryWithAFileThatFailedBesideAGoodOne(t *testing.T) {
	sent, _ := etcdDatabase(t, 10)
	p := newPlace()
	p.backend.Set("default/etcd-snapshot-n-1700000000", nil)
	p.backend.Set("default/etcd-snapshot-n-1700000000.zip", zipped(t, sent))
	rec, err := p.only(t)
	if err != nil || rec.File != "etcd-snapshot-n-1700000000.zip" {
		t.Errorf("%+v, %v", rec, err)
	}
}

// mislisting is a backend whose listing is edited.
type mislisting struct {
	repository.Backend
	edit func(o *repository.Object) (shown bool)
}

func (m mislisting) List(ctx context.Context, prefix string) iter.Seq2[repository.Object, error] {
	return func(yield func(repository.Object, error) bool) {
		for o, err := range m.Backend.List(ctx, prefix) {
			if (err != nil || m.edit(&o)) && !yield(o, err) {
				return
			}
		}
	}
}

// A listing that says something else than the backend says of the object itself does not make the copy a damaged one:
// nothing older is taken in its place.
func TestListingThatTheObjectContradicts(t *testing.T) {
	for what, edit := range map[string]func(*repository.Object) bool{
		"another size": func(o *repository.Object) bool {
			if !strings.HasSuffix(o.Key, ".json") {
				o.Size--
			}
			return true
		},
		"no manifest": func(o *repository.Object) bool { return !strings.HasSuffix(o.Key, ".json") },
	} {
		p := newPlace()
		p.save(t, stream(4*page), snapshot.CompressionZstd)
		q := newPlace(func(c *repository.Config) { c.Backend = mislisting{p.backend, edit} })
		_, err := q.only(t)
		wantReason(t, what, err, snapshot.ReasonBackendUnavailable)
		if err == nil || !strings.Contains(err.Error(), "is there, and the listing") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
