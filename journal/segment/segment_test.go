package segment_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/snapshotd/snapshotd/internal/testenv/check"
	"github.com/snapshotd/snapshotd/journal/segment"
)

var must = check.OK

var begin = time.UnixMilli(1_784_203_200_123).UTC()

const timeline = segment.Timeline("cdf818194e3a8c32-1784203200")

func revision(main int64, values ...string) segment.Revision {
	r := segment.Revision{Main: main, Time: begin.Add(time.Duration(main) * time.Second)}
	for i, v := range values {
		r.Records = append(r.Records, segment.Record{Sub: int64(i), Tombstone: strings.HasPrefix(v, "-"), Value: []byte(v)})
	}
	return r
}

// all has an entry of each kind.
func all() []segment.Entry {
	return []segment.Entry{
		segment.Watermark{Revision: 99, Time: begin},
		revision(100, "a"),
		segment.Lease{ID: -5, GrantedTTL: 60, Revision: 100},
		revision(101, "b", "-a", strings.Repeat("c", 300)),
		segment.Lease{ID: 7, Revision: 101, Gone: true},
		segment.Leases{IDs: []int64{1, 9, -9}, Revision: 101},
		segment.Leases{Revision: 101},
		segment.Compaction{Revision: 90, After: 95, Before: 101},
		segment.Auth{AuthRevision: 1 << 63, Revision: 101},
		segment.Auth{AuthRevision: 1 << 63, Revision: 101, Enabled: true},
		revision(102, "d"),
		segment.Watermark{Revision: 102, Time: begin.Add(time.Hour)},
	}
}

func header() segment.Header {
	return segment.Header{Timeline: timeline, Level: segment.Level10s, Member: 0x8e9e05c52164694d, Term: 3, Previous: 99, PreviousChain: segment.Chain{1}}
}

func sealed(t testing.TB, h segment.Header, entries ...segment.Entry) *segment.Segment {
	t.Helper()
	b, err := segment.NewBuilder(h)
	must(t, err)
	for _, e := range entries {
		must(t, b.Add(e))
	}
	s, err := b.Seal()
	must(t, err)
	return s
}

// opened reads a segment to its end.
func opened(data []byte) (h segment.Header, entries []segment.Entry, err error) {
	r, err := segment.NewReader(bytes.NewReader(data))
	if err != nil {
		return h, nil, err
	}
	defer r.Close()
	for {
		e, err := r.Next()
		if err == io.EOF { //nolint:errorlint // a wrapped one is not the end
			return r.Header(), entries, nil
		}
		if err != nil {
			return r.Header(), entries, err
		}
		entries = append(entries, e)
	}
}

func TestSegmentHoldsItsEntries(t *testing.T) {
	s := sealed(t, header(), all()...)
	h, entries, err := opened(s.Data)
	must(t, err)
	if !reflect.DeepEqual(entries, all()) {
		t.Errorf("it has %+v, want %+v", entries, all())
	}
	if !h.Equal(&s.Header) {
		t.Errorf("the headers are %+v and %+v", h, s.Header)
	}
	if h.First != 100 || h.Last != 102 || h.Records != 5 || h.Entries != int64(len(entries)) || h.Name() != "0000000000000064-0000000000000066" ||
		h.CompleteRevision != 102 || !h.CompleteTime.Equal(begin.Add(time.Hour)) || !h.FirstTime.Equal(begin.Add(100*time.Second)) {
		t.Errorf("the header is %+v", h)
	}
	again := sealed(t, header(), all()...)
	if !bytes.Equal(again.Data, s.Data) {
		t.Error("the same entries make other bytes")
	}
	plain, err := io.ReadAll(must1(zstd.NewReader(bytes.NewReader(s.Data)))(t))
	must(t, err)
	if int64(len(plain)) != s.Size || !bytes.HasPrefix(plain, []byte("snapshotd segment 1\n{")) {
		t.Errorf("its content has %d bytes, of %d, and begins with %.40q", len(plain), s.Size, plain)
	}
}

// The chain is that of the records, whenever they came and however they are cut.
func TestChainDoesNotDependOnTheCut(t *testing.T) {
	whole := sealed(t, header(), all()...)
	one := sealed(t, header(), all()[:2]...)
	h := header()
	h.Previous, h.PreviousChain, h.Term, h.Level = one.Header.Last, one.Header.Chain, 9, segment.Level5m
	later := revision(101, "b", "-a", strings.Repeat("c", 300))
	later.Time = later.Time.Add(time.Hour)
	two := sealed(t, h, later, revision(102, "d"))
	if two.Header.Chain != whole.Header.Chain {
		t.Error("the chain depends on the cut")
	}
	for what, other := range map[string]segment.Revision{
		"a value": revision(102, "e"), "a deletion": revision(102, "-d"), "one record more": revision(102, "d", "d"),
	} {
		if sealed(t, h, later, other).Header.Chain == whole.Header.Chain {
			t.Errorf("%s makes no other chain", what)
		}
	}
}

func TestLargeSegmentsAndEntriesPass(t *testing.T) {
	rnd := rand.NewChaCha8([32]byte{})
	var entries []segment.Entry
	for i := range int64(5) {
		value := make([]byte, 3<<20)
		_, _ = rnd.Read(value)
		entries = append(entries, revision(100+i, string(value)))
	}
	s := sealed(t, header(), entries...)
	_, got, err := opened(s.Data)
	must(t, err)
	if !reflect.DeepEqual(got, entries) {
		t.Error("the entries are others")
	}
}

func TestBuilderTakesOnlyWhatFollows(t *testing.T) {
	ok := revision(100, "a")
	for what, bad := range map[string][]segment.Entry{
		"a revision before":         {revision(99, "a")},
		"a hole":                    {ok, revision(102, "a")},
		"a revision twice":          {ok, ok},
		"no records":                {segment.Revision{Main: 100, Time: begin}},
		"an empty record":           {revision(100, "")},
		"no time":                   {segment.Revision{Main: 100, Records: ok.Records}},
		"records out of order":      {segment.Revision{Main: 100, Time: begin, Records: []segment.Record{{Sub: 1, Value: []byte("a")}, {Sub: 0, Value: []byte("a")}}}},
		"a watermark ahead":         {ok, segment.Watermark{Revision: 101, Time: begin}},
		"a lease gone with a time":  {segment.Lease{ID: 1, GrantedTTL: 1, Gone: true}},
		"a lease without a time":    {segment.Lease{ID: 1}},
		"leases out of order":       {segment.Leases{IDs: []int64{-1, 1}}},
		"a compaction ahead":        {segment.Compaction{Revision: 101, After: 99, Before: 100}},
		"a compaction backwards":    {segment.Compaction{Revision: 90, After: 101, Before: 100}},
		"a revision beyond the end": {revision(1<<62+1, "a")},
	} {
		b, err := segment.NewBuilder(header())
		must(t, err)
		for i, e := range bad {
			if err := b.Add(e); (err == nil) != (i < len(bad)-1) {
				t.Errorf("%s: entry %d: %v", what, i, err)
			}
		}
	}
	b, err := segment.NewBuilder(header())
	must(t, err)
	must(t, b.Add(segment.Watermark{Revision: 99, Time: begin}))
	if _, err := b.Seal(); err == nil {
		t.Error("a segment without a revision was sealed")
	}
	h := header()
	h.Previous = 90
	b, err = segment.NewBuilder(h)
	must(t, err)
	must(t, b.Add(ok))
	if _, err := b.Seal(); err == nil || !strings.Contains(err.Error(), "without a reason") {
		t.Errorf("a hole without a reason: %v", err)
	}
}

// A bit that was changed, and an end that was cut off, are found wherever they are.
func TestDamagedSegmentsAreFound(t *testing.T) {
	data := sealed(t, header(), all()...).Data
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 1 << (i % 8)
		if h, entries, err := opened(bad); err == nil && (!reflect.DeepEqual(entries, all()) || h.First != 100) {
			t.Errorf("byte %d was changed, and nobody noticed", i)
		} else if err != nil && !errors.Is(err, segment.ErrDamaged) {
			t.Errorf("byte %d: %v is no damage", i, err)
		}
		if _, _, err := opened(data[:i]); !errors.Is(err, segment.ErrDamaged) {
			t.Errorf("cut off after %d bytes: %v", i, err)
		}
	}
	if _, _, err := opened(append(bytes.Clone(data), "more"...)); !errors.Is(err, segment.ErrDamaged) {
		t.Errorf("more behind it: %v", err)
	}
	if _, _, err := opened(append(bytes.Clone(data), data...)); !errors.Is(err, segment.ErrDamaged) {
		t.Errorf("twice: %v", err)
	}
}

// forged makes a segment with any content.
func forged(t testing.TB, content string) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	must(t, err)
	return enc.EncodeAll([]byte(content), nil)
}

func TestHeaderIsReadStrictly(t *testing.T) {
	s := sealed(t, header(), all()...)
	content, err := io.ReadAll(must1(zstd.NewReader(bytes.NewReader(s.Data)))(t))
	must(t, err)
	if _, entries, err := opened(forged(t, string(content))); err != nil || len(entries) != len(all()) {
		t.Fatalf("the content in one frame: %v", err)
	}
	for what, edit := range map[string][2]string{
		"another version":      {"segment 1\n", "segment 2\n"},
		"another case":         {`"level"`, `"Level"`},
		"twice":                {`"level":"10s"`, `"level":"10s","level":"10s"`},
		"unknown":              {`"level":"10s"`, `"level":"10s","x":1`},
		"another level":        {`"10s"`, `"10d"`},
		"space":                {`"level":"10s"`, `"level": "10s"`},
		"another last":         {`"lastRevision":"102"`, `"lastRevision":"103"`},
		"another first":        {`"firstRevision":"100"`, `"firstRevision":"101"`},
		"another time":         {`"firstTime":"2026`, `"firstTime":"2027`},
		"another count":        {`"records":"5"`, `"records":"6"`},
		"another chain before": {`"previousChain":"01`, `"previousChain":"02`},
		"another term":         {`"term":"3"`, `"term":"-3"`},
		"a timeline's path":    {`"timeline":"cdf8`, `"timeline":"../8`},
		"no end of the line":   {"}\n", "}"},
		"complete beyond it":   {`"completeRevision":"102"`, `"completeRevision":"103"`},
	} {
		bad := strings.Replace(string(content), edit[0], edit[1], 1)
		if bad == string(content) {
			t.Fatalf("%s: there is no %s in %.700q", what, edit[0], content)
		}
		if _, _, err := opened(forged(t, bad)); !errors.Is(err, segment.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// An error of the source is not taken for damage.
func TestErrorOfTheSourceIsReturned(t *testing.T) {
	data := sealed(t, header(), all()...).Data
	away := errors.New("the network is away")
	for n := range data {
		r, err := segment.NewReader(io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(away)))
		for err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, away) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
}

func TestTimesClaimNoMoreThanWasSeen(t *testing.T) {
	odd := begin.Add(400 * time.Microsecond)
	r := revision(100, "a")
	r.Time = odd
	_, entries, err := opened(sealed(t, header(), r, segment.Watermark{Revision: 100, Time: odd}).Data)
	must(t, err)
	if got := entries[0].(segment.Revision).Time; !got.Equal(begin.Add(time.Millisecond)) {
		t.Errorf("the revision arrived at %s", got)
	}
	if got := entries[1].(segment.Watermark).Time; !got.Equal(begin) {
		t.Errorf("the watermark is of %s", got)
	}
}

func TestLocalFileIsReadUpToItsTornEnd(t *testing.T) {
	var file []byte
	ends := map[int]int{0: 0} // after so many bytes, so many entries
	for i, e := range all() {
		var err error
		file, err = segment.AppendFrame(file, e)
		must(t, err)
		ends[len(file)] = i + 1
	}
	for n := range len(file) + 1 {
		r, whole, got := bytes.NewReader(file[:n]), 0, 0
		var err error
		for {
			var e segment.Entry
			var size int
			if e, size, err = segment.ReadFrame(r); err != nil {
				break
			}
			if !reflect.DeepEqual(e, all()[got]) {
				t.Fatalf("entry %d is %+v", got, e)
			}
			whole, got = whole+size, got+1
		}
		count, atEnd := ends[n]
		switch {
		case atEnd && (!errors.Is(err, io.EOF) || got != count || whole != n):
			t.Errorf("%d bytes: %d entries of %d bytes, %v", n, got, whole, err)
		case !atEnd && !errors.Is(err, segment.ErrTorn):
			t.Errorf("%d bytes: %v", n, err)
		case ends[whole] != got:
			t.Errorf("%d bytes: %d entries end after %d", n, got, whole)
		}
	}
	for i := range file {
		bad := bytes.Clone(file)
		bad[i] ^= 0x40
		r := bytes.NewReader(bad)
		n := 0
		var err error
		for err == nil {
			if _, _, err = segment.ReadFrame(r); err == nil {
				n++
			}
		}
		if !errors.Is(err, segment.ErrTorn) || n >= len(all()) {
			t.Errorf("byte %d was changed: %d entries, %v", i, n, err)
		}
	}
}

func TestNames(t *testing.T) {
	if first, last, ok := segment.ParseName(segment.Name(26, 1<<40)); !ok || first != 26 || last != 1<<40 {
		t.Errorf("%d to %d, %t", first, last, ok)
	}
	for _, bad := range []string{"", "0000000000000001", "0000000000000000-0000000000000001", "0000000000000002-0000000000000001",
		"000000000000000A-000000000000000B", "ffffffffffffffff-ffffffffffffffff", "0000000000000001-0000000000000001.seg"} {
		if _, _, ok := segment.ParseName(bad); ok {
			t.Errorf("%q is a name", bad)
		}
	}
	if got := segment.NewTimeline(timeline.EtcdCluster(), timeline.Start()); got != timeline || !got.Valid() || got.Start().Unix() != 1784203200 {
		t.Errorf("the timeline is %s", got)
	}
	if bad := segment.Timeline("../-1784203200"); bad.Valid() || bad.EtcdCluster() != 0 || !bad.Start().IsZero() {
		t.Error("a path is a timeline")
	}
}

func FuzzDecodeEntry(f *testing.F) {
	for _, e := range all() {
		b, err := segment.AppendEntry(nil, e)
		must(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := segment.DecodeEntry(b)
		if err != nil {
			if !errors.Is(err, segment.ErrDamaged) {
				t.Fatalf("%v is no damage", err)
			}
			return
		}
		again, err := segment.AppendEntry(nil, e)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is %+v, which is written %x (%v)", b, e, again, err)
		}
	})
}

// FuzzContent: the content of a segment, under a checksum that is right.
func FuzzContent(f *testing.F) {
	dec, err := zstd.NewReader(nil)
	must(f, err)
	content, err := dec.DecodeAll(sealed(f, header(), all()...).Data, nil)
	must(f, err)
	f.Add(content)
	enc, err := zstd.NewWriter(nil)
	must(f, err)
	f.Fuzz(func(t *testing.T, content []byte) {
		h, entries, err := opened(enc.EncodeAll(content, nil))
		if err != nil {
			if !errors.Is(err, segment.ErrDamaged) {
				t.Fatalf("%v is no damage", err)
			}
			return
		}
		again := sealed(t, h, entries...)
		if !again.Header.Equal(&h) {
			t.Fatalf("%+v is %+v when it is sealed again", h, again.Header)
		}
	})
}

func FuzzSegment(f *testing.F) {
	f.Add(sealed(f, header(), all()...).Data)
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, _, err := opened(data); err != nil && !errors.Is(err, segment.ErrDamaged) {
			t.Fatalf("%v is no damage", err)
		}
	})
}

func FuzzFrames(f *testing.F) {
	var file []byte
	for _, e := range all() {
		file, _ = segment.AppendFrame(file, e)
	}
	f.Add(file)
	f.Fuzz(func(t *testing.T, file []byte) {
		r, n := bytes.NewReader(file), 0
		for {
			_, size, err := segment.ReadFrame(r)
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, segment.ErrTorn) {
					t.Fatal(err)
				}
				return
			}
			if n += size; n > len(file) {
				t.Fatalf("%d bytes of %d were read", n, len(file))
			}
		}
	})
}

func must1[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		must(t, err)
		return v
	}
}
