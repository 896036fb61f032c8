package repository_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// edited returns the manifest of a whole record in which one text is another.
func edited(t testing.TB, old, now string) []byte {
	t.Helper()
	doc := string(encoded(t, wholeRecord(), nil))
	if !strings.Contains(doc, old) {
		t.Fatalf("the manifest has no %s:\n%s", old, doc)
	}
	return []byte(strings.Replace(doc, old, now, 1))
}

// Two readers must not see two snapshots in one manifest, and no number may be one that a file cannot have.
func TestManifestIsReadStrictly(t *testing.T) {
	sum := strings.Repeat("b", 64)
	for what, edit := range map[string][2]string{
		"another case":                {`"name"`, `"NAME"`},
		"another case, of Unicode":    {`"hash"`, `"ha` + "\u017f" + `h"`},
		"another case beside it":      {`"pinned": true`, `"pinned": true, "Pinned": false`},
		"signature in another case":   {`"pinned": true`, `"pinned": true, "Signature": "x"`},
		"twice":                       {`"pinned": true`, `"pinned": true, "revision": "1"`},
		"twice, by an escape":         {`"pinned": true`, `"pinned": true, "revisi\u006fn": "1"`},
		"twice the same":              {`"pinned": true`, `"pinned": true, "pinned": true`},
		"label twice":                 {`"a": "b"`, `"a": "b", "a": "c"`},
		"unknown member twice":        {`"pinned"`, `"x": 1, "x": 1, "pinned"`},
		"twice in an unknown member":  {`"pinned"`, `"x": [{"y": {"z": 1, "z": 2}}], "pinned"`},
		"twice, as bytes of no text":  {`"pinned"`, `"x": {"` + "\xff" + `": 1, "` + "\xfe" + `": 2}, "pinned"`},
		"no UTF-8":                    {`"node-1"`, `"` + "\xff" + `"`},
		"more behind it":              {"\n}\n", "\n}\n{}\n"},
		"null":                        {`"pinned": true`, `"pinned": null`},
		"revision null":               {`"1152921504606846976"`, `null`},
		"revision null as text":       {`"1152921504606846976"`, `"null"`},
		"negative revision":           {`"1152921504606846976"`, `"-1"`},
		"revision with a zero before": {`"1152921504606846976"`, `"01"`},
		"revision beyond 64 bits":     {`"1152921504606846976"`, `"9223372036854775808"`},
		"revision as a number":        {`"1152921504606846976"`, `7`},
		"negative number of keys":     {`"totalKeys": "7"`, `"totalKeys": "-7"`},
		"size 0":                      {`"dbSizeBytes": "4096"`, `"dbSizeBytes": "0"`},
		"size 2^63-1":                 {`"dbSizeBytes": "4096"`, `"dbSizeBytes": "9223372036854775807"`},
		"size 2^62+1":                 {`"dbSizeBytes": "4096"`, `"dbSizeBytes": "4611686018427387905"`},
		"stored size 2^63-1":          {`"storedSizeBytes": "1000"`, `"storedSizeBytes": "9223372036854775807"`},
		"hash beyond 32 bits":         {`4000000000`, `4294967296`},
		"hash with a fraction":        {`4000000000`, `4e9`},
		"duration without a number":   {`"1.234567891s"`, `"nans"`},
		"hexadecimal duration":        {`"1.234567891s"`, `"0x1p3s"`},
		"duration in hours":           {`"1.234567891s"`, `"1h"`},
		"negative duration":           {`"1.234567891s"`, `"-1s"`},
		"duration of 100 years":       {`"1.234567891s"`, `"3155760000s"`},
		"year 10000":                  {`"2023-11-14T22:13:20.000000123Z"`, `"9999-12-31T23:59:59-23:00"`},
		"checksum in upper case":      {sum, strings.ToUpper(sum)},
		"checksum of other letters":   {sum, strings.Repeat("x", 64)},
		"checksum of 65 digits":       {sum, sum + "b"},
		"other checksum":              {strings.Repeat("a", 64), strings.Repeat("A", 64)},
		"id of other letters":         {"0123456789abcdef", "0123456789ABCDEF"},
		"trace of other letters":      {"4bf92f3577b34da6a3ce929d0e0e4736", "4BF92F3577B34DA6A3CE929D0E0E4736"},
		"short trace":                 {"4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f3577b34da6"},
		"short id":                    {"fedcba9876543210", "fedcba987654321"},
		"unknown trigger":             {"TRIGGER_MANUAL", "TRIGGER_CHANCE"},
		"trigger without its type":    {"TRIGGER_MANUAL", "MANUAL"},
		"adopted":                     {"TRIGGER_MANUAL", "TRIGGER_ADOPTED"},
		"zip":                         {"COMPRESSION_ZSTD", "COMPRESSION_ZIP"},
		"compression without type":    {"COMPRESSION_ZSTD", "ZSTD"},
		"no compression":              {"COMPRESSION_ZSTD", "COMPRESSION_UNSPECIFIED"},
		"label without a key":         {`"a": "b"`, `"": "b"`},
		"long label":                  {`"a": "b"`, `"a": "` + strings.Repeat("b", 256) + `"`},
		"recipient without a key":     {`"age1x"`, `""`},
		"many recipients":             {`"age1x"`, strings.Repeat(`"x", `, 5000) + `"age1x"`},
		"many backends":               {`"pinned"`, `"backends": [` + strings.Repeat(`"", `, 5000) + `""], "pinned"`},
		"version as text":             {`"formatVersion": 1`, `"formatVersion": "1"`},
		"version 0":                   {`"formatVersion": 1`, `"formatVersion": 0`},
		"version with a fraction":     {`"formatVersion": 1`, `"formatVersion": 1.0`},
		"version twice":               {`"formatVersion": 1`, `"formatVersion": 1, "formatVersion": 1`},
		"signature without its form":  {`"pinned": true`, `"pinned": true, "signature": "x"`},
	} {
		m, err := verify(t, nil, edited(t, edit[0], edit[1]))
		wantReason(t, what, err, snapshot.ReasonChecksumMismatch)
		if !errors.Is(err, repository.ErrManifestUnusable) || m != nil {
			t.Errorf("%s: %+v, %v", what, m, err)
		}
	}
	_, err := verify(t, nil, edited(t, `"formatVersion": 1,`, `"formatVersion": 2, "Revision": {},`))
	wantText(t, "newer, with other types", err, "use a newer snapshotd")
}

// Members that a later version may add are ignored, whatever is in them, and so is the space between members.
func TestManifestMayHaveUnknownMembers(t *testing.T) {
	for what, edit := range map[string][2]string{
		"object":        {`"pinned"`, `"x": {"name": "y", "NAME": [null, 1e999, {"name": {}}]}, "pinned"`},
		"null":          {`"pinned"`, `"x": null, "pinned"`},
		"number":        {`"pinned"`, `"x": 123456789012345678901234567890, "pinned"`},
		"similar name":  {`"pinned"`, `"names": 1, "nam": 2, "pinned"`},
		"last":          {"\n}\n", ",\n  \"x\": \"y\"\n}\n"},
		"space":         {"\n}\n", "\n}\n \t\r\n"},
		"escaped name":  {`"pinned"`, `"p\u0069nned"`},
		"unknown ids":   {`"0123456789abcdef"`, `""`},
		"empty labels":  {`"pinned"`, `"backends": [], "pinned"`},
		"many decimals": {`"1.234567891s"`, `"1.2345678910000001s"`},
	} {
		want := wholeRecord()
		if what == "unknown ids" {
			want.EtcdClusterID = ""
		}
		m, err := verify(t, nil, edited(t, edit[0], edit[1]))
		if err != nil || !reflect.DeepEqual(m.Record, want) {
			t.Errorf("%s: %+v, %v", what, m, err)
		}
	}
	largest := wholeRecord()
	largest.DBSize, largest.StoredSize, largest.TotalKeys, largest.Revision = 1<<50, 1<<50, 1<<50, 1<<62
	largest.Duration, largest.CreateTime = 1_000_000_000*time.Second, time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)
	m, err := verify(t, nil, encoded(t, largest, nil))
	if err != nil || !reflect.DeepEqual(m.Record, largest) {
		t.Errorf("largest: %+v, %v", m, err)
	}
}

// A manifest that could not be read is not written: the snapshot would be lost without a word.
func TestManifestThatCouldNotBeReadIsNotWritten(t *testing.T) {
	for what, edit := range map[string]func(*snapshot.Record){
		"size":     func(r *snapshot.Record) { r.DBSize = 1<<63 - 1 },
		"checksum": func(r *snapshot.Record) { r.SHA256 = "" },
		"trigger":  func(r *snapshot.Record) { r.Trigger = snapshot.TriggerAdopted },
		"revision": func(r *snapshot.Record) { r.Revision = -1 },
		// The catalog takes none of these, and a snapshot that cannot be recorded would be reported at each reconcile.
		"large size":     func(r *snapshot.Record) { r.DBSize = 1<<50 + 1 },
		"large object":   func(r *snapshot.Record) { r.StoredSize = 1<<50 + 1 },
		"many keys":      func(r *snapshot.Record) { r.TotalKeys = 1<<50 + 1 },
		"large revision": func(r *snapshot.Record) { r.Revision = 1<<62 + 1 },
		"many backends": func(r *snapshot.Record) {
			for i := range 1001 {
				r.Found(snapshot.Location{Backend: fmt.Sprint("b", i), State: snapshot.StateReady})
			}
		},
		"labels": func(r *snapshot.Record) { r.Labels = map[string]string{"\xff": "1", "\xfe": "2"} },
	} {
		rec := wholeRecord()
		edit(rec)
		if doc, err := repository.EncodeManifest(rec, nil); err == nil {
			t.Errorf("%s: %s", what, doc)
		}
	}
	rec := wholeRecord()
	rec.Duration = -time.Second // the clock was set back while it was saved
	m, err := verify(t, nil, encoded(t, rec, nil))
	if err != nil || m.Record.Duration != 0 {
		t.Errorf("negative duration: %+v, %v", m, err)
	}
	for d, want := range map[time.Duration]string{
		0: "0s", 1: "0.000000001s", time.Second: "1s", 1500 * time.Millisecond: "1.5s",
		123456789*time.Second + 12345678: "123456789.012345678s",
	} {
		rec.Duration = d
		if doc := string(encoded(t, rec, nil)); !strings.Contains(doc, `"duration": "`+want+`"`) {
			t.Errorf("%d ns: %s", d, doc)
		}
	}
}

func TestMarkerIsReadStrictly(t *testing.T) {
	open := func(doc string) (*place, error) {
		p := newPlace()
		p.backend.Set(snapshot.MarkerKey, []byte(doc))
		return p, p.OpenVerified(t.Context(), true)
	}
	for what, doc := range map[string]string{
		"empty":              "",
		"null":               "null",
		"list":               "[]",
		"no version":         `{"storeId": "x"}`,
		"version 0":          `{"formatVersion": 0, "storeId": "x"}`,
		"version as text":    `{"formatVersion": "1", "storeId": "x"}`,
		"no id":              `{"formatVersion": 1}`,
		"empty id":           `{"formatVersion": 1, "storeId": ""}`,
		"id null":            `{"formatVersion": 1, "storeId": null}`,
		"id as a number":     `{"formatVersion": 1, "storeId": 1}`,
		"id with a line":     `{"formatVersion": 1, "storeId": "a\nb"}`,
		"long id":            `{"formatVersion": 1, "storeId": "` + strings.Repeat("x", 65) + `"}`,
		"id twice":           `{"formatVersion": 1, "storeId": "x", "storeId": "y"}`,
		"id in another case": `{"formatVersion": 1, "storeID": "x"}`,
		"and beside it":      `{"formatVersion": 1, "storeId": "x", "STOREID": "y"}`,
		"no time":            `{"formatVersion": 1, "storeId": "x", "createTime": "yesterday"}`,
		"more behind it":     `{"formatVersion": 1, "storeId": "x"} {}`,
		"no UTF-8":           `{"formatVersion": 1, "storeId": "x", "y": "` + "\xff" + `"}`,
		"2 MB":               `{"formatVersion": 1, "storeId": "x", "y": "` + strings.Repeat("y", 2<<20) + `"}`,
	} {
		p, err := open(doc)
		wantReason(t, what, err, snapshot.ReasonBackendWrongStore)
		wantText(t, what, err, "its marker snapshotd-store.json is damaged: ")
		if p.StoreID() != "" || string(p.backend.Content(snapshot.MarkerKey)) != doc {
			t.Errorf("%s: store %q", what, p.StoreID())
		}
	}
	_, err := open(`{"formatVersion": 2, "StoreId": {}}`)
	wantText(t, "newer", err, "says format version 2, and this program knows up to 1")
	p, err := open(`{"formatVersion": 1, "x": {"storeId": 5}, "storeId": "A-b_c.2"}`)
	if err != nil || p.StoreID() != "A-b_c.2" {
		t.Errorf("with an unknown member: store %q, %v", p.StoreID(), err)
	}
}

// Sums with sizes that come from the catalog, which is read by other rules than a manifest, do not overflow.
func TestSizesNearTheLargestNumber(t *testing.T) {
	p := newPlace()
	rec, _ := p.save(t, stream(4*page), snapshot.CompressionZstd)
	rec.DBSize, rec.StoredSize = 1<<63-1, 1<<63-1
	check := repository.Check{Repository: p.Repository, Record: rec, Level: snapshot.LevelChecksum}
	check.Progress = func(_, total int64) {
		if total <= 0 {
			t.Errorf("a total of %d", total)
		}
	}
	_, err := check.Run(t.Context())
	wantReason(t, "check", err, snapshot.ReasonChecksumMismatch)
}

// FuzzMarker: any document is a marker with an id, which stays the same, or the error of a wrong store.
func FuzzMarker(f *testing.F) {
	p := newPlace()
	must(f, p.OpenVerified(f.Context(), true))
	f.Add(p.backend.Content(snapshot.MarkerKey))
	f.Add([]byte(`{"formatVersion":1,"storeId":"x","x":{"y":[1,null]}}`))
	f.Add([]byte(`{"formatVersion":2}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		p := newPlace()
		p.backend.Set(snapshot.MarkerKey, doc)
		err := p.OpenVerified(t.Context(), true)
		if err != nil {
			wantReason(t, fmt.Sprintf("%q", doc), err, snapshot.ReasonBackendWrongStore)
			return
		}
		var plain struct{ StoreID string }
		if err := json.Unmarshal(doc, &plain); err != nil || plain.StoreID != p.StoreID() || p.StoreID() == "" {
			t.Fatalf("store %q, and by another reader %q, %v", p.StoreID(), plain.StoreID, err)
		}
		other := p.sharing()
		if err := other.OpenVerified(t.Context(), true); err != nil || other.StoreID() != p.StoreID() {
			t.Fatalf("store %q, then %q, %v", p.StoreID(), other.StoreID(), err)
		}
	})
}
