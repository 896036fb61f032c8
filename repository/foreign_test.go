package repository_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
)

// zipped returns an archive of one file, as K3s makes it.
func zipped(t *testing.T, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	e, err := w.CreateHeader(&zip.FileHeader{Name: "../../../etc/passwd", Method: zip.Deflate})
	must(t, err)
	_, err = e.Write(content)
	must(t, errors.Join(err, w.Close()))
	return b.Bytes()
}

func (p *place) readForeign(t *testing.T, file string, content []byte) (*snapshot.Snapshot, error) {
	t.Helper()
	p.backend.Set("default/"+file, content)
	spool := t.TempDir()
	rec := &snapshot.Record{File: file, Snapshot: snapshot.Snapshot{Compression: snapshot.CompressionOf(file)}}
	s, err := p.ReadForeign(t.Context(), rec, spool)
	if left, derr := os.ReadDir(spool); derr != nil || len(left) != 0 {
		t.Errorf("%s: left in the spool: %v, %v", file, left, derr)
	}
	return s, err
}

func TestForeignSnapshotsAreRead(t *testing.T) {
	sent, revision := etcdDatabase(t, 100)
	p := newPlace()
	for file, content := range map[string][]byte{
		"etcd-snapshot-server-1-1700000000": sent,
		"on-demand-a-b-1700000100.zip":      zipped(t, sent),
		"backup.db":                         sent,
	} {
		s, err := p.readForeign(t, file, content)
		must(t, err)
		if s.Revision != revision || s.TotalKeys != 100 || s.Hash == 0 ||
			s.DBSize != int64(len(sent)-repository.ChecksumSize) || s.SHA256 == "" ||
			s.StoredSize != int64(len(content)) || s.StoredSHA256 == "" {
			t.Errorf("%s: %+v", file, s)
		}
		must(t, p.PeekForeign(t.Context(), file, int64(len(content))))
	}
}

// A damaged file is told from a file that is no snapshot, and no archive fills the spool.
func TestForeignFilesThatAreNotGood(t *testing.T) {
	sent, _ := etcdDatabase(t, 100)
	flipped := bytes.Clone(sent)
	flipped[len(sent)/2] ^= 1
	archive := zipped(t, sent)
	bomb := zipped(t, append(bytes.Clone(sent), make([]byte, 50<<20)...))
	p := newPlace()
	for file, content := range map[string][]byte{
		"flipped-1700000001":    flipped,
		"cut-1700000002":        sent[:len(sent)-1000],
		"nosum-1700000003":      sent[:len(sent)-repository.ChecksumSize], // a file of a data directory
		"cutzip-1700000004.zip": archive[:len(archive)-1],
		"bomb-1700000005.zip":   bomb,
		"longer-1700000006":     append(bytes.Clone(sent), make([]byte, 512)...),
	} {
		_, err := p.readForeign(t, file, content)
		wantReason(t, file, err, snapshot.ReasonChecksumMismatch)
		err = p.PeekForeign(t.Context(), file, int64(len(content)))
		if cut := strings.HasPrefix(file, "cut"); cut != (snapshot.ReasonOf(err) == snapshot.ReasonChecksumMismatch) {
			t.Errorf("%s, by its ends: %v", file, err)
		}
	}
	for file, x := range map[string]struct {
		content []byte
		why     string
	}{
		"notes-1700000010":     {[]byte("not a snapshot"), ": it ends after 14 bytes"},
		"text-1700000011.zip":  {zipped(t, []byte("not a snapshot either")), ": it ends after 21 bytes"},
		"rubbish.db":           {bytes.Repeat([]byte("rubbish"), 5000), "a database of etcd"},
		"empty-1700000012":     {nil, ": it is empty"},
		"empty-1700000013.zip": {nil, ": it is not a whole zip archive"},
		"head-1700000014.zip":  {archive[:40], ": it is not a whole zip archive"},
		"none-1700000015.zip":  {sent, ": it is not a whole zip archive"},
	} {
		_, err := p.readForeign(t, file, x.content)
		if !errors.Is(err, repository.ErrNoSnapshot) {
			t.Errorf("%s: %v", file, err)
		}
		wantText(t, file, err, x.why)
		if err := p.PeekForeign(t.Context(), file, int64(len(x.content))); !errors.Is(err, repository.ErrNoSnapshot) {
			t.Errorf("%s, by its head: %v", file, err)
		}
	}
	if _, err := breaking(errDown).ReadForeign(t.Context(), &snapshot.Record{
		File: "x.db", Snapshot: snapshot.Snapshot{Compression: snapshot.CompressionNone},
	}, t.TempDir()); !errors.Is(err, errDown) {
		t.Errorf("of a backend that breaks off: %v", err)
	}
	if err := breaking(errDown).PeekForeign(t.Context(), "x.zip", 100); !errors.Is(err, errDown) {
		t.Errorf("of a backend that breaks off, by its ends: %v", err)
	}
	if err := p.PeekForeign(t.Context(), "missing.db", 100); !snapshot.IsNotFound(err) {
		t.Errorf("that is not there: %v", err)
	}
}

func TestNamesOfK3s(t *testing.T) {
	p := newPlace()
	for file, want := range map[string]bool{
		"etcd-snapshot-server-1-1700000000": true, "on-demand-n-1700000000.zip": true, "a-b-1700000000": true,
		"notes-1700000000": false, "backup.db": false, "etcd-snapshot-n-1700000000.db": false,
		"etcd-snapshot-n-1700000000.zip.zip": false, "etcd-snapshot-n-17": false, "-n-1700000000": false,
	} {
		if got := p.NamedByK3s(&repository.Object{Key: "default/" + file}); got != want {
			t.Errorf("%s: %v", file, got)
		}
	}
}

func TestForeignLabelsAreTakenAsFarAsTheyFit(t *testing.T) {
	p := newPlace()
	if labels := p.ForeignLabels(t.Context(), "x-1700000000"); labels != nil {
		t.Errorf("without metadata: %v", labels)
	}
	for doc, want := range map[string]int{
		`{"cluster": "prod", "n": 5, "long": "` + strings.Repeat("x", 300) + `"}`: 1,
		`[]`: 0, `{`: 0, strings.Repeat(" ", 2<<20): 0,
	} {
		p.backend.SetMetadata("default/x-1700000000", []byte(doc))
		labels := p.ForeignLabels(t.Context(), "x-1700000000")
		if len(labels) != want || want == 1 && labels["cluster"] != "prod" {
			t.Errorf("%.40s: %v", doc, labels)
		}
	}
	b := &hooked{Backend: memory.New("one", snapshot.BackendS3)} // it hides the metadata
	if labels := repository.New(repository.Config{Backend: b}).ForeignLabels(t.Context(), "x"); labels != nil {
		t.Errorf("of a backend that has none: %v", labels)
	}
}

func TestErrorsOfTheSpool(t *testing.T) {
	must(t, repository.CheckSpace(t.TempDir(), 1))
	err := repository.CheckSpace(t.TempDir(), 1<<60)
	if snapshot.ReasonOf(err) != snapshot.ReasonNoSpace {
		t.Errorf("too small: %v", err)
	}
	wantText(t, "too small", err, "--data-dir")
	for cause, want := range map[error]snapshot.Reason{
		syscall.ENOSPC: snapshot.ReasonNoSpace, syscall.EDQUOT: snapshot.ReasonNoSpace, syscall.EIO: snapshot.ReasonInternal,
	} {
		if err := repository.SpoolError("write", cause); snapshot.ReasonOf(err) != want || !errors.Is(err, cause) {
			t.Errorf("%v: %v", cause, err)
		}
	}
}

// FuzzPeekForeign: any file looks like a snapshot, or like none, or like one that was cut off.
func FuzzPeekForeign(f *testing.F) {
	head := make([]byte, 4096)
	f.Add(head, "x-n-1700000000")
	f.Add([]byte("PK\x03\x04"), "x-n-1700000000.zip")
	f.Add([]byte("PK\x05\x06"+strings.Repeat("\x00", 18)), "x-n-1700000000.zip")
	f.Fuzz(func(t *testing.T, content []byte, file string) {
		if !snapshot.ValidName(file) {
			return
		}
		p := newPlace()
		p.backend.Set("default/"+file, content)
		err := p.PeekForeign(t.Context(), file, int64(len(content)))
		if err != nil && !errors.Is(err, repository.ErrNoSnapshot) {
			wantReason(t, file, err, snapshot.ReasonChecksumMismatch)
		}
	})
}
