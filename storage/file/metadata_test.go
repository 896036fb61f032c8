package file_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
)

func metadata(t *testing.T, b *storage.Backend, key string) (string, error) {
	t.Helper()
	r, err := b.Metadata(t.Context(), key)
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Close() }()
	doc, err := io.ReadAll(r)
	return string(doc), err
}

// K3s keeps it beside the directory of the snapshots, which is the backend's root; a bucket that was copied has it
// inside.
func TestMetadataOfK3sOnDisk(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "snapshots")
	for path, doc := range map[string]string{
		"snapshots/x": "x", ".metadata/one": "above", "snapshots/.metadata/one": "not this", "snapshots/.metadata/two": "beside",
		".metadata/three/x": "in a directory", "snapshots/a/x": "x", "snapshots/.metadata/four": "above a",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := storage.New(storage.Config{Name: "local", URL: "file://" + root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(t.Context()) })
	for key, want := range map[string]string{"one": "above", "two": "beside", "a/four": "above a"} {
		if got, err := metadata(t, b, key); got != want || err != nil {
			t.Errorf("%s: %q, %v", key, got, err)
		}
	}
	for _, key := range []string{"none", "a/none"} {
		if _, err := metadata(t, b, key); !errors.Is(err, snapshot.ErrNotFound) {
			t.Errorf("%s: %v", key, err)
		}
	}
	for _, key := range []string{"three", "../one", "a/../../one", ""} {
		if got, err := metadata(t, b, key); err == nil || errors.Is(err, snapshot.ErrNotFound) {
			t.Errorf("%q: %q, %v", key, got, err)
		}
	}
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	if _, err := metadata(t, b, "one"); err == nil || errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("without the directory: %v", err)
	}
}
