package cluster_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/cluster/downloading"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// download reads all that a download gives.
func (f *fixture) download(t *testing.T, req cluster.DownloadRequest) (*downloading.Download, []byte, error) {
	t.Helper()
	d, err := f.Download(t.Context(), req)
	if err != nil {
		return nil, nil, err
	}
	b, err := io.ReadAll(d)
	if cerr := d.Close(); cerr != nil {
		t.Error(cerr)
	}
	return d, b, err
}

func TestDownloadFromAnyOffset(t *testing.T) {
	for _, compression := range []snapshot.Compression{snapshot.CompressionZstd, snapshot.CompressionNone} {
		t.Run(compression.String(), func(t *testing.T) {
			f := newFixture(t, func(c *cluster.Config) { c.Compression = compression })
			s := f.mustSave(t)
			for _, decoded := range []bool{false, true} {
				d, all, err := f.download(t, cluster.DownloadRequest{Name: s.Name, Decoded: decoded})
				if err != nil || d.Backend != "one" || d.Size != int64(len(all)) {
					t.Fatalf("decoded %t: %d bytes, %+v, %v", decoded, len(all), d, err)
				}
				sum := sha256.Sum256(all[:d.SHA256Bytes])
				if hex.EncodeToString(sum[:]) != d.SHA256 || decoded && !bytes.Equal(all[d.SHA256Bytes:], sum[:]) {
					t.Errorf("decoded %t: the checksum is not that of what came", decoded)
				}
				for _, offset := range []int64{1, d.Size / 2, d.Size - 33, d.Size - 1, d.Size} {
					_, rest, err := f.download(t, cluster.DownloadRequest{Name: s.Name, Decoded: decoded, Offset: offset, Backend: "two"})
					if err != nil || !bytes.Equal(rest, all[offset:]) {
						t.Errorf("decoded %t from %d on: %d bytes, %v", decoded, offset, len(rest), err)
					}
				}
				for _, offset := range []int64{-1, d.Size + 1} {
					if _, _, err := f.download(t, cluster.DownloadRequest{Name: s.Name, Decoded: decoded, Offset: offset}); snapshot.ReasonOf(err) != snapshot.ReasonInvalidArgument {
						t.Errorf("from %d on: %v", offset, err)
					}
				}
			}
		})
	}
}

func TestDownloadTakesTheNextBackend(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	if err := os.Remove(filepath.Join(f.dirs["one"], "default", f.dataKey(t, s.Name))); err != nil {
		t.Fatal(err)
	}
	for _, offset := range []int64{0, 10} {
		if d, _, err := f.download(t, cluster.DownloadRequest{Name: s.Name, Offset: offset}); err != nil || d.Backend != "two" {
			t.Errorf("from %d on: %+v, %v", offset, d, err)
		}
	}
	if _, _, err := f.download(t, cluster.DownloadRequest{Name: s.Name, Backend: "one"}); snapshot.ReasonOf(err) != snapshot.ReasonCopyMissing {
		t.Errorf("of the one that is gone: %v", err)
	}
	if _, _, err := f.download(t, cluster.DownloadRequest{Name: "x"}); snapshot.ReasonOf(err) != snapshot.ReasonSnapshotNotFound {
		t.Errorf("of none: %v", err)
	}
}

// A backend that is READY has all of the snapshot, whatever the slowest one is doing.
func TestDownloadFromTheBackendThatHasItWhileOthersAreWritten(t *testing.T) {
	halfSaved(t, nil, func(t *testing.T, f *fixture, rec *snapshot.Record) {
		for _, decoded := range []bool{false, true} {
			d, got, err := f.download(t, cluster.DownloadRequest{Name: rec.Name, Decoded: decoded})
			if err != nil || d.Backend != "one" || int64(len(got)) != d.Size {
				t.Errorf("decoded %t: %+v with %d bytes, %v", decoded, d, len(got), err)
			}
		}
		if _, _, err := f.download(t, cluster.DownloadRequest{Name: rec.Name, Backend: "two"}); snapshot.ReasonOf(err) != snapshot.ReasonCopyMissing {
			t.Errorf("from the one that is still written: %v", err)
		}
	})
}

func TestDownloadOfDamageIsAnError(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	path := filepath.Join(f.dirs["one"], "default", f.dataKey(t, s.Name))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	for name, b := range map[string][]byte{"a bit": flipped, "cut off": whole[:len(whole)-1], "cut short": whole[:len(whole)/2], "longer": append(bytes.Clone(whole), 0)} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, decoded := range []bool{false, true} {
			_, _, err := f.download(t, cluster.DownloadRequest{Name: s.Name, Backend: "one", Decoded: decoded})
			if snapshot.ReasonOf(err) != snapshot.ReasonChecksumMismatch {
				t.Errorf("%s, decoded %t: %v", name, decoded, err)
			}
			if name == "a bit" {
				continue // only who has all bytes can tell
			}
			_, _, err = f.download(t, cluster.DownloadRequest{Name: s.Name, Backend: "one", Decoded: decoded, Offset: 1})
			if snapshot.ReasonOf(err) != snapshot.ReasonChecksumMismatch {
				t.Errorf("%s, decoded %t, from 1 on: %v", name, decoded, err)
			}
		}
	}
}

// hanging is a backend whose objects give some bytes, and no more until their context ends.
type hanging struct {
	repository.Backend
	t     *testing.T
	hangs chan struct{} // closed when a Read does
}

func (h *hanging) Get(ctx context.Context, key string, r repository.Range) (io.ReadCloser, error) {
	in, err := h.Backend.Get(ctx, key, r)
	if err != nil || !strings.HasSuffix(key, ".db") {
		return in, err
	}
	return &hangingReader{ReadCloser: in, of: h, ctx: ctx, closed: make(chan struct{})}, nil
}

type hangingReader struct {
	io.ReadCloser
	of      *hanging
	ctx     context.Context //nolint:containedctx // of the object
	given   int
	reading atomic.Bool
	closed  chan struct{}
}

func (r *hangingReader) Read(p []byte) (int, error) {
	if r.given < 1<<10 {
		n, err := r.ReadCloser.Read(p)
		r.given += n
		return n, err
	}
	r.reading.Store(true)
	defer r.reading.Store(false)
	close(r.of.hangs)
	select {
	case <-r.ctx.Done():
		return 0, context.Cause(r.ctx)
	case <-r.closed:
		return 0, io.ErrUnexpectedEOF
	}
}

func (r *hangingReader) Close() error {
	if r.reading.Load() {
		r.of.t.Error("the object is closed beside a Read of it")
	}
	close(r.closed)
	return r.ReadCloser.Close()
}

// A download is closed from outside when its caller is too slow, wherever it is.
func TestADownloadCanBeClosedBesideARead(t *testing.T) {
	for _, decoded := range []bool{false, true} {
		slow := &hanging{t: t, hangs: make(chan struct{})}
		f := newFixture(t, func(c *cluster.Config) {
			slow.Backend = c.Backends[0]
			c.Backends[0], c.Compression = slow, snapshot.CompressionNone
		})
		s := f.mustSave(t)
		d, err := f.Download(t.Context(), cluster.DownloadRequest{Name: s.Name, Backend: "one", Decoded: decoded})
		if err != nil {
			t.Fatal(err)
		}
		read := make(chan error)
		go func() {
			_, err := io.Copy(io.Discard, d)
			read <- err
		}()
		<-slow.hangs
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if err := <-read; !errors.Is(err, context.Canceled) {
			t.Errorf("the Read ended with %v", err)
		}
		if n, err := d.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, io.EOF) {
			t.Errorf("after it was closed, %d bytes are read, %v", n, err)
		}
	}
}

func TestDownloadEndsWithItsCaller(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	ctx, cancel := context.WithCancel(t.Context())
	d, err := f.Download(ctx, cluster.DownloadRequest{Name: s.Name, Decoded: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	cancel()
	if _, err := io.Copy(io.Discard, d); !errors.Is(err, context.Canceled) && err != nil {
		t.Errorf("got %v", err)
	}
}

// Each download holds memory as long as its caller takes.
func TestDownloadsWaitForEachOther(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	var open []*downloading.Download
	for range 2 {
		d, err := f.Download(t.Context(), cluster.DownloadRequest{Name: s.Name})
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, d)
	}
	var room atomic.Bool
	f.backends["one"].get = func(key string) error {
		if strings.HasSuffix(key, f.dataKey(t, s.Name)) && !room.Load() {
			t.Error("one more is read")
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	gone, next := make(chan error), make(chan error)
	for ctx, done := range map[context.Context]chan error{ctx: gone, t.Context(): next} {
		go func() {
			d, err := f.Download(ctx, cluster.DownloadRequest{Name: s.Name})
			if err == nil {
				err = d.Close()
			}
			done <- err
		}()
	}
	f.mustSave(t) // while they wait
	cancel()
	if err := <-gone; snapshot.ReasonOf(err) != snapshot.ReasonCancelled {
		t.Errorf("a caller who has gone: %v", err)
	}
	room.Store(true)
	if err := errors.Join(open[0].Close(), <-next); err != nil {
		t.Error(err)
	}
	for _, d := range open {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}
