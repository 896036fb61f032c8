package repository_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/etcd/database"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// drillerFunc answers as a restored etcd.
type drillerFunc func(file string, revision int64) (repository.Drilled, error)

func (f drillerFunc) Drill(_ context.Context, file string, revision int64) (repository.Drilled, error) {
	return f(file, revision)
}

// saveDatabase stores a snapshot of a real database, with the facts that a save finds in it.
func (p *place) saveDatabase(t *testing.T, recipients ...string) (*snapshot.Record, []byte) {
	t.Helper()
	sent, revision := etcdDatabase(t, 100)
	rec, object := record(t, sent, snapshot.CompressionZstd, recipients...)
	file := filepath.Join(t.TempDir(), "snapshot.db")
	must(t, os.WriteFile(file, sent, 0o600))
	found, err := database.File(t.Context(), file, database.Options{})
	must(t, err)
	if found.Revision != revision {
		t.Fatalf("the database has revision %d, want %d", found.Revision, revision)
	}
	rec.Revision, rec.TotalKeys, rec.Hash = found.Revision, found.TotalKeys, found.Hash
	must(t, p.PutData(t.Context(), rec, bytes.NewReader(object), repository.PutDataOptions{}))
	must(t, p.PutManifest(t.Context(), name, encoded(t, rec, nil)))
	return rec, sent
}

func TestCheckReadsAGoodCopyAtEveryLevel(t *testing.T) {
	p := newPlace()
	rec, sent := p.saveDatabase(t)
	for _, level := range []snapshot.Level{snapshot.LevelChecksum, snapshot.LevelStructure, snapshot.LevelDrill} {
		var last, of int64
		dir := t.TempDir()
		c := repository.Check{
			Repository: p.Repository, Record: rec, Level: level, Dir: dir,
			Progress: func(done, total int64) { last, of = done, total },
			Driller: drillerFunc(func(file string, revision int64) (repository.Drilled, error) {
				if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, sent) || revision != rec.Revision {
					t.Errorf("drilled with %d bytes, revision %d, %v", len(b), revision, err)
				}
				return repository.Drilled{HashKV: 7, TotalKeys: rec.TotalKeys}, nil
			}),
		}
		got, err := c.Run(t.Context())
		must(t, err)
		want := repository.Checked{Decoded: true}
		if level >= snapshot.LevelStructure {
			want.Revision, want.TotalKeys, want.Hash = rec.Revision, rec.TotalKeys, rec.Hash
		}
		if level == snapshot.LevelDrill {
			want.Drilled = repository.Drilled{HashKV: 7, TotalKeys: rec.TotalKeys}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%v: %+v, want %+v", level, got, want)
		}
		if last != int64(len(sent)) || of != last {
			t.Errorf("%v: the progress ended with %d of %d", level, last, of)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("%v: left in the spool: %v, %v", level, left, err)
		}
	}
}

func TestCheckOfACopyThatIsNotGood(t *testing.T) {
	p := newPlace()
	rec, _ := p.saveDatabase(t)
	run := func(level snapshot.Level, drilled repository.Drilled, drillErr error) error {
		t.Helper()
		c := repository.Check{
			Repository: p.Repository, Record: rec, Level: level, Dir: t.TempDir(),
			Driller: drillerFunc(func(string, int64) (repository.Drilled, error) { return drilled, drillErr }),
		}
		_, err := c.Run(t.Context())
		return err
	}
	err := run(snapshot.LevelDrill, repository.Drilled{TotalKeys: rec.TotalKeys - 1}, nil)
	wantReason(t, "keys are missing", err, snapshot.ReasonSnapshotUnreadable)
	err = run(snapshot.LevelDrill, repository.Drilled{}, fmt.Errorf("%w: it panicked", repository.ErrNotRestorable))
	wantReason(t, "not restorable", err, snapshot.ReasonSnapshotUnreadable)
	errPort := errors.New("no port is free")
	if err := run(snapshot.LevelDrill, repository.Drilled{}, errPort); !errors.Is(err, errPort) || snapshot.IsDamage(err) {
		t.Errorf("a drill that could not begin: %v", err)
	}
	rec.Hash++
	err = run(snapshot.LevelStructure, repository.Drilled{}, nil)
	wantReason(t, "another hash", err, snapshot.ReasonSnapshotUnreadable)
	must(t, run(snapshot.LevelChecksum, repository.Drilled{}, nil))
	rec.SHA256 = rec.StoredSHA256
	wantReason(t, "another sum", run(snapshot.LevelChecksum, repository.Drilled{}, nil), snapshot.ReasonChecksumMismatch)
	p.backend.Remove(dataKey)
	if err := run(snapshot.LevelChecksum, repository.Drilled{}, nil); !snapshot.IsNotFound(err) {
		t.Errorf("that is gone: %v", err)
	}

	noDatabase := newPlace()
	rec, _ = noDatabase.save(t, stream(8*page), snapshot.CompressionZstd)
	c := repository.Check{Repository: noDatabase.Repository, Record: rec, Level: snapshot.LevelStructure, Dir: t.TempDir()}
	_, err = c.Run(t.Context())
	wantReason(t, "no database", err, snapshot.ReasonSnapshotUnreadable)
	wantText(t, "no database", err, "read the database of "+noDatabase.URI(rec.DataKey()))
	c.Dir = filepath.Join(t.TempDir(), "missing")
	if _, err := c.Run(t.Context()); err == nil || snapshot.IsDamage(err) {
		t.Errorf("without a spool: %v", err)
	}
}

// Without an identity the stored bytes of an encrypted copy are compared, and no more.
func TestCheckOfAnEncryptedCopy(t *testing.T) {
	key, ids := keyPair(t)
	p := newPlace()
	rec, _ := p.saveDatabase(t, key)
	for _, ids := range []age.Identities{{}, ids} {
		c := repository.Check{Repository: p.Repository, Record: rec, Level: snapshot.LevelChecksum, Identities: ids}
		if got, err := c.Run(t.Context()); err != nil || got.Decoded == ids.Empty() {
			t.Errorf("with identities %t: %+v, %v", !ids.Empty(), got, err)
		}
	}
	c := repository.Check{Repository: p.Repository, Record: rec, Level: snapshot.LevelStructure, Dir: t.TempDir()}
	_, err := c.Run(t.Context())
	wantReason(t, "structure without an identity", err, snapshot.ReasonSnapshotSealed)
	object := p.backend.Content("default/" + rec.DataKey())
	object[len(object)/2] ^= 1
	p.backend.Set("default/"+rec.DataKey(), object)
	c.Level = snapshot.LevelChecksum
	_, err = c.Run(t.Context())
	wantReason(t, "damaged", err, snapshot.ReasonChecksumMismatch)
}

// A file of a data directory has no checksum at its end, and is fetched when hashes are skipped.
func TestFetchSkipsHashesOnRequest(t *testing.T) {
	p := newPlace()
	rec, sent := p.saveDatabase(t)
	bare := sent[:len(sent)-repository.ChecksumSize]
	rec.File, rec.Compression, rec.Trigger = "backup.db", snapshot.CompressionNone, snapshot.TriggerAdopted
	p.backend.Set("default/backup.db", bare)
	c := repository.Check{Repository: p.Repository, Record: rec, Dir: t.TempDir()}
	path := filepath.Join(t.TempDir(), "fetched.db")
	wantReason(t, "with hashes", c.Fetch(t.Context(), path), snapshot.ReasonChecksumMismatch)
	c.SkipHashes = true
	must(t, c.Fetch(t.Context(), path))
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, bare) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Fetch(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A few bytes that decompress to very many do not fill the disk, although manifest and checksums fit them.
func TestNoMoreComesOutOfACopyThanItsDatabase(t *testing.T) {
	sent, _ := etcdDatabase(t, 100)
	const more = 64 << 20
	rec, _ := record(t, sent, snapshot.CompressionZstd)
	_, object := record(t, append(bytes.Clone(sent), make([]byte, more)...), snapshot.CompressionZstd)
	sum := sha256.Sum256(object)
	rec.StoredSize, rec.StoredSHA256 = int64(len(object)), hex.EncodeToString(sum[:])
	archived := &snapshot.Record{File: "etcd-snapshot-n-1700000000.zip", Snapshot: snapshot.Snapshot{
		Name: "etcd-snapshot-n-1700000000", Trigger: snapshot.TriggerAdopted, Compression: snapshot.CompressionZip,
	}}
	rubbish := archived.Copy()
	rubbish.Name, rubbish.File = "etcd-snapshot-n-1700000001", "etcd-snapshot-n-1700000001.zip"
	p := newPlace()
	p.backend.Set("default/"+rec.DataKey(), object)
	p.backend.Set("default/"+archived.File, zipped(t, append(bytes.Clone(sent), make([]byte, more)...)))
	p.backend.Set("default/"+rubbish.File, zipped(t, make([]byte, more)))
	for _, rec := range []*snapshot.Record{rec, archived, rubbish} {
		file := filepath.Join(t.TempDir(), "snapshot.db")
		c := repository.Check{Repository: p.Repository, Record: rec, Dir: t.TempDir(), Level: snapshot.LevelChecksum}
		err := c.Fetch(t.Context(), file)
		wantReason(t, rec.File, err, snapshot.ReasonChecksumMismatch)
		if info, serr := os.Stat(file); serr != nil || info.Size() > int64(len(sent)) {
			t.Errorf("%s: %d bytes were written, %v", rec.File, info.Size(), serr)
		}
		_, err = c.Run(t.Context())
		wantReason(t, "check of "+rec.File, err, snapshot.ReasonChecksumMismatch)
	}
}
