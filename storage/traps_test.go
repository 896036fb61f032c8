package storage

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/blob/s3blob"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// What gocloud.dev/blob does that this package is built around. When one of these fails after an update, the code that
// steps around it may go, or has to change.

func openDir(t *testing.T, dir string) *blob.Bucket {
	t.Helper()
	b, err := fileblob.OpenBucket(dir, &fileblob.Options{NoTempDir: true, Metadata: fileblob.MetadataDontWrite})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func openS3(t *testing.T, server *testenv.S3) *blob.Bucket {
	t.Helper()
	server.MakeBucket("traps")
	b, err := s3blob.OpenBucket(t.Context(), server.Client(), "traps", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

var typed = &blob.WriterOptions{ContentType: "application/octet-stream"}

func TestTrapClosingAWriterCommitsWhatItGot(t *testing.T) {
	for name, b := range map[string]*blob.Bucket{"file": openDir(t, t.TempDir()), "s3": openS3(t, testenv.StartS3(t))} {
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
			t.Errorf("%s: %t, %v", name, there, err)
		}
		err = b.Upload(t.Context(), "uploaded", io.MultiReader(strings.NewReader("half"), brokenReader{}), typed)
		if there, _ := b.Exists(t.Context(), "uploaded"); there != (name == "file") {
			t.Errorf("%s: after an upload that broke off (%v): %t", name, err, there)
		}
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("broke off") }

func TestTrapCancelledUploadLeavesItsParts(t *testing.T) {
	server := testenv.StartS3(t)
	b := openS3(t, server)
	ctx, cancel := context.WithCancel(t.Context())
	w, err := b.NewWriter(ctx, "cancelled", typed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 20<<20)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := w.Close(); err == nil {
		t.Error("it was not cancelled")
	}
	out, err := server.Client().ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String("traps")})
	if err != nil || len(out.Uploads) != 1 {
		t.Errorf("got %d unfinished uploads, %v", len(out.Uploads), err)
	}
}

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
	if key, ok := tempKey(filepath.Base(names[0])); !ok || key != "x.db.zst" {
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
		if key, ok := tempKey(name); key != want || ok != (want != "") {
			t.Errorf("%s: got %q, %t, want %q", name, key, ok, want)
		}
	}
}

func TestPartsAreLargeEnough(t *testing.T) {
	for hint, want := range map[int64]int64{0: partSize, 1 << 30: partSize, 9000 * partSize: partSize, 9000*partSize + 1: 9 << 20, 1 << 40: 117 << 20} {
		got := partSizeFor(hint)
		if got != want || hint > 10_000*got {
			t.Errorf("%d bytes: got parts of %d, want %d", hint, got, want)
		}
	}
	if !slices.IsSorted([]int64{partSizeFor(1), partSizeFor(1 << 37), partSizeFor(1 << 42)}) {
		t.Error("parts of larger objects are smaller")
	}
}
