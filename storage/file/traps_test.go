package file_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"

	"github.com/snapshotd/snapshotd/storage/file"
)

// The behaviour of gocloud.dev's fileblob that this package is built around. When one of these fails after an update,
// the code that steps around it may go, or has to change.

func openDir(t *testing.T, dir string) *blob.Bucket {
	t.Helper()
	b, err := fileblob.OpenBucket(dir, &fileblob.Options{NoTempDir: true, Metadata: fileblob.MetadataDontWrite})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

var typed = &blob.WriterOptions{ContentType: "application/octet-stream"}

func TestTrapClosingAWriterCommitsWhatItGot(t *testing.T) {
	b := openDir(t, t.TempDir())
	w, err := b.NewWriter(t.Context(), "short", typed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "half"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if there, err := b.Exists(t.Context(), "short"); !there || err != nil {
		t.Errorf("%t, %v", there, err)
	}
	err = b.Upload(t.Context(), "uploaded", io.MultiReader(strings.NewReader("half"), brokenReader{}), typed)
	if there, _ := b.Exists(t.Context(), "uploaded"); !there {
		t.Errorf("after an upload that broke off (%v): nothing was stored", err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("broke off") }

func TestTrapDirectoryThatVanished(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mount")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b := openDir(t, dir)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if o, err := b.List(nil).Next(t.Context()); o != nil || !errors.Is(err, io.EOF) {
		t.Errorf("listing: got %v, %v; it was empty without an error", o, err)
	}
	if err := b.WriteAll(t.Context(), "x", nil, typed); err != nil {
		t.Errorf("writing: got %v; it made the directory anew", err)
	}
}

func TestTrapTemporaryFiles(t *testing.T) {
	dir := t.TempDir()
	b := openDir(t, dir)
	w, err := b.NewWriter(t.Context(), "default/x.db.zst", typed)
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "default", "*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("got %q, %v; it is beside its target", names, err)
	}
	if key, ok := file.TempKey(filepath.Base(names[0])); !ok || key != "x.db.zst" {
		t.Errorf("%q is of %q, %t; that is how it is recognized", names[0], key, ok)
	}
	info, err := os.Stat(names[0])
	if err != nil || info.Mode().Perm()&0o600 != 0o600 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
	if o, err := b.List(&blob.ListOptions{Prefix: "default/"}).Next(t.Context()); err != nil || !strings.HasSuffix(o.Key, ".tmp") {
		t.Errorf("got %v, %v; it was listed", o, err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTemporaryFilesAreToldFromObjects(t *testing.T) {
	for name, want := range map[string]string{
		"x.db.18a0b1c2d3e4f567.tmp": "x.db", "a.b.0.tmp": "a.b",
		"x.tmp": "", "x.db": "", ".18a0.tmp": "", "x..tmp": "", "x.db.18A0.tmp": "", "x.db.backup.tmp": "", "x.db.18a0.tmp.json": "",
	} {
		if key, ok := file.TempKey(name); key != want || ok != (want != "") {
			t.Errorf("%s: got %q, %t, want %q", name, key, ok, want)
		}
	}
}
