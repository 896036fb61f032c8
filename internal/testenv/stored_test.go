package testenv_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/snapshotd/snapshotd/internal/etcd"
	"github.com/snapshotd/snapshotd/internal/etcd/database"
	"github.com/snapshotd/snapshotd/internal/testenv"
)

var update = flag.Bool("update", false, "make the stored snapshots anew")

// TestStoredSnapshots holds the description of each stored snapshot against its database; with -update it makes them.
func TestStoredSnapshots(t *testing.T) {
	if *update {
		makeStored(t)
		return
	}
	last := int64(0)
	for n := range testenv.StoredSnapshots {
		s := testenv.Stored(t, n)
		path := filepath.Join(t.TempDir(), "snapshot.db")
		if err := os.WriteFile(path, s.Data, 0o600); err != nil {
			t.Fatal(err)
		}
		res, err := database.File(t.Context(), path, database.Options{})
		if err != nil || res.Revision != s.Revision || res.TotalKeys != s.TotalKeys ||
			res.StorageVersion != s.StorageVersion {
			t.Errorf("stored snapshot %d has %+v, %v; described as %+v", n, res, err, s)
		}
		if s.Revision <= last {
			t.Errorf("stored snapshot %d has revision %d, the one before %d", n, s.Revision, last)
		}
		last = s.Revision
	}
}

func makeStored(t *testing.T) {
	conn, err := etcd.New(etcd.Config{Endpoints: testenv.StartCluster(t, 1).Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	client, err := conn.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for n := range testenv.StoredSnapshots {
		for i := range 50 >> (4 * n) {
			if _, err := client.Put(t.Context(), fmt.Sprintf("/registry/things/%d-%d", n, i),
				strings.Repeat("x", 1000)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := client.Put(t.Context(), "/registry/last", fmt.Sprint(n)); err != nil {
			t.Fatal(err)
		}
		stream, err := etcd.NewSource(conn, etcd.SourceConfig{}).Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(stream)
		if err != nil {
			t.Fatal(err)
		}
		store(t, n, data, testenv.StoredSnapshot{
			ClusterID: stream.Member.ClusterID, MemberID: stream.Member.MemberID,
			Version: stream.Member.Version, StorageVersion: stream.Member.StorageVersion,
		})
	}
}

func store(t *testing.T, n int, data []byte, s testenv.StoredSnapshot) {
	path := filepath.Join(t.TempDir(), "snapshot.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	res, err := database.File(t.Context(), path, database.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.Revision, s.TotalKeys = res.Revision, res.TotalKeys
	if s.StorageVersion == "" {
		s.StorageVersion = res.StorageVersion
	}
	doc, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(testenv.Root(), "internal", "testenv", "testdata", fmt.Sprintf("etcd-%d", n))
	for name, content := range map[string][]byte{base + ".json": append(doc, '\n'),
		base + ".db.zst": e.EncodeAll(data, nil)} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
