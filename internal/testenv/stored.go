package testenv

import (
	"embed"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// stored are snapshots of one etcd at rising revisions, made by TestStoredSnapshots with -update.
//
//go:embed testdata/etcd-*
var stored embed.FS

// StoredSnapshots is how many snapshots are stored.
const StoredSnapshots = 3

// StoredSnapshot is a snapshot that was taken of a real etcd once, so that tests need not start one.
type StoredSnapshot struct {
	Data           []byte `json:"-"` // as etcd sent it, its trailing checksum included
	ClusterID      string // 16 hex digits
	MemberID       string // 16 hex digits
	Version        string
	StorageVersion string
	Revision       int64
	TotalKeys      int64
}

// Stored returns a stored snapshot; a higher n, up to [StoredSnapshots] - 1, has a higher revision.
func Stored(tb testing.TB, n int) StoredSnapshot {
	tb.Helper()
	var s StoredSnapshot
	doc, err := stored.ReadFile(fmt.Sprintf("testdata/etcd-%d.json", n))
	if err == nil {
		err = json.Unmarshal(doc, &s)
	}
	var packed []byte
	if err == nil {
		packed, err = stored.ReadFile(fmt.Sprintf("testdata/etcd-%d.db.zst", n))
	}
	if err == nil {
		var d *zstd.Decoder
		if d, err = zstd.NewReader(nil); err == nil {
			defer d.Close()
			s.Data, err = d.DecodeAll(packed, nil)
		}
	}
	if err != nil {
		tb.Fatalf("read stored snapshot %d: %v", n, err)
	}
	return s
}
