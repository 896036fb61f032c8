package catalog

import (
	"bytes"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	catalogv1 "github.com/snapshotd/snapshotd/proto/snapshotd/catalog/v1"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Any bytes under the key of a record are an error, or a record that is within the limits and is written back as it is,
// with all that this version does not know.
func FuzzDecodeRecord(f *testing.F) {
	whole, err := os.ReadFile("testdata/record.binpb")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("a", whole)
	f.Add("a", whole[:len(whole)/2])
	f.Add("b", whole)
	f.Add("a", append(bytes.Clone(whole), 0xfa, 0x3f, 3, 'n', 'e', 'w')) // field 1023
	f.Add("", []byte{})
	f.Add("a\n", []byte("rubbish"))
	for _, m := range []*catalogv1.Record{
		{Snapshot: &snapshotdv1.Snapshot{Name: "a"}},
		{Snapshot: &snapshotdv1.Snapshot{Name: "a", State: 77, StoredSizeBytes: 1<<63 - 1}},
		{
			Snapshot: &snapshotdv1.Snapshot{
				Name: "a", Verification: &snapshotdv1.Verification{Level: 9, State: 9},
				Locations: []*snapshotdv1.Location{{Backend: "local", Kind: 9, State: snapshotdv1.Snapshot_STATE_READY}},
			},
			Repairs: []*catalogv1.Repair{{Backend: "local", Attempts: -1 << 63}},
		},
	} {
		doc, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("a", doc)
	}
	c := New(Config{Cluster: "default"})
	f.Fuzz(func(t *testing.T, name string, value []byte) {
		m, err := decodeRecord(name, value)
		if err != nil { // nearly always because of the name
			var inside catalogv1.Record
			if proto.Unmarshal(value, &inside) != nil {
				return
			}
			name = inside.GetSnapshot().GetName()
			if m, err = decodeRecord(name, value); err != nil {
				return
			}
		}
		rec := recordOf(m, 7)
		if rec.Name != name || !snapshot.ValidName(name) {
			t.Fatalf("the record of %q has the name %q", name, rec.Name)
		}
		for _, l := range rec.Locations() {
			if l.Size < 0 || l.Size > snapshot.MaxSize || l.State < snapshot.StateUnspecified || l.State > snapshot.StateDeleting {
				t.Fatalf("location %+v", l)
			}
		}
		for _, at := range []time.Time{rec.CreateTime, rec.Proven()} {
			if at.Year() < 1 || at.Year() > 9999 {
				t.Fatalf("a time is %v", at)
			}
		}
		useRecord(rec)
		rec = recordOf(m, 7)
		doc, err := c.encode(rec, m)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		again, err := decodeRecord(name, []byte(doc))
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if twice, err := c.encode(recordOf(again, 7), again); err != nil || twice != doc {
			t.Fatalf("written again it is\n%q, %v\nand was\n%q", twice, err, doc)
		}
		if !bytes.Equal(again.ProtoReflect().GetUnknown(), m.ProtoReflect().GetUnknown()) {
			t.Fatalf("unknown fields %q became %q", m.ProtoReflect().GetUnknown(), again.ProtoReflect().GetUnknown())
		}
	})
}

// useRecord uses a record as replicas do: none of it may panic.
func useRecord(rec *snapshot.Record) {
	now := time.Now()
	for _, l := range rec.Locations() {
		rec.RepairFailed(l.Backend, os.ErrClosed, now, func(int) time.Duration { return time.Minute })
		rec.RepairDue(l.Backend, now)
		rec.CopyFailed(l.Backend, os.ErrClosed, true, now)
		rec.CopyGood(l.Backend, now)
	}
	_ = rec.Outcome()
	_ = rec.SupersedeBy("other").HasOutcome()
	_ = rec.DataKey()
	rec.AssumeNothing()
	rec.ConcludeInterrupted("dead")
}

// A key of the index by time is none of ours, or is made again from its parts.
func FuzzIndexKey(f *testing.F) {
	k := keys("/snapshotd/v1/default/")
	for _, at := range []time.Time{{}, time.Unix(0, 0), time.Unix(1700000000, 5), time.Unix(1<<40, 0)} {
		f.Add(k.byTime(&snapshot.Snapshot{Name: "a", CreateTime: at}))
		f.Add(k.atTime(at))
	}
	for _, key := range []string{
		"", "/", "x/a", "0000000000000000/a", "7fffffffffffffff/a", "8000000000000000/a", "FFFFFFFFFFFFFFFF/a",
		"ffffffffffffffff/", "ffffffffffffffff/a/b", "ffffffffffffffff/-a", "+fffffffffffffff/a", "ffffffffffffffff0/a",
	} {
		f.Add(k.byTimes() + key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		at, _ := k.timeOf(key)
		if k.atTime(at) == "" {
			t.Fatal("no prefix")
		}
		if name, ok := k.nameByTime(key); ok && strings.HasPrefix(key, k.byTimes()) {
			if again := k.byTime(&snapshot.Snapshot{Name: name, CreateTime: at}); again != key {
				t.Fatalf("%q is of %q at %v, whose key is %q", key, name, at, again)
			}
		}
		if name, ok := k.nameOfRecord(key); ok && k.record(name) != key {
			t.Fatalf("%q is of %q, whose key is %q", key, name, k.record(name))
		}
	})
}

// The value of a lock is none of a replica's, or a text that can be shown and compared.
func FuzzLockValue(f *testing.F) {
	for _, v := range []string{"", "node-1/ABCDEF", "x\x00", "\xff", strings.Repeat("x", 513), "a\nb", "\u202eabc", "ü"} {
		f.Add([]byte(v))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		name, err := holderOf(value)
		shown := visible(strings.ReplaceAll(name, "\uFFFD", "?"))
		if err == nil && (name != string(value) || name == "" || len(name) > maxHolder || !shown) {
			t.Fatalf("%q is the holder %q", value, name)
		}
		cmd := removal("/snapshotd/" + string(value))
		if strings.ContainsAny(cmd, "\n\r\x00\x1b") {
			t.Fatalf("the command %q has control characters", cmd)
		}
	})
}

func TestRemovalCanBePasted(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"/snapshotd/v1/default/snapshots/a-1.~": "etcdctl del /snapshotd/v1/default/snapshots/a-1.~",
		"/x/$(reboot)":                          "etcdctl del '/x/$(reboot)'",
		"/x/it's":                               `etcdctl del '/x/it'\''s'`,
		"/x/a\nb'\\":                            `etcdctl del $'/x/a\nb\'\\'`,
		"/x/\u202e\xff":                         `etcdctl del $'/x/\xe2\x80\xae\xff'`,
	} {
		want = strings.ReplaceAll(want, `a\nb`, `a\x0ab`)
		if got := removal(key); got != want {
			t.Errorf("%q: %s, want %s", key, got, want)
		}
	}
}

// What a save has told is damaged, or something that can be shown.
func FuzzTold(f *testing.F) {
	for _, v := range []string{
		"", "{}", `{"snapshot":"a"}`, `{"snapshot":"a","elapsed_ns":1,"read_bytes":2,"total_bytes":3,"written_bytes":{"s3":4}}`,
		`{"snapshot":"a","read_bytes":-1}`, `{"snapshot":"../a"}`, `{"snapshot":"a","elapsed_ns":9223372036854775807}`,
		`{"snapshot":"a","written_bytes":{"s3":9223372036854775807}}`, `{"snapshot":"a","of a newer version":{}}`,
	} {
		f.Add([]byte(v))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		p, err := parseTold(value)
		if err != nil {
			return
		}
		sizes := append(slices.Collect(maps.Values(p.Written)), p.Read, p.Total, int64(p.Elapsed))
		if !snapshot.ValidName(p.Name) || slices.Min(sizes) < 0 {
			t.Fatalf("%q tells %+v", value, p)
		}
	})
}

// Notes that are believed are written again as they were read, but for texts that are cut.
func FuzzJournalNotes(f *testing.F) {
	whole := snapshot.JournalNotes{
		Breaks: []snapshot.JournalBreak{{Timeline: "t", After: 7, Before: 12, BeforeTime: time.Unix(1700000000, 0), Reason: "compacted: so"}},
		Drill:  &snapshot.JournalDrill{Revision: 9, Base: "a", Verdict: snapshot.Verification{Passed: true, Time: time.Unix(1700000000, 0)}},
	}
	doc, err := proto.Marshal(journalToProto(&whole))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(doc)
	f.Add(doc[:len(doc)/2])
	f.Add([]byte("rubbish"))
	f.Add([]byte("\x12\x02\x08\x01"))
	f.Fuzz(func(t *testing.T, value []byte) {
		m := &catalogv1.Journal{}
		if checkNotes(value, m) != nil {
			return
		}
		notes := journalNotes(m)
		if len(notes.Breaks) > snapshot.MaxJournalBreaks || notes.Drill != nil && !snapshot.ValidName(notes.Drill.Base) {
			t.Fatalf("%+v was read", notes)
		}
		for _, b := range notes.Breaks {
			if b.After < 0 || b.Before < 0 || b.Lost() < 0 || b.After+1 < 0 {
				t.Fatalf("%+v was read", b)
			}
		}
		again, err := proto.Marshal(journalToProto(&notes))
		if err != nil {
			t.Fatal(err)
		}
		n := &catalogv1.Journal{}
		if err := checkNotes(again, n); err != nil {
			t.Fatalf("%q is written as %q: %v", value, again, err)
		}
		read := journalNotes(n)
		if len(read.Breaks) != len(notes.Breaks) || (read.Drill == nil) != (notes.Drill == nil) {
			t.Fatalf("%+v was read, and then %+v", notes, read)
		}
	})
}
