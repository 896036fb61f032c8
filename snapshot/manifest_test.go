package snapshot

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func wholeRecord() *Record {
	return &Record{
		Snapshot: Snapshot{
			Name: "on-demand-node-1-1700000000", Cluster: "default", Labels: map[string]string{"a": "b"},
			Trigger: TriggerManual, CreateTime: time.Unix(1_700_000_000, 123).UTC(), Duration: 1234567891 * time.Nanosecond,
			Pinned: true, Node: "node-1", EtcdVersion: "3.7.3", StorageVersion: "3.7.0", EtcdClusterID: "0123456789abcdef", EtcdMemberID: "fedcba9876543210",
			Revision: 1 << 60, TotalKeys: 7, DBSize: 4096, SHA256: strings.Repeat("a", 64), Hash: 4_000_000_000,
			Compression: CompressionZstd, EncryptionRecipients: []string{"age1x", "ssh-rsa y"}, StoredSize: 1000, StoredSHA256: strings.Repeat("b", 64),
		},
		RequestID: "id",
	}
}

func TestManifestSaysEverythingButWhatOnlyTheCatalogKnows(t *testing.T) {
	want := wholeRecord()
	doc, err := encodeManifest(want, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeManifest(doc)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("decoded\n%+v\nwant\n%+v", got, want)
	}
	// A field that is forgotten in the manifest shows up here when it is added to the snapshot.
	catalogOnly := map[string]bool{"State": true, "Error": true, "Locations": true, "Etag": true, "Verification": true}
	v := reflect.ValueOf(got.Snapshot)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() != catalogOnly[name] {
			t.Errorf("field %s: zero %v, catalog only %v", name, v.Field(i).IsZero(), catalogOnly[name])
		}
	}
}

func TestManifestThatIsNotOursIsAnError(t *testing.T) {
	doc, err := encodeManifest(wholeRecord(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string][2]string{
		"newer":          {`"formatVersion": 1`, `"formatVersion": 2`},
		"no version":     {`"formatVersion": 1,`, ``},
		"path as name":   {`"on-demand-node-1-1700000000"`, `"../../etc/passwd"`},
		"no compression": {`"COMPRESSION_ZSTD"`, `"COMPRESSION_LZ4"`},
		"short checksum": {strings.Repeat("b", 64), "b"},
		"negative size":  {`"1000"`, `"-1000"`},
		"bad duration":   {`"1.234567891s"`, `"soon"`},
		"rubbish":        {`{`, `[`},
	} {
		changed := strings.Replace(string(doc), edit[0], edit[1], 1)
		if changed == string(doc) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := decodeManifest([]byte(changed)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzManifest(f *testing.F) {
	doc, err := encodeManifest(wholeRecord(), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(doc)
	f.Add([]byte(`{"formatVersion":1}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		rec, err := decodeManifest(doc)
		if err != nil {
			return
		}
		again, err := encodeManifest(rec, nil)
		if err != nil {
			t.Fatalf("encode what was decoded: %v", err)
		}
		if got, err := decodeManifest(again); err != nil || !reflect.DeepEqual(got, rec) {
			t.Fatalf("decoded %+v, %v; want %+v", got, err, rec)
		}
	})
}
