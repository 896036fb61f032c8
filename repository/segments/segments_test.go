package segments_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	filippo "filippo.io/age"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/testenv/check"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/repository/signing"
	"github.com/snapshotd/snapshotd/snapshot"
)

var must = check.OK

const timeline = segment.Timeline("cdf818194e3a8c32-1784203200")

var begin = time.Unix(1_784_203_200, 0).UTC()

// place is the journal of a cluster on a backend in memory.
type place struct {
	*segments.Segments
	repo    *repository.Repository
	backend *memory.Backend
}

func newPlace(edit func(*repository.Config), cfg segments.Config) *place {
	p := &place{backend: memory.New("one", snapshot.BackendS3)}
	rc := repository.Config{Backend: p.backend, Cluster: "default", Prefix: "default/"}
	if edit != nil {
		edit(&rc)
	}
	p.repo = repository.New(rc)
	cfg.Repository = p.repo
	p.Segments = segments.New(cfg)
	return p
}

// run is a segment of some revisions; a word makes it another history.
func run(t testing.TB, first, last int64, word string) *segment.Segment {
	t.Helper()
	h := segment.Header{Timeline: timeline, Level: segment.Level10s, Member: 1, Term: 1, Previous: first - 1}
	if first > 1 {
		h.PreviousChain = segment.Chain{byte(first)}
	}
	b, err := segment.NewBuilder(h)
	must(t, err)
	for main := first; main <= last; main++ {
		must(t, b.Add(segment.Revision{
			Main: main, Time: begin.Add(time.Duration(main) * time.Second),
			Records: []segment.Record{{Value: fmt.Appendf(nil, "%s %d", word, main)}},
		}))
	}
	must(t, b.Add(segment.Watermark{Revision: last, Time: begin.Add(time.Duration(last) * time.Second)}))
	s, err := b.Seal()
	must(t, err)
	return s
}

// revisions reads a segment to its end.
func revisions(ctx context.Context, p *segments.Segments, r segments.Ref) (all []int64, err error) {
	m, err := p.Manifest(ctx, r)
	if err != nil {
		return nil, err
	}
	in, err := p.Open(ctx, m)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	for {
		e, err := in.Next()
		if err == io.EOF { //nolint:errorlint // a wrapped one is not the end
			return all, nil
		}
		if err != nil {
			return all, err
		}
		if rev, ok := e.(segment.Revision); ok {
			all = append(all, rev.Main)
		}
	}
}

func refs(t *testing.T, p *segments.Segments) (all []segments.Ref) {
	t.Helper()
	timelines, err := p.Timelines(t.Context())
	must(t, err)
	for _, line := range timelines {
		for _, l := range segment.Levels() {
			for item, err := range p.List(t.Context(), line, l) {
				must(t, err)
				all = append(all, item.Ref)
			}
		}
	}
	return all
}

// contents returns all objects by their keys.
func contents(b *memory.Backend) map[string][]byte {
	all := map[string][]byte{}
	for _, key := range b.Keys() {
		all[key] = bytes.Clone(b.Content(key))
	}
	return all
}

func TestSegmentIsStoredAndRead(t *testing.T) {
	recipients, identities := ageKeys(t)
	signer, trust := newKeys(t)
	for name, p := range map[string]*place{
		"plain":     newPlace(nil, segments.Config{}),
		"encrypted": newPlace(nil, segments.Config{Recipients: recipients, Identities: identities}),
		"signed": newPlace(func(c *repository.Config) { c.Signer, c.Trust = signer, trust },
			segments.Config{Recipients: recipients, Identities: identities}),
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			for _, s := range []*segment.Segment{run(t, 11, 20, "a"), run(t, 1, 10, "a"), run(t, 256, 300, "a")} {
				must(t, p.Put(ctx, s))
			}
			all := refs(t, p.Segments)
			if len(all) != 3 || all[0].First != 1 || all[1].First != 11 || all[2].Last != 300 {
				t.Fatalf("the listing is %+v", all)
			}
			got, err := revisions(ctx, p.Segments, all[1])
			if err != nil || len(got) != 10 || got[0] != 11 {
				t.Errorf("it holds %v (%v)", got, err)
			}
			newest, err := p.Newest(ctx, timeline)
			if err != nil || newest.Last != 300 || newest.Cluster != "default" {
				t.Errorf("the newest is %+v (%v)", newest, err)
			}
			suffix := ".seg"
			if name != "plain" {
				suffix += ".age"
			}
			want := "default/journal/" + string(timeline) + "/10s/000000000000000b-0000000000000014" + suffix
			if !slices.Contains(p.backend.Keys(), want) {
				t.Errorf("the keys are %q, without %s", p.backend.Keys(), want)
			}
			must(t, p.Remove(ctx, all[1]))
			if got := refs(t, p.Segments); len(got) != 2 {
				t.Errorf("after a removal there are %+v", got)
			}
			for _, k := range p.backend.Keys() {
				if strings.Contains(k, "000000000000000b") {
					t.Errorf("%s is left", k)
				}
			}
		})
	}
}

// Two writers of the same history agree, whatever the time of arrival, and two histories are an error of its own.
func TestSegmentIsCreatedOnce(t *testing.T) {
	recipients, identities := ageKeys(t)
	p := newPlace(nil, segments.Config{Recipients: recipients, Identities: identities})
	first := run(t, 1, 10, "a")
	must(t, p.Put(t.Context(), first))
	before := contents(p.backend)
	again := run(t, 1, 10, "a")
	again.Header.Term, again.Header.FirstTime = 2, again.Header.FirstTime.Add(time.Millisecond)
	must(t, p.Put(t.Context(), again))
	if !reflect.DeepEqual(contents(p.backend), before) {
		t.Error("the same history was written again")
	}
	err := p.Put(t.Context(), run(t, 1, 10, "b"))
	if !errors.Is(err, segments.ErrOtherHistory) || snapshot.ReasonOf(err) != snapshot.ReasonConflict {
		t.Errorf("another history: %v", err)
	}
	if !reflect.DeepEqual(contents(p.backend), before) {
		t.Error("another history was written")
	}
}

// Data without a manifest is of a writer that died: it is no segment, and the next writer replaces it.
func TestDataWithoutManifestIsReplaced(t *testing.T) {
	p := newPlace(nil, segments.Config{})
	s := run(t, 1, 10, "a")
	must(t, p.Put(t.Context(), s))
	ref := segments.RefOf(&s.Header)
	key := "default/journal/" + string(timeline) + "/10s/" + s.Header.Name()
	p.backend.Remove(key + ".json")
	p.backend.Set(key+".seg", []byte("cut"))
	if got := refs(t, p.Segments); len(got) != 0 {
		t.Errorf("it is listed: %+v", got)
	}
	must(t, p.Put(t.Context(), run(t, 1, 10, "a")))
	if got, err := revisions(t.Context(), p.Segments, ref); err != nil || len(got) != 10 {
		t.Errorf("it holds %v (%v)", got, err)
	}
	p.backend.Remove(key + ".seg")
	if got := refs(t, p.Segments); len(got) != 0 {
		t.Errorf("a manifest without data is listed: %+v", got)
	}
}

// A manifest whose data is not there, or is not all of it, does not count as a segment.
func TestManifestWithoutItsDataIsReplaced(t *testing.T) {
	recipients, identities := ageKeys(t)
	for name, spoil := range map[string]func(b *memory.Backend, key string){
		"missing": func(b *memory.Backend, key string) { b.Remove(key) },
		"cut":     func(b *memory.Backend, key string) { b.Set(key, b.Content(key)[:100]) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(nil, segments.Config{Recipients: recipients, Identities: identities})
			s := run(t, 1, 10, "a")
			must(t, p.Put(t.Context(), s))
			spoil(p.backend, "default/journal/"+string(timeline)+"/10s/"+s.Header.Name()+".seg.age")
			must(t, p.Put(t.Context(), run(t, 1, 10, "a")))
			if got, err := revisions(t.Context(), p.Segments, segments.RefOf(&s.Header)); err != nil || len(got) != 10 {
				t.Errorf("it holds %v (%v)", got, err)
			}
		})
	}
}

// Each of these is an error that names the segment and its revisions, and has a reason of its own.
func TestBadSegmentsAreErrorsThatNameThem(t *testing.T) {
	recipients, identities := ageKeys(t)
	others, otherIdentities := ageKeys(t)
	signer, trust := newKeys(t)
	foreign, _ := newKeys(t)
	ours := segments.Config{Recipients: recipients, Identities: identities}
	put := func(t *testing.T, edit func(*repository.Config), cfg segments.Config, s *segment.Segment) map[string][]byte {
		t.Helper()
		from := newPlace(edit, cfg)
		must(t, from.Put(t.Context(), s))
		return contents(from.backend)
	}
	signed := func(c *repository.Config) { c.Signer, c.Trust = signer, trust }
	base := "default/journal/" + string(timeline) + "/10s/" + segment.Name(11, 20)
	for name, tc := range map[string]struct {
		spoil      func(t *testing.T, b *memory.Backend)
		identities *age.Identities
		reason     snapshot.Reason
	}{
		"torn": {spoil: func(_ *testing.T, b *memory.Backend) { b.Set(base+".seg.age", contents(b)[base+".seg.age"][:100]) },
			reason: snapshot.ReasonChecksumMismatch},
		"longer": {spoil: func(_ *testing.T, b *memory.Backend) { b.Set(base+".seg.age", append(contents(b)[base+".seg.age"], 0)) },
			reason: snapshot.ReasonChecksumMismatch},
		"a changed bit": {spoil: func(_ *testing.T, b *memory.Backend) {
			data := contents(b)[base+".seg.age"]
			data[len(data)-20] ^= 1
			b.Set(base+".seg.age", data)
		}, reason: snapshot.ReasonChecksumMismatch},
		"swapped data": {spoil: func(t *testing.T, b *memory.Backend) {
			other := put(t, signed, ours, run(t, 21, 30, "a"))
			b.Set(base+".seg.age", other["default/journal/"+string(timeline)+"/10s/"+segment.Name(21, 30)+".seg.age"])
		}, reason: snapshot.ReasonChecksumMismatch},
		"swapped with its manifest": {spoil: func(t *testing.T, b *memory.Backend) {
			other := put(t, signed, ours, run(t, 21, 30, "a"))
			for _, suffix := range []string{".seg.age", ".json"} {
				b.Set(base+suffix, other["default/journal/"+string(timeline)+"/10s/"+segment.Name(21, 30)+suffix])
			}
		}, reason: snapshot.ReasonChecksumMismatch},
		"missing data": {spoil: func(_ *testing.T, b *memory.Backend) { b.Remove(base + ".seg.age") }, reason: snapshot.ReasonObjectNotFound},
		"a manifest that is cut": {spoil: func(_ *testing.T, b *memory.Backend) { b.Set(base+".json", contents(b)[base+".json"][:200]) },
			reason: snapshot.ReasonManifestUntrusted},
		"forged": {spoil: func(t *testing.T, b *memory.Backend) {
			for k, v := range put(t, func(c *repository.Config) { c.Signer = foreign }, ours, run(t, 11, 20, "b")) {
				b.Set(k, v)
			}
		}, reason: snapshot.ReasonManifestUntrusted},
		"not signed": {spoil: func(t *testing.T, b *memory.Backend) {
			for k, v := range put(t, nil, ours, run(t, 11, 20, "b")) {
				b.Set(k, v)
			}
		}, reason: snapshot.ReasonManifestUntrusted},
		"of another cluster": {spoil: func(t *testing.T, b *memory.Backend) {
			other := func(c *repository.Config) { signed(c); c.Cluster = "other" }
			for k, v := range put(t, other, ours, run(t, 11, 20, "b")) {
				b.Set(k, v)
			}
		}, reason: snapshot.ReasonManifestUntrusted},
		"encrypted for others": {spoil: func(t *testing.T, b *memory.Backend) {
			for k, v := range put(t, signed, segments.Config{Recipients: others}, run(t, 11, 20, "a")) {
				b.Set(k, v)
			}
		}, reason: snapshot.ReasonSnapshotSealed},
		"encrypted for others than it says": {spoil: func(t *testing.T, b *memory.Backend) {
			other := put(t, signed, segments.Config{Recipients: others}, run(t, 11, 20, "a"))
			b.Set(base+".seg.age", other[base+".seg.age"])
		}, reason: snapshot.ReasonChecksumMismatch},
		"no identity":        {identities: new(age.Identities), reason: snapshot.ReasonSnapshotSealed},
		"another's identity": {identities: &otherIdentities, reason: snapshot.ReasonSnapshotSealed},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := ours
			if tc.identities != nil {
				cfg.Identities = *tc.identities
			}
			p := newPlace(signed, cfg)
			for _, s := range []*segment.Segment{run(t, 1, 10, "a"), run(t, 11, 20, "a")} {
				must(t, p.Put(t.Context(), s))
			}
			if tc.spoil != nil {
				tc.spoil(t, p.backend)
			}
			_, err := revisions(t.Context(), p.Segments, segments.Ref{Timeline: timeline, Level: segment.Level10s, First: 11, Last: 20})
			if snapshot.ReasonOf(err) != tc.reason {
				t.Errorf("%v has the reason %s, want %s", err, snapshot.ReasonOf(err), tc.reason)
			}
			if err == nil || !strings.Contains(err.Error(), segment.Name(11, 20)) {
				t.Errorf("%v does not name the segment", err)
			}
			if err == nil || !strings.Contains(err.Error(), "revisions 11 to 20") {
				t.Errorf("%v does not name the revisions", err)
			}
			if tc.identities == nil {
				got, err := revisions(t.Context(), p.Segments, segments.Ref{Timeline: timeline, Level: segment.Level10s, First: 1, Last: 10})
				if err != nil || len(got) != 10 {
					t.Errorf("the other segment: %v, %v", got, err)
				}
			}
		})
	}
}

// What lists, sweeps, adopts and reads snapshots does not see the journal.
func TestSnapshotsDoNotSeeTheJournal(t *testing.T) {
	for _, prefix := range []string{"default/", ""} {
		p := newPlace(func(c *repository.Config) { c.Prefix = prefix }, segments.Config{})
		must(t, p.Put(t.Context(), run(t, 1, 10, "a")))
		p.backend.Set(prefix+"journal/"+string(timeline)+"/10s/"+segment.Name(11, 20)+".seg", []byte("of a writer that died"))
		before := contents(p.backend)
		for g, err := range p.repo.Groups(p.repo.List(t.Context()), func(key string) { t.Errorf("%q is foreign", key) }) {
			must(t, err)
			t.Errorf("there is a snapshot %q", g.Name)
		}
		entries, err := p.repo.Entries(t.Context())
		if err != nil || len(entries) > 0 {
			t.Errorf("the entries are %+v (%v)", entries, err)
		}
		n, err := p.repo.Sweep(t.Context(), repository.SweepOptions{OlderThan: time.Now().Add(time.Hour)})
		if err != nil || n > 0 || !reflect.DeepEqual(contents(p.backend), before) {
			t.Errorf("%d objects were swept (%v)", n, err)
		}
	}
}

func TestAnotherStoreIsNotWrittenTo(t *testing.T) {
	known := &stores{snapshot.Store{ID: "mine", Initialized: true, Version: 1}}
	p := newPlace(func(c *repository.Config) { c.Stores = known }, segments.Config{})
	err := p.Put(t.Context(), run(t, 1, 10, "a"))
	if snapshot.ReasonOf(err) != snapshot.ReasonBackendWrongStore || len(p.backend.Keys()) > 0 {
		t.Errorf("%v, and it has %q", err, p.backend.Keys())
	}
}

// stores is the part of a catalog that remembers one store.
type stores struct{ known snapshot.Store }

func (s *stores) Store(context.Context, string) (snapshot.Store, error) { return s.known, nil }

func (s *stores) PutStore(_ context.Context, _ string, st snapshot.Store) error {
	s.known = st
	return nil
}

func FuzzManifest(f *testing.F) {
	p := newPlace(nil, segments.Config{})
	s := run(f, 1, 10, "a")
	must(f, p.Put(f.Context(), s))
	key := "default/journal/" + string(timeline) + "/10s/" + s.Header.Name() + ".json"
	f.Add(contents(p.backend)[key])
	f.Fuzz(func(t *testing.T, doc []byte) {
		p.backend.Set(key, bytes.Clone(doc))
		m, err := p.Manifest(t.Context(), segments.RefOf(&s.Header))
		switch {
		case err == nil && m.Ref() != segments.RefOf(&s.Header):
			t.Fatalf("it is of %+v", m.Ref())
		case err != nil && !snapshot.IsDamage(err):
			t.Fatal(err)
		}
	})
}

func ageKeys(t testing.TB) (age.Recipients, age.Identities) {
	t.Helper()
	id, err := filippo.GenerateX25519Identity()
	must(t, err)
	file := filepath.Join(t.TempDir(), "identity")
	must(t, os.WriteFile(file, []byte(id.String()), 0o600))
	ids, err := age.ReadIdentities(file)
	must(t, err)
	to, err := age.NewRecipients([]string{id.Recipient().String()})
	must(t, err)
	return to, ids
}

func newKeys(t testing.TB) (*signing.Signer, *signing.Trust) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	signer, err := signing.NewSigner(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	must(t, err)
	trust := signing.NewTrust(false)
	trust.AddSigner(signer)
	return signer, trust
}

// cutting is a backend whose answers are cut by a proxy that mends their length.
type cutting struct {
	repository.Backend
	suffix string // of the keys; empty for none
}

func (c *cutting) Get(ctx context.Context, key string, part repository.Range) (io.ReadCloser, error) {
	object, err := c.Backend.Get(ctx, key, part)
	if err != nil || c.suffix == "" || !strings.HasSuffix(key, c.suffix) {
		return object, err
	}
	defer func() { _ = object.Close() }()
	data, err := io.ReadAll(object)
	return io.NopCloser(bytes.NewReader(data[:len(data)/2])), err
}

// Half of an answer is no damage: another attempt gets all of it.
func TestShortAnswersAreTheBackendsErrors(t *testing.T) {
	recipients, identities := ageKeys(t)
	for name, cfg := range map[string]segments.Config{
		"plain": {}, "encrypted": {Recipients: recipients, Identities: identities}, "without identity": {Recipients: recipients},
	} {
		c := &cutting{}
		p := newPlace(func(rc *repository.Config) { c.Backend, rc.Backend = rc.Backend, c }, cfg)
		s := run(t, 1, 9, "short")
		must(t, p.Put(t.Context(), s))
		m, err := p.Manifest(t.Context(), segments.RefOf(&s.Header))
		must(t, err)
		for what, read := range map[string]func() error{
			"manifest": func() error { _, err := p.Manifest(t.Context(), m.Ref()); return err },
			"fetch":    func() error { return p.Fetch(t.Context(), m, io.Discard) },
			"check":    func() error { return p.Check(t.Context(), m) },
		} {
			if c.suffix = m.Name() + ".seg"; m.Encrypted() {
				c.suffix += ".age"
			}
			if what == "manifest" {
				c.suffix = m.Name() + ".json"
			}
			if err := read(); snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable {
				t.Errorf("%s, %s: %v", name, what, err)
			}
			c.suffix = "none"
			must(t, read())
		}
	}
}

// Bytes that are cut on the backend itself are damage.
func TestACutSegmentIsDamaged(t *testing.T) {
	p := newPlace(nil, segments.Config{})
	s := run(t, 1, 9, "cut")
	must(t, p.Put(t.Context(), s))
	m, err := p.Manifest(t.Context(), segments.RefOf(&s.Header))
	must(t, err)
	for key, data := range contents(p.backend) {
		if strings.HasSuffix(key, ".seg") {
			p.backend.Set(key, data[:len(data)/2])
		}
	}
	if err := p.Check(t.Context(), m); snapshot.ReasonOf(err) != snapshot.ReasonChecksumMismatch {
		t.Error(err)
	}
}
