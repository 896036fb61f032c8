package repository_test

import (
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/signing"
	"github.com/snapshotd/snapshotd/snapshot"
)

const dataKey, manifestKey = "default/" + name + ".db.zst", "default/" + name + ".json"

func TestWholeIsDataWithItsSizeAndManifest(t *testing.T) {
	for what, x := range map[string]struct {
		spoil  func(*place)
		reason snapshot.Reason
	}{
		"whole":       {func(*place) {}, ""},
		"no data":     {func(p *place) { p.backend.Remove(dataKey) }, snapshot.ReasonObjectNotFound},
		"no manifest": {func(p *place) { p.backend.Remove(manifestKey) }, snapshot.ReasonObjectNotFound},
		"cut off":     {func(p *place) { p.backend.Set(dataKey, []byte("cut")) }, snapshot.ReasonConflict},
		"vanished":    {func(p *place) { p.backend.Vanish() }, snapshot.ReasonBackendNotFound},
	} {
		p := newPlace()
		rec, _ := p.save(t, stream(4*page), snapshot.CompressionZstd)
		x.spoil(p)
		err := p.Whole(t.Context(), rec)
		if x.reason == "" {
			must(t, err)
			continue
		}
		wantReason(t, what, err, x.reason)
		if snapshot.IsNotFound(err) != (x.reason == snapshot.ReasonObjectNotFound) {
			t.Errorf("%s: %v", what, err)
		}
		if x.reason == snapshot.ReasonConflict {
			wantText(t, what, err, "it has 3 bytes instead of ")
		}
	}
}

func TestWholeAdoptedSnapshotHasNoManifest(t *testing.T) {
	p := newPlace()
	p.backend.Set("default/backup.db", []byte("12345"))
	rec := p.adopted()
	must(t, p.Whole(t.Context(), rec))
	p.backend.Set("default/backup.db", []byte("123456"))
	wantReason(t, "another file", p.Whole(t.Context(), rec), snapshot.ReasonConflict)
}

func TestProbeSaysWhatACopyWouldReplace(t *testing.T) {
	signer, trust := newSigner(t)
	rec, object := record(t, stream(4*page), snapshot.CompressionZstd)
	good := encoded(t, rec, signer)
	other, otherObject := record(t, stream(6*page), snapshot.CompressionZstd)
	flipped := append([]byte{object[0] ^ 1}, object[1:]...)
	nothing := repository.Occupant{}
	for what, x := range map[string]struct {
		data, manifest []byte
		want           repository.Occupant
	}{
		"nothing":                  {nil, nil, nothing},
		"both":                     {object, good, repository.Occupant{Occupied: true, Data: true, Manifest: true}},
		"data":                     {object, nil, repository.Occupant{Occupied: true, Data: true}},
		"manifest":                 {nil, good, repository.Occupant{Manifest: true}},
		"damaged data":             {flipped, good, repository.Occupant{Occupied: true, Manifest: true}},
		"cut data":                 {object[:100], good, repository.Occupant{Occupied: true, Manifest: true}},
		"untrusted manifest":       {object, encoded(t, rec, nil), repository.Occupant{Occupied: true, Data: true}},
		"damaged manifest":         {object, []byte("{"), repository.Occupant{Occupied: true, Data: true}},
		"large manifest":           {object, make([]byte, 2<<20), repository.Occupant{Occupied: true, Data: true}},
		"another's manifest":       {object, encoded(t, other, signer), repository.Occupant{Occupied: true, Data: true}},
		"damaged data of another":  {otherObject[:100], encoded(t, other, signer), repository.Occupant{Occupied: true}},
		"another without manifest": {otherObject, nil, repository.Occupant{Occupied: true}},
	} {
		p := newPlace(func(c *repository.Config) { c.Trust = trust })
		if x.data != nil {
			p.backend.Set(dataKey, x.data)
		}
		if x.manifest != nil {
			p.backend.Set(manifestKey, x.manifest)
		}
		if got, err := p.Probe(t.Context(), rec); err != nil || got != x.want {
			t.Errorf("%s: %+v, %v, want %+v", what, got, err, x.want)
		}
	}
}

// A good copy of another snapshot is never replaced, also when its manifest is not trusted here or of another cluster.
func TestProbeFindsAGoodCopyOfAnotherSnapshot(t *testing.T) {
	rec, _ := record(t, stream(4*page), snapshot.CompressionZstd)
	other, object := record(t, stream(6*page), snapshot.CompressionZstd)
	other.Cluster = "other"
	_, trust := newSigner(t)
	for _, trust := range []*signing.Trust{nil, trust} {
		p := newPlace(func(c *repository.Config) { c.Trust = trust })
		p.backend.Set(dataKey, object)
		p.backend.Set(manifestKey, encoded(t, other, nil))
		_, err := p.Probe(t.Context(), rec)
		wantReason(t, "another", err, snapshot.ReasonConflict)
		wantText(t, "another", err, `backend "one" holds another snapshot under `)
	}
	p := newPlace()
	p.backend.Vanish()
	_, err := p.Probe(t.Context(), rec)
	wantReason(t, "vanished", err, snapshot.ReasonBackendNotFound)
}

func TestOneSnapshotIsListed(t *testing.T) {
	p := newPlace()
	must(t, p.OpenVerified(t.Context(), true))
	rec, _ := p.save(t, stream(4*page), snapshot.CompressionZstd)
	g, err := p.ListOne(t.Context(), rec)
	if err != nil || g.Name != name || !g.Manifest || p.DataOf(g, rec) == nil || p.DataOf(g, rec).Size != rec.StoredSize {
		t.Errorf("whole: %+v, %v", g, err)
	}
	p.backend.Remove(manifestKey)
	if g, err := p.ListOne(t.Context(), rec); err != nil || g.Manifest || len(g.Objects) != 1 {
		t.Errorf("without manifest: %+v, %v", g, err)
	}
	p.backend.Remove(dataKey)
	if g, err := p.ListOne(t.Context(), rec); err != nil || g.Manifest || len(g.Objects) != 0 {
		t.Errorf("without data: %+v, %v", g, err)
	}
	p.backend.Remove(snapshot.MarkerKey)
	_, err = p.ListOne(t.Context(), rec)
	wantReason(t, "unmounted", err, snapshot.ReasonBackendWrongStore)
}

func TestURIsAreForPersons(t *testing.T) {
	p := newPlace()
	if uri := p.URI("a b.db"); !strings.HasSuffix(uri, "/default/a%20b.db") {
		t.Error(uri)
	}
	if p.Name() != "one" || p.Kind() != snapshot.BackendS3 || p.Prefix() != "default/" {
		t.Errorf("%s, %v, prefix %q", p.Name(), p.Kind(), p.Prefix())
	}
}
