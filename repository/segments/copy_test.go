package segments_test

import (
	"context"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

// A copy is the segment byte for byte, and its manifest with the signature. No key is needed for it.
func TestACopyIsTheSameBytes(t *testing.T) {
	recipients, _ := ageKeys(t)
	signer, trust := newKeys(t)
	from := newPlace(func(c *repository.Config) { c.Signer, c.Trust = signer, trust }, segments.Config{Recipients: recipients})
	s := run(t, 11, 20, "a")
	must(t, from.Put(t.Context(), s))
	m, err := from.Manifest(t.Context(), segments.RefOf(&s.Header))
	must(t, err)
	to := newPlace(func(c *repository.Config) { c.Trust = trust }, segments.Config{})
	must(t, to.CopyFrom(t.Context(), from.Segments, m, false))
	want, got := contents(from.backend), contents(to.backend)
	for key := range want {
		if !strings.Contains(key, segment.Name(11, 20)) { // the document of the timeline is signed by its writer
			delete(want, key)
			delete(got, key)
		}
	}
	if !reflect.DeepEqual(got, want) || len(got) != 2 {
		t.Errorf("it has %d objects, want %d", len(got), len(want))
	}
	if all := refs(t, to.Segments); len(all) != 1 {
		t.Errorf("the listing is %+v", all)
	}
}

func TestACopyOfADamagedSegmentIsNotStored(t *testing.T) {
	recipients, identities := ageKeys(t)
	for name, cfg := range map[string]segments.Config{
		"with an identity": {Recipients: recipients, Identities: identities}, "without": {Recipients: recipients},
	} {
		from, to := newPlace(nil, cfg), newPlace(nil, cfg)
		s := run(t, 11, 20, "a")
		must(t, from.Put(t.Context(), s))
		m, err := from.Manifest(t.Context(), segments.RefOf(&s.Header))
		must(t, err)
		for key, data := range contents(from.backend) {
			if strings.HasSuffix(key, ".age") {
				data[len(data)-1] ^= 1
				from.backend.Set(key, data)
			}
		}
		for _, replace := range []bool{false, true} {
			if err := to.CopyFrom(t.Context(), from.Segments, m, replace); snapshot.ReasonOf(err) != snapshot.ReasonChecksumMismatch {
				t.Errorf("%s: %v", name, err)
			}
		}
		if all := refs(t, to.Segments); len(all) > 0 {
			t.Errorf("%s: it holds %+v", name, all)
		}
	}
}

// A segment that is there stays, whichever bytes it has, and one of another history is an error. One that is written over
// may have been encrypted when the copy is not.
func TestACopyReplacesNothingUnasked(t *testing.T) {
	recipients, identities := ageKeys(t)
	from, to := newPlace(nil, segments.Config{}), newPlace(nil, segments.Config{Recipients: recipients, Identities: identities})
	s := run(t, 11, 20, "a")
	ref := segments.RefOf(&s.Header)
	must(t, from.Put(t.Context(), s))
	must(t, to.Put(t.Context(), s))
	m, err := from.Manifest(t.Context(), ref)
	must(t, err)
	before := contents(to.backend)
	must(t, to.CopyFrom(t.Context(), from.Segments, m, false))
	if !reflect.DeepEqual(contents(to.backend), before) {
		t.Error("something was changed")
	}
	must(t, to.CopyFrom(t.Context(), from.Segments, m, true))
	for key := range contents(to.backend) {
		if strings.HasSuffix(key, ".age") {
			t.Errorf("%s is left", key)
		}
	}
	if got, err := revisions(t.Context(), to.Segments, ref); err != nil || len(got) != 10 {
		t.Errorf("it holds %v (%v)", got, err)
	}
	other := newPlace(nil, segments.Config{})
	must(t, other.Put(t.Context(), run(t, 11, 20, "b")))
	if err := other.CopyFrom(t.Context(), from.Segments, m, false); !errors.Is(err, segments.ErrOtherHistory) {
		t.Errorf("another history: %v", err)
	}
}

// A writer knows for a while that the document of its timeline is there, which another replica may sweep meanwhile.
func TestASweptTimelineIsWrittenAgain(t *testing.T) {
	seg := run(t, 1, 10, "a") // outside of the bubble: all tests share the encoders, which have channels
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(nil, segments.Config{})
		other := segments.New(segments.Config{Repository: p.repo})
		document := "default/journal/" + string(timeline) + ".json"
		for _, sweeper := range []*segments.Segments{p.Segments, other} {
			must(t, p.Put(t.Context(), seg))
			if all := refs(t, p.Segments); len(all) != 1 {
				t.Errorf("the listing is %+v", all)
			}
			must(t, p.Remove(t.Context(), refs(t, p.Segments)[0]))
			time.Sleep(time.Hour)
			gone, err := sweeper.SweepTimeline(t.Context(), timeline, time.Now())
			if !gone || err != nil || p.backend.Content(document) != nil {
				t.Fatalf("%v, %v", gone, err)
			}
		}
		must(t, p.Put(t.Context(), seg))
		if all := refs(t, p.Segments); len(all) != 1 {
			t.Errorf("the listing is %+v", all)
		}
	})
}

// meanwhile is a backend on which something else happens while an object is stored, before it is there.
type meanwhile struct {
	repository.Backend
	suffix string // of its key
	then   func()
}

func (m *meanwhile) Put(ctx context.Context, key string, r io.Reader, opts repository.PutOptions) error {
	if then := m.then; then != nil && strings.HasSuffix(key, m.suffix) {
		m.then = nil
		then()
	}
	return m.Backend.Put(ctx, key, r, opts)
}

// The upload of the data is slow, and the timeline has been empty for long. Another replica sweeps it meanwhile, and sees
// nothing of the segment.
func TestATimelineThatIsSweptWhileASegmentIsStoredIsThere(t *testing.T) {
	m := &meanwhile{suffix: ".seg"}
	p := newPlace(func(c *repository.Config) { m.Backend, c.Backend = c.Backend, m }, segments.Config{})
	other := newPlace(func(c *repository.Config) { c.Backend = m.Backend }, segments.Config{})
	m.then = func() {
		if gone, err := other.SweepTimeline(t.Context(), timeline, time.Now().Add(time.Hour)); !gone || err != nil {
			t.Errorf("it is not swept: %v, %v", gone, err)
		}
	}
	must(t, p.Put(t.Context(), run(t, 1, 10, "a")))
	if timelines, err := p.Timelines(t.Context()); len(timelines) != 1 || err != nil {
		t.Errorf("%v, %v", timelines, err)
	}
}

// A rule of the bucket removes the document of a timeline because it is old. It is written anew while segments come.
func TestTheDocumentOfATimelineIsWrittenAnew(t *testing.T) {
	var all []*segment.Segment
	for first := int64(1); first < 130; first += 10 {
		all = append(all, run(t, first, first+9, "a")) // outside of the bubble: all tests share the encoders
	}
	p := newPlace(nil, segments.Config{})
	synctest.Test(t, func(t *testing.T) {
		for i, s := range all {
			must(t, p.Put(t.Context(), s))
			if i == 0 {
				p.backend.Remove("default/journal/" + string(timeline) + ".json")
			}
			time.Sleep(time.Minute)
		}
		if timelines, err := p.Timelines(t.Context()); len(timelines) != 1 || err != nil {
			t.Errorf("%v, %v", timelines, err)
		}
	})
}

// A writer died before the manifest, long ago, and comes back while another replica sweeps its data. The sweep has looked
// before the new data was there, and deletes it at any time after. Nobody takes the segment for stored then.
func TestDataThatIsSweptWhileItIsStoredIsMissed(t *testing.T) {
	for name, tc := range map[string]struct {
		after  bool // the segment is complete then
		writer bool // hears of it; else the sweeper does
	}{
		"before the manifest": {writer: true},
		"behind the manifest": {after: true},
	} {
		t.Run(name, func(t *testing.T) {
			m := &meanwhile{}
			p := newPlace(func(c *repository.Config) { m.Backend, c.Backend = c.Backend, m }, segments.Config{})
			s := run(t, 1, 10, "a")
			m.suffix = s.Header.Name() + ".json"
			must(t, p.Put(t.Context(), s))
			for _, key := range p.backend.Keys() {
				if strings.HasSuffix(key, m.suffix) {
					p.backend.Remove(key)
				}
			}
			late := &deleting{Backend: m.Backend}
			sweeper := newPlace(func(c *repository.Config) { c.Backend = late }, segments.Config{})
			var stored error
			late.first = func(del func()) {
				if !tc.after {
					m.then = del
				}
				stored = p.Put(t.Context(), s)
				if tc.after {
					del()
				}
			}
			_, _, err := sweeper.Sweep(t.Context(), timeline, time.Now().Add(time.Hour))
			if (stored != nil) != tc.writer || stored == nil && snapshot.ReasonOf(err) != snapshot.ReasonConflict {
				t.Errorf("the writer hears %v, and the sweeper %v", stored, err)
			}
			must(t, p.Put(t.Context(), s)) // the next attempt
			if got, err := revisions(t.Context(), p.Segments, segments.RefOf(&s.Header)); err != nil || len(got) != 10 {
				t.Errorf("it holds %v (%v)", got, err)
			}
		})
	}
}

// deleting is a backend with which something else happens before an object is deleted.
type deleting struct {
	repository.Backend
	first func(del func())
}

func (d *deleting) Delete(ctx context.Context, key string) error {
	if d.first == nil {
		return d.Backend.Delete(ctx, key)
	}
	first := d.first
	d.first = nil
	var err error
	first(func() { err = d.Backend.Delete(ctx, key) })
	return err
}
