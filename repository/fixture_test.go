package repository_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	filippo "filippo.io/age"
	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/codec/seekable"
	"github.com/snapshotd/snapshotd/internal/testenv/check"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/repository/signing"
	"github.com/snapshotd/snapshotd/snapshot"
)

var must = check.OK

const name = "on-demand-node-1-1700000000"

// place is a repository of cluster "default" on a backend "one" in memory.
type place struct {
	*repository.Repository
	backend *memory.Backend
	stores  *stores
}

func newPlace(edit ...func(*repository.Config)) *place {
	p := &place{backend: memory.New("one", snapshot.BackendS3), stores: &stores{}}
	cfg := repository.Config{Backend: p.backend, Cluster: "default", Prefix: "default/", Stores: p.stores}
	for _, e := range edit {
		e(&cfg)
	}
	p.Repository = repository.New(cfg)
	return p
}

// stores is the part of a catalog that remembers stores.
type stores struct {
	mu      sync.Mutex
	known   map[string]snapshot.Store
	down    error // of all calls
	putDown error
}

func (s *stores) Store(_ context.Context, backend string) (snapshot.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.known[backend]
	switch {
	case s.down != nil:
		return known, s.down
	case !ok:
		return known, snapshot.ErrNotFound
	}
	return known, nil
}

func (s *stores) PutStore(_ context.Context, backend string, st snapshot.Store) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.down != nil:
		return s.down
	case s.putDown != nil:
		return s.putDown
	case s.known[backend].Version != st.Version:
		return snapshot.ErrConflict
	}
	st.Version++
	s.known = maps.Clone(s.known)
	if s.known == nil {
		s.known = map[string]snapshot.Store{}
	}
	s.known[backend] = st
	return nil
}

// stream returns a stream as etcd sends it for a database of n random bytes.
func stream(n int) []byte {
	db := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(db)
	return withChecksum(db)
}

func withChecksum(db []byte) []byte {
	sum := sha256.Sum256(db)
	return append(bytes.Clone(db), sum[:]...)
}

// etcdDatabase returns a stream with a database that is laid out as etcd's, with this many keys, and its newest
// revision.
func etcdDatabase(t *testing.T, keys int) (sent []byte, revision int64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "etcd.db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true, PageSize: 4096})
	must(t, err)
	must(t, db.Update(func(tx *bolt.Tx) error {
		for _, bucket := range []string{"alarm", "auth", "cluster", "key", "lease", "members", "meta"} {
			if _, err := tx.CreateBucket([]byte(bucket)); err != nil {
				return err
			}
		}
		for i := range keys {
			kv := &mvccpb.KeyValue{Key: fmt.Appendf(nil, "/k/%d", i), Value: []byte(strings.Repeat("x", i%500))}
			v, err := proto.Marshal(kv)
			if err != nil {
				return err
			}
			key := append(binary.BigEndian.AppendUint64(nil, uint64(i+2)), '_')
			if err := tx.Bucket([]byte("key")).Put(binary.BigEndian.AppendUint64(key, 0), v); err != nil {
				return err
			}
		}
		return nil
	}))
	var b bytes.Buffer
	must(t, db.View(func(tx *bolt.Tx) error {
		_, err := tx.WriteTo(&b)
		return err
	}))
	must(t, db.Close())
	return withChecksum(b.Bytes()), int64(keys + 1)
}

// wholeRecord returns a record in which all fields that a manifest has are set.
func wholeRecord() *snapshot.Record {
	return &snapshot.Record{
		Snapshot: snapshot.Snapshot{
			Name: name, Cluster: "default", Labels: map[string]string{"a": "b"},
			Trigger:    snapshot.TriggerManual,
			Schedule:   "nightly",
			TraceID:    "4bf92f3577b34da6a3ce929d0e0e4736",
			CreateTime: time.Unix(1_700_000_000, 123).UTC(), Duration: 1234567891 * time.Nanosecond,
			Pinned: true, Node: "node-1", EtcdVersion: "3.7.3", StorageVersion: "3.7.0",
			EtcdClusterID: "0123456789abcdef", EtcdMemberID: "fedcba9876543210",
			Revision: 1 << 60, TotalKeys: 7, DBSize: 4096, SHA256: strings.Repeat("a", 64), Hash: 4_000_000_000,
			Alarms:         []string{"NOSPACE 8e9e05c52164694d"},
			OldestRevision: 3,
			Compression:    snapshot.CompressionZstd, EncryptionRecipients: []string{"age1x", "ssh-rsa y"},
			StoredSize: 1000, StoredSHA256: strings.Repeat("b", 64),
		},
		RequestID: "id",
	}
}

// record returns the record of a snapshot of a stream, and its object.
func record(t *testing.T, sent []byte, c snapshot.Compression, recipients ...string) (*snapshot.Record, []byte) {
	t.Helper()
	rec := wholeRecord()
	rec.Compression, rec.EncryptionRecipients = c, recipients
	object := sent
	if c == snapshot.CompressionZstd {
		var b bytes.Buffer
		_, err := seekable.Copy(t.Context(), &b, bytes.NewReader(sent), seekable.Options{})
		must(t, err)
		object = b.Bytes()
	}
	if len(recipients) > 0 {
		all, err := age.NewRecipients(recipients)
		must(t, err)
		var b bytes.Buffer
		w, err := all.NewWriter(&b)
		must(t, err)
		_, err = w.Write(object)
		must(t, errors.Join(err, w.Close()))
		object = b.Bytes()
	}
	size := len(sent) - repository.ChecksumSize
	rec.DBSize, rec.SHA256 = int64(size), hex.EncodeToString(sent[size:])
	sum := sha256.Sum256(object)
	rec.StoredSize, rec.StoredSHA256 = int64(len(object)), hex.EncodeToString(sum[:])
	return rec, object
}

// save stores a snapshot of a stream.
func (p *place) save(
	t *testing.T, sent []byte, c snapshot.Compression, recipients ...string,
) (*snapshot.Record, []byte) {
	t.Helper()
	rec, object := record(t, sent, c, recipients...)
	must(t, p.PutData(t.Context(), rec, bytes.NewReader(object), repository.PutDataOptions{SizeHint: rec.StoredSize}))
	must(t, p.PutManifest(t.Context(), rec.Name, encoded(t, rec, nil)))
	return rec, object
}

func encoded(t testing.TB, rec *snapshot.Record, signer *signing.Signer) []byte {
	t.Helper()
	doc, err := repository.EncodeManifest(rec, signer)
	must(t, err)
	return doc
}

// keyPair returns a recipient and its identity.
func keyPair(t *testing.T) (string, age.Identities) {
	t.Helper()
	recipient, file := keyFile(t)
	return recipient, readKeys(t, file)
}

// keyFile returns a recipient, and a file with its identity.
func keyFile(t *testing.T) (recipient, file string) {
	t.Helper()
	id, err := filippo.GenerateX25519Identity()
	must(t, err)
	file = filepath.Join(t.TempDir(), "identity")
	must(t, os.WriteFile(file, []byte(id.String()), 0o600))
	return id.Recipient().String(), file
}

func readKeys(t *testing.T, files ...string) age.Identities {
	t.Helper()
	ids, err := age.ReadIdentities(files...)
	must(t, err)
	return ids
}

// wantReason checks that an error is one of backend "one" with this reason.
func wantReason(t *testing.T, what string, err error, reason snapshot.Reason) {
	t.Helper()
	e, ok := errors.AsType[*snapshot.Error](err)
	if !ok || e.Reason != reason || e.Backend != "one" {
		t.Errorf("%s: %v (%s), want %s of one", what, err, snapshot.ReasonOf(err), reason)
	}
}

func wantText(t *testing.T, what string, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v, want %q", what, err, text)
	}
}

// readAll reads an opened copy.
func readAll(t *testing.T, in io.ReadCloser, err error) ([]byte, error) {
	t.Helper()
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(in)
	if cerr := in.Close(); cerr != nil {
		t.Error(cerr)
	}
	return b, err
}

// hooked is a backend whose objects are opened by get.
type hooked struct {
	repository.Backend
	get func(ctx context.Context, key string, r repository.Range) (io.ReadCloser, error)
}

func (h *hooked) Get(ctx context.Context, key string, r repository.Range) (io.ReadCloser, error) {
	return h.get(ctx, key, r)
}

// giving returns a repository whose backend has one object, whatever key is read.
func giving(object []byte) *repository.Repository {
	b := &hooked{Backend: memory.New("one", snapshot.BackendS3)}
	b.get = func(context.Context, string, repository.Range) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(object)), nil
	}
	return repository.New(repository.Config{Backend: b, Cluster: "default", Prefix: "default/"})
}

// breaking returns a repository whose reads fail.
func breaking(with error) *repository.Repository {
	b := &hooked{Backend: memory.New("one", snapshot.BackendS3)}
	b.get = func(context.Context, string, repository.Range) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(errorReader{with})), nil
	}
	return repository.New(repository.Config{Backend: b, Cluster: "default", Prefix: "default/"})
}

type errorReader struct{ err error }

func (e errorReader) Read([]byte) (int, error) { return 0, e.err }

var errDown = snapshot.ReasonBackendUnavailable.New("the connection broke").On("one")

// onlyReader gives its bytes and hides the other methods of a reader.
type onlyReader struct{ left []byte }

func (r *onlyReader) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}
