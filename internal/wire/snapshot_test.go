package wire_test

import (
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// fill sets every exported field to a value that is not zero, so that a field that is forgotten on the way shows.
func fill(v reflect.Value) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(1_700_000_000, 5).UTC()))
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i))
			}
		}
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0))
		fill(v.Index(1))
	case v.Kind() == reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"k": "v"}))
	case v.CanInt():
		v.SetInt(2)
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.CanUint():
		v.SetUint(3)
	default:
		v.SetString("s")
	}
}

// Whoever can write to the catalog can put any number there; all of them are in each answer.
func TestEarlierVerdictsAreBounded(t *testing.T) {
	m := &snapshotdv1.Snapshot{}
	for range 1000 {
		m.EarlierVerifications = append(m.EarlierVerifications, &snapshotdv1.Verification{Error: "damaged"})
	}
	if got := len(wire.SnapshotFromProto(m).Earlier); got != snapshot.MaxEarlier {
		t.Errorf("%d of 1000 are taken", got)
	}
}

func TestSnapshotComesBackAsItWent(t *testing.T) {
	var s snapshot.Snapshot
	var status snapshot.Status
	fill(reflect.ValueOf(&s).Elem())
	fill(reflect.ValueOf(&status).Elem())
	want := snapshot.WithStatus(s, status)
	doc, err := proto.Marshal(wire.SnapshotToProto(want))
	if err != nil {
		t.Fatal(err)
	}
	m := &snapshotdv1.Snapshot{}
	if err := proto.Unmarshal(doc, m); err != nil {
		t.Fatal(err)
	}
	if got := wire.SnapshotFromProto(m); !reflect.DeepEqual(got, want) {
		t.Errorf("came back as\n%+v\nwent as\n%+v", got, want)
	}
	zero := wire.SnapshotFromProto(wire.SnapshotToProto(&snapshot.Snapshot{}))
	if !reflect.DeepEqual(zero, &snapshot.Snapshot{}) {
		t.Errorf("nothing came back as %+v", zero)
	}
}

func TestSnapshotTakesTextThatIsNotUTF8(t *testing.T) {
	m := wire.SnapshotToProto(snapshot.WithStatus(snapshot.Snapshot{}, snapshot.Status{
		Error: "a\xffb", Locations: []snapshot.Location{{URI: "\xc3\x28", Error: "\xff"}},
	}))
	if _, err := proto.Marshal(m); err != nil || !utf8.ValidString(m.GetError()) {
		t.Errorf("marshal %+v: %v", m, err)
	}
}
