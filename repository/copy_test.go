package repository_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

func readCopy(t *testing.T, r *repository.Repository, rec *snapshot.Record, ids age.Identities) ([]byte, error) {
	t.Helper()
	in, err := r.OpenCopy(t.Context(), rec, ids)
	return readAll(t, in, err)
}

func readStored(t *testing.T, r *repository.Repository, rec *snapshot.Record) (b []byte, failed, err error) {
	t.Helper()
	in, err := r.OpenStored(t.Context(), rec)
	if err != nil {
		return nil, nil, err
	}
	b, err = readAll(t, in, nil)
	return b, in.Failed(), err
}

// flips returns how many bits are flipped of each kind of object; a tenth as many are cut off. SNAPSHOTD_DAMAGES is
// another number.
func flips() int {
	if n, err := strconv.Atoi(os.Getenv("SNAPSHOTD_DAMAGES")); err == nil {
		return n
	}
	return 1_000
}

// damages calls check, on several goroutines, with copies of a document of which one bit is not as it was, or that are
// too short.
func damages(t *testing.T, good []byte, check func(what string, bad []byte)) {
	t.Helper()
	flips := flips()
	seed := rand.Uint64()
	t.Logf("seed %d, %d bytes, %d flips", seed, len(good), flips)
	rnd := rand.New(rand.NewPCG(seed, 0))
	type job struct{ at, bit int }
	jobs := make(chan job)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			own := bytes.Clone(good)
			for j := range jobs {
				if j.bit < 0 {
					check(fmt.Sprintf("cut off after %d bytes", j.at), own[:j.at])
					continue
				}
				own[j.at] ^= 1 << j.bit
				check(fmt.Sprintf("bit %d of byte %d flipped", j.bit, j.at), own)
				own[j.at] ^= 1 << j.bit
			}
		})
	}
	for range flips {
		jobs <- job{rnd.IntN(len(good)), rnd.IntN(8)}
	}
	for range flips / 10 {
		jobs <- job{rnd.IntN(len(good)), -1}
	}
	close(jobs)
	workers.Wait()
}

// Any bit of an object that changes, and any end that is cut off, makes its reading an error, and a good object is read
// as etcd sent it.
func TestCopyShowsEveryDamage(t *testing.T) {
	key, ids := keyPair(t)
	sent := stream(20 * page)
	for what, x := range map[string]struct {
		compression snapshot.Compression
		recipients  []string
	}{
		"none":     {compression: snapshot.CompressionNone},
		"zstd":     {compression: snapshot.CompressionZstd},
		"age":      {snapshot.CompressionNone, []string{key}},
		"zstd+age": {snapshot.CompressionZstd, []string{key}},
	} {
		t.Run(what, func(t *testing.T) {
			p := newPlace()
			rec, good := p.save(t, sent, x.compression, x.recipients...)
			if got, err := readCopy(t, p.Repository, rec, ids); err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("the good copy: %d bytes, %v", len(got), err)
			}
			stored, failed, err := readStored(t, p.Repository, rec)
			if err != nil || failed != nil || !bytes.Equal(stored, good) {
				t.Fatalf("the good copy as it is stored: %d bytes, %v, %v", len(stored), failed, err)
			}
			damaged := func(what string, object []byte) {
				t.Helper()
				_, err := readCopy(t, giving(object), rec, ids)
				wantReason(t, what, err, snapshot.ReasonChecksumMismatch)
			}
			damages(t, good, damaged)
			damaged("a longer object", append(bytes.Clone(good), 0))
			damaged("an object twice", append(bytes.Clone(good), good...))
			for _, bad := range [][]byte{
				good[:len(good)-1], append(bytes.Clone(good), 0), append([]byte{good[0] ^ 1}, good[1:]...),
			} {
				_, failed, err := readStored(t, giving(bad), rec)
				wantReason(t, "a damaged object as it is stored", err, snapshot.ReasonChecksumMismatch)
				if failed == nil {
					t.Error("it has not failed")
				}
			}
		})
	}
}

// A damaged copy is an error that no retry makes better; a backend that breaks off is none of damage.
func TestErrorsOfCopies(t *testing.T) {
	rec, object := record(t, stream(4*page), snapshot.CompressionZstd)
	_, err := readCopy(t, giving(object[:len(object)-1]), rec, age.Identities{})
	if e, ok := errors.AsType[*snapshot.Error](err); !ok || e.Retry != 0 || e.Hint == "" {
		t.Errorf("damaged: %+v", e)
	}
	_, err = readCopy(t, breaking(errDown), rec, age.Identities{})
	if !errors.Is(err, errDown) || snapshot.IsDamage(err) {
		t.Errorf("with a backend that breaks off: %v", err)
	}
	if _, err := readCopy(t, newPlace().Repository, rec, age.Identities{}); !snapshot.IsNotFound(err) {
		t.Errorf("that is not there: %v", err)
	}
	if _, failed, err := readStored(t, breaking(errDown), rec); !errors.Is(err, errDown) || !errors.Is(failed, errDown) {
		t.Errorf("as it is stored, with a backend that breaks off: %v, %v", failed, err)
	}
}

// WriteTo gives the same bytes as Read, and returns an error of the writer as it is.
func TestCopyIsWritten(t *testing.T) {
	sent := stream(3_000 * page)
	p := newPlace()
	rec, object := p.save(t, sent, snapshot.CompressionZstd)
	in, err := p.OpenCopy(t.Context(), rec, age.Identities{})
	must(t, err)
	var b bytes.Buffer
	if n, err := io.Copy(&b, in); err != nil || n != int64(len(sent)) || !bytes.Equal(b.Bytes(), sent) {
		t.Errorf("%d bytes, %v", n, err)
	}
	must(t, in.Close())

	flipped := bytes.Clone(object)
	flipped[len(flipped)/2] ^= 1
	in, err = giving(flipped).OpenCopy(t.Context(), rec, age.Identities{})
	must(t, err)
	_, err = io.Copy(io.Discard, in)
	wantReason(t, "damaged", err, snapshot.ReasonChecksumMismatch)
	must(t, in.Close())

	errFull := errors.New("the disk is full")
	in, err = p.OpenCopy(t.Context(), rec, age.Identities{})
	must(t, err)
	if _, err := io.Copy(failingWriter{errFull}, in); !errors.Is(err, errFull) {
		t.Errorf("got %v, want the error of the writer", err)
	}
	must(t, in.Close())
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// An encrypted copy can be read with the identity of each recipient and no other.
func TestEncryptedCopy(t *testing.T) {
	one, fileOne := keyFile(t)
	two, fileTwo := keyFile(t)
	_, fileOther := keyFile(t)
	idOne, idOther := readKeys(t, fileOne), readKeys(t, fileOther)
	p := newPlace()
	sent := stream(4 * page)
	rec, _ := p.save(t, sent, snapshot.CompressionZstd, one, two)
	if !strings.HasSuffix(p.Location(rec, rec.CreateTime).URI, rec.Name+".db.zst.age") {
		t.Errorf("it is at %s", p.Location(rec, rec.CreateTime).URI)
	}
	for _, file := range []string{fileOne, fileTwo} {
		if got, err := readCopy(t, p.Repository, rec, readKeys(t, fileOther, file)); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	for want, ids := range map[string]age.Identities{
		"none of the identities at hand": idOther, "there is no identity at hand": {},
	} {
		_, err := readCopy(t, p.Repository, rec, ids)
		wantReason(t, "without its identity", err, snapshot.ReasonSnapshotSealed)
		for _, text := range []string{want, one, two, "--identity"} {
			wantText(t, "without its identity", err, text)
		}
	}
	if _, err := readCopy(t, breaking(errDown), rec, idOne); !errors.Is(err, errDown) {
		t.Errorf("with a backend that breaks off: %v", err)
	}
}

// misgiving is a backend that gives other bytes than it has.
type misgiving struct {
	repository.Backend
	give []byte
}

func (m misgiving) Get(context.Context, string, repository.Range) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(m.give)), nil
}

// A backend that gives more or fewer bytes than it says that it has does not make the copy a damaged one.
func TestAnswerOfTheWrongLengthIsNoDamage(t *testing.T) {
	key, ids := keyPair(t)
	for _, recipients := range [][]string{nil, {key}} {
		p := newPlace()
		rec, good := p.save(t, stream(20*page), snapshot.CompressionZstd, recipients...)
		for what, give := range map[string][]byte{
			"nothing": nil, "a head": good[:40], "all but the last": good[:len(good)-1], "more": append(bytes.Clone(good), good...),
		} {
			r := newPlace(func(c *repository.Config) { c.Backend = misgiving{p.backend, give} }).Repository
			_, err := readCopy(t, r, rec, ids)
			wantReason(t, what, err, snapshot.ReasonBackendUnavailable)
			_, _, err = readStored(t, r, rec)
			wantReason(t, what+", as it is stored", err, snapshot.ReasonBackendUnavailable)
		}
	}
}
