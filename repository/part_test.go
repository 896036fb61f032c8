package repository_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

func readPart(t *testing.T, r *repository.Repository, rec *snapshot.Record, part repository.Part) ([]byte, error) {
	t.Helper()
	part.Size = rec.StoredSize
	if part.Decoded {
		part.Size = rec.DBSize + repository.ChecksumSize
	}
	in, err := r.OpenPart(t.Context(), rec, part)
	return readAll(t, in, err)
}

func TestPartFromAnyOffset(t *testing.T) {
	key, ids := keyPair(t)
	sent := stream(20_000 * page) // three frames of zstd
	for what, x := range map[string]struct {
		compression snapshot.Compression
		recipients  []string
	}{
		"none":     {compression: snapshot.CompressionNone},
		"zstd":     {compression: snapshot.CompressionZstd},
		"zstd+age": {snapshot.CompressionZstd, []string{key}},
	} {
		t.Run(what, func(t *testing.T) {
			p := newPlace()
			rec, object := p.save(t, sent, x.compression, x.recipients...)
			for _, decoded := range []bool{false, true} {
				whole := object
				if decoded {
					whole = sent
				}
				size := int64(len(whole))
				for _, offset := range []int64{0, 1, size / 3, size - 33, size - 1, size} {
					part := repository.Part{Decoded: decoded, Offset: offset, Identities: ids}
					if got, err := readPart(t, p.Repository, rec, part); err != nil || !bytes.Equal(got, whole[offset:]) {
						t.Errorf("decoded %t from %d on: %d bytes, %v", decoded, offset, len(got), err)
					}
				}
			}
		})
	}
}

// A part far behind in a copy is read without the bytes before it.
func TestPartIsSeeked(t *testing.T) {
	sent := stream(40_000 * page)
	p := newPlace()
	rec, object := p.save(t, sent, snapshot.CompressionZstd)
	counting := &hooked{Backend: p.backend}
	var asked int64
	counting.get = func(ctx context.Context, key string, r repository.Range) (io.ReadCloser, error) {
		asked += min(int64(len(object))-r.Offset, max(r.Length, 0))
		if r.Length == 0 {
			asked += int64(len(object)) - r.Offset
		}
		return p.backend.Get(ctx, key, r)
	}
	seeking := repository.New(repository.Config{Backend: counting, Cluster: "default", Prefix: "default/"})
	offset := int64(len(sent)) - 1000
	got, err := readPart(t, seeking, rec, repository.Part{Decoded: true, Offset: offset})
	if err != nil || !bytes.Equal(got, sent[offset:]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if asked > int64(len(object))/2 {
		t.Errorf("%d of %d bytes were asked for", asked, len(object))
	}
}

func TestPartOfDamageIsAnError(t *testing.T) {
	p := newPlace()
	rec, object := p.save(t, stream(8_000*page), snapshot.CompressionZstd)
	flipped := bytes.Clone(object)
	flipped[len(flipped)/2] ^= 1
	for what, b := range map[string][]byte{
		"a bit": flipped, "cut off": object[:len(object)-1], "cut short": object[:len(object)/2],
		"longer": append(bytes.Clone(object), 0),
	} {
		p.backend.Set(dataKey, b)
		for _, decoded := range []bool{false, true} {
			_, err := readPart(t, p.Repository, rec, repository.Part{Decoded: decoded})
			wantReason(t, what, err, snapshot.ReasonChecksumMismatch)
			if what == "a bit" {
				continue // only a reader of all bytes can tell
			}
			_, err = readPart(t, p.Repository, rec, repository.Part{Decoded: decoded, Offset: 1})
			wantReason(t, what+", from 1 on", err, snapshot.ReasonChecksumMismatch)
		}
	}
}

func TestPartThatCannotBeOpened(t *testing.T) {
	key, _ := keyPair(t)
	_, foreign := keyPair(t)
	p := newPlace()
	must(t, p.OpenVerified(t.Context(), true))
	rec, _ := p.save(t, stream(4*page), snapshot.CompressionZstd, key)
	for _, ids := range []age.Identities{{}, foreign} {
		_, err := readPart(t, p.Repository, rec, repository.Part{Decoded: true, Identities: ids})
		wantReason(t, "without its identity", err, snapshot.ReasonSnapshotSealed)
	}
	p.backend.Remove("default/" + rec.DataKey())
	for _, part := range []repository.Part{{}, {Offset: 1}, {Decoded: true}, {Decoded: true, Offset: 1}} {
		_, err := readPart(t, p.Repository, rec, part)
		wantReason(t, "that is gone", err, snapshot.ReasonCopyMissing)
		wantText(t, "that is gone", err, "reconcile takes note of that")
	}
	p.backend.Remove(snapshot.MarkerKey)
	_, err := readPart(t, p.Repository, rec, repository.Part{})
	wantReason(t, "unmounted", err, snapshot.ReasonBackendWrongStore)
}

func TestPartEndsWithItsContext(t *testing.T) {
	p := newPlace()
	rec, _ := p.save(t, stream(8_000*page), snapshot.CompressionZstd)
	ctx, cancel := context.WithCancel(t.Context())
	in, err := p.OpenPart(ctx, rec, repository.Part{Size: rec.StoredSize})
	must(t, err)
	cancel()
	if _, err := io.Copy(io.Discard, in); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	must(t, in.Close())
}
