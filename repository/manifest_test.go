package repository_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/repository/signing"
	"github.com/snapshotd/snapshotd/snapshot"
)

func TestManifestHasEverythingButThePartsOfTheCatalog(t *testing.T) {
	want := wholeRecord()
	m, err := verify(t, nil, encoded(t, want, nil))
	must(t, err)
	if !reflect.DeepEqual(m.Record, want) {
		t.Errorf("decoded\n%+v\nwant\n%+v", m.Record, want)
	}
	// A field that is forgotten in the manifest shows up here when it is added to the snapshot.
	catalogOnly := map[string]bool{"Etag": true, "Verification": true, "Earlier": true, "Proof": true, "JournalProof": true, "status": true}
	v := reflect.ValueOf(m.Record.Snapshot)
	for i := range v.NumField() {
		if field := v.Type().Field(i).Name; v.Field(i).IsZero() != catalogOnly[field] {
			t.Errorf("field %s: zero %v, catalog only %v", field, v.Field(i).IsZero(), catalogOnly[field])
		}
	}
}

func TestManifestNamesTheChosenBackends(t *testing.T) {
	rec := snapshot.NewSave(wholeRecord().Snapshot, "id", "owner", []snapshot.Location{{Backend: "two"}, {Backend: "one"}})
	m, err := verify(t, nil, encoded(t, rec, nil))
	if err != nil || !slices.Equal(m.Chosen(), []string{"two", "one"}) || len(m.Record.Locations()) != 0 {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestManifestOfAnotherFormatIsNotUsable(t *testing.T) {
	doc := string(encoded(t, wholeRecord(), nil))
	deep := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
	many, err := json.Marshal(manyLabels(40_000))
	must(t, err)
	for what, edit := range map[string][2]string{
		"newer":            {`"formatVersion": 1`, `"formatVersion": 2`},
		"no version":       {`"formatVersion": 1,`, ``},
		"path as name":     {`"` + name + `"`, `"../../etc/passwd"`},
		"no compression":   {`"COMPRESSION_ZSTD"`, `"COMPRESSION_LZ4"`},
		"short checksum":   {strings.Repeat("b", 64), "b"},
		"negative size":    {`"1000"`, `"-1000"`},
		"size beyond all":  {`"1000"`, `"99999999999999999999"`},
		"bad duration":     {`"1.234567891s"`, `"soon"`},
		"endless duration": {`"1.234567891s"`, `"1e999s"`},
		"year 0":           {`"2023-11-14T22:13:20.000000123Z"`, `"0000-01-01T00:00:00Z"`},
		"no time":          {`"2023-11-14T22:13:20.000000123Z"`, `"yesterday"`},
		"many labels":      {`"pinned"`, `"labels": ` + string(many) + `, "pinned"`},
		"large node":       {`"node-1"`, `"` + strings.Repeat("\xff", 300<<10) + `"`},
		"deep":             {`"pinned"`, `"x": ` + deep + `, "pinned"`},
		"2 MB":             {`"pinned"`, `"x": "` + strings.Repeat("x", 2<<20) + `", "pinned"`},
		"rubbish":          {`{`, `[`},
		"null":             {doc, "null\n"},
		"list":             {doc, "[]\n"},
		"nothing":          {doc, ""},
	} {
		changed := strings.Replace(doc, edit[0], edit[1], 1)
		if changed == doc {
			t.Fatalf("%s: nothing was changed", what)
		}
		m, err := verify(t, nil, []byte(changed))
		wantReason(t, what, err, snapshot.ReasonChecksumMismatch)
		if !errors.Is(err, repository.ErrManifestUnusable) || m != nil {
			t.Errorf("%s: %+v, %v", what, m, err)
		}
		_, trust := newSigner(t)
		_, err = verify(t, trust, []byte(changed))
		wantReason(t, what+", and not signed", err, snapshot.ReasonManifestUntrusted)
	}
}

func manyLabels(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[strings.Repeat("k", i%100)+time.Duration(i).String()] = "v"
	}
	return m
}

// A manifest is not usable for another name or cluster, and one that is not trusted still says what it claims to be.
func TestManifestOfAnotherSnapshot(t *testing.T) {
	type edit = func(*snapshot.Record)
	rename := func(r *snapshot.Record) { r.Name = "other" }
	move := func(r *snapshot.Record) { r.Cluster = "other" }
	signer, trust := newSigner(t)
	for what, x := range map[string]struct {
		edit   edit
		trust  *signing.Trust
		signer *signing.Signer
		text   string
		reason snapshot.Reason
	}{
		"name":      {edit: rename, text: `the manifest is of "other"`},
		"cluster":   {edit: move, text: `the manifest is of cluster "other"`},
		"signed":    {move, trust, signer, `the manifest is of cluster "other"`, ""},
		"untrusted": {rename, trust, nil, "not signed", snapshot.ReasonManifestUntrusted},
	} {
		rec := wholeRecord()
		x.edit(rec)
		m, err := verify(t, x.trust, encoded(t, rec, x.signer))
		wantText(t, what, err, x.text)
		if x.reason == "" {
			x.reason = snapshot.ReasonChecksumMismatch
		}
		wantReason(t, what, err, x.reason)
		unusable := errors.Is(err, repository.ErrManifestUnusable)
		if unusable != (x.reason == snapshot.ReasonChecksumMismatch) {
			t.Errorf("%s: unusable %v", what, unusable)
		}
		if m == nil || !reflect.DeepEqual(m.Record, rec) {
			t.Errorf("%s: the manifest is %+v", what, m)
		}
	}
	rec := wholeRecord()
	rec.Cluster = "other"
	p := newPlace(func(c *repository.Config) { c.Cluster = "" })
	must(t, p.PutManifest(t.Context(), name, encoded(t, rec, nil)))
	if _, err := p.ReadManifest(t.Context(), name); err != nil {
		t.Errorf("where any cluster will do: %v", err)
	}
}

func TestManifestThatCannotBeRead(t *testing.T) {
	if _, err := newPlace().ReadManifest(t.Context(), name); !snapshot.IsNotFound(err) {
		t.Errorf("that is not there: %v", err)
	}
	_, err := breaking(errors.New("broken")).ReadManifest(t.Context(), name)
	wantReason(t, "that breaks off", err, snapshot.ReasonBackendUnavailable)
	b := &hooked{Backend: memory.New("one", snapshot.BackendS3)}
	b.get = func(context.Context, string, repository.Range) (io.ReadCloser, error) { return nil, errDown }
	if _, err := repository.New(repository.Config{Backend: b}).ReadManifest(t.Context(), name); !errors.Is(err, errDown) {
		t.Errorf("of a backend that is down: %v", err)
	}
}

// A backend that gives a part of a manifest does not make it a damaged or forged one.
func TestManifestOfTheWrongLengthIsNoDamage(t *testing.T) {
	p := newPlace()
	doc := encoded(t, wholeRecord(), nil)
	p.backend.Set("default/"+name+".json", doc)
	for what, give := range map[string][]byte{"nothing": {}, "half": doc[:len(doc)/2], "an error behind half": append(bytes.Clone(doc[:len(doc)/2]), "<Error/>"...)} {
		r := newPlace(func(c *repository.Config) { c.Backend = misgiving{p.backend, give} })
		_, err := r.ReadManifest(t.Context(), name)
		wantReason(t, what, err, snapshot.ReasonBackendUnavailable)
	}
}

func TestCheckManifestComparesItWithTheRecord(t *testing.T) {
	p := newPlace()
	doc := encoded(t, wholeRecord(), nil)
	p.backend.Set("default/"+name+".json", doc)
	if got, err := p.CheckManifest(t.Context(), wholeRecord()); err != nil || string(got) != string(doc) {
		t.Errorf("%q, %v", got, err)
	}
	for what, edit := range map[string]func(*snapshot.Record){
		"cluster":       func(r *snapshot.Record) { r.Cluster = "other" },
		"stored sha256": func(r *snapshot.Record) { r.StoredSHA256 = strings.Repeat("c", 64) },
		"stored size":   func(r *snapshot.Record) { r.StoredSize++ },
		"sha256":        func(r *snapshot.Record) { r.SHA256 = strings.Repeat("c", 64) },
		"size":          func(r *snapshot.Record) { r.DBSize++ },
		"revision":      func(r *snapshot.Record) { r.Revision++ },
		"keys":          func(r *snapshot.Record) { r.TotalKeys++ },
		"hash":          func(r *snapshot.Record) { r.Hash++ },
	} {
		other := wholeRecord()
		edit(other)
		must(t, p.PutManifest(t.Context(), name, encoded(t, other, nil)))
		_, err := p.CheckManifest(t.Context(), wholeRecord())
		wantReason(t, what, err, snapshot.ReasonChecksumMismatch)
		wantText(t, what, err, "which is not what the catalog has")
		wantText(t, what, err, "repair replaces it")
	}
	other := wholeRecord() // labels and pins are not the snapshot's
	other.Labels, other.Pinned = nil, false
	must(t, p.PutManifest(t.Context(), name, encoded(t, other, nil)))
	if _, err := p.CheckManifest(t.Context(), wholeRecord()); err != nil {
		t.Errorf("other labels: %v", err)
	}
	p.backend.Set("default/"+name+".json", []byte("{"))
	_, err := p.CheckManifest(t.Context(), wholeRecord())
	wantReason(t, "damaged", err, snapshot.ReasonChecksumMismatch)
	p.backend.Remove("default/" + name + ".json")
	if _, err := p.CheckManifest(t.Context(), wholeRecord()); !snapshot.IsNotFound(err) {
		t.Errorf("that is not there: %v", err)
	}
}

// FuzzManifest: a document that is read is encoded to one that is read as the same, and is read as any other reader of
// JSON reads it.
func FuzzManifest(f *testing.F) {
	signer, _ := newSigner(f)
	f.Add(encoded(f, wholeRecord(), nil))
	f.Add(encoded(f, wholeRecord(), signer))
	f.Add([]byte(`{"formatVersion":1}`))
	f.Add(edited(f, `"pinned"`, `"backends": ["one"], "x": [{"y": null, "z": 1e999}], "pinned"`))
	f.Add(edited(f, `"1.234567891s"`, `"1.2345678910000001s"`))
	f.Add(edited(f, `"a": "b"`, `"a": "b", "\u0061": "\ud800"`))
	f.Add(edited(f, `"name"`, `"NAME"`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		m, _ := verify(t, nil, doc)
		if m == nil {
			return
		}
		again, err := verify(t, nil, encoded(t, m.Record, nil))
		if again == nil || !reflect.DeepEqual(again.Record, m.Record) {
			t.Fatalf("decoded %+v, %v; want %+v", again, err, m.Record)
		}
		var plain map[string]any
		dec := json.NewDecoder(bytes.NewReader(doc))
		dec.UseNumber()
		if err := dec.Decode(&plain); err != nil {
			t.Fatalf("it is no JSON: %v", err)
		}
		for member, want := range map[string]string{
			"name": m.Record.Name, "cluster": m.Record.Cluster, "storedSha256": m.Record.StoredSHA256,
			"storedSizeBytes": strconv.FormatInt(m.Record.StoredSize, 10),
		} {
			if got, _ := plain[member].(string); got != want {
				t.Fatalf("%s is %q, and for another reader %q", member, want, got)
			}
		}
	})
}

// The page on the format names every member of a manifest and of the marker, in the order in which they are written.
func TestFormatPageNamesEveryMember(t *testing.T) {
	signer, _ := newSigner(t)
	rec := snapshot.NewSave(wholeRecord().Snapshot, "id", "owner", []snapshot.Location{{Backend: "one"}})
	p := newPlace()
	must(t, p.OpenVerified(t.Context(), true))
	page, err := os.ReadFile(filepath.Join("..", "docs", "format.md"))
	must(t, err)
	for heading, doc := range map[string][]byte{
		"## The manifest": encoded(t, rec, signer),
		"## The marker":   p.backend.Content(snapshot.MarkerKey),
	} {
		_, section, _ := strings.Cut(string(page), heading+"\n")
		section, _, _ = strings.Cut(section, "\n#")
		var documented, written []string
		for line := range strings.Lines(section) {
			if cells := strings.Split(line, "|"); len(cells) > 3 && strings.HasPrefix(cells[1], " `") {
				documented = append(documented, strings.Trim(cells[1], " `"))
			}
		}
		for line := range strings.Lines(string(doc)) {
			if member, ok := strings.CutPrefix(line, `  "`); ok {
				member, _, _ = strings.Cut(member, `"`)
				written = append(written, member)
			}
		}
		if strings.Join(documented, " ") != strings.Join(written, " ") {
			t.Errorf("%s: documented\n%q\nwritten\n%q", heading, documented, written)
		}
	}
}
