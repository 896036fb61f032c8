package repository_test

import (
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/repository"
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
	p.backend.Set("default/backup.db", []byte("12345"))
	p.backend.Set("default/x-1700000001.zip", []byte("123"))
	p.backend.Set("default/lost-1700000002.json", []byte("{}")) // its data is gone
	p.backend.Set("default/readme.txt", []byte("hello"))
	entries, err := p.Entries(t.Context())
	must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name)
	}
	if len(got) != 3 || got[0] != "backup" || got[1] != "x-1700000001" || got[2] != name {
		t.Fatalf("entries %q", got)
	}
	if !entries[0].Time.Equal(written) || entries[0].Size != 5 || entries[2].Time.Unix() != 1_700_000_000 {
		t.Errorf("entries %+v", entries)
	}
	for i, want := range []snapshot.Record{
		{File: "backup.db", Snapshot: snapshot.Snapshot{Compression: snapshot.CompressionNone, StoredSize: 5}},
		{File: "x-1700000001.zip", Snapshot: snapshot.Snapshot{Compression: snapshot.CompressionZip, StoredSize: 3}},
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
