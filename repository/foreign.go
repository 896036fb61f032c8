package repository

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/codec/zip"
	"github.com/snapshotd/snapshotd/internal/etcd/database"
	"github.com/snapshotd/snapshotd/snapshot"
)

// ErrNoSnapshot: an object has the name of a snapshot and is none.
var ErrNoSnapshot = errors.New("it does not begin like a database of etcd")

// errCutOff: an archive has no end.
var errCutOff = errors.New("its end is cut off")

// errTooLong: an archive gives more than the database in it should have.
var errTooLong = errors.New("the database in it is longer than it says")

// ReadForeign spools the file of another program's snapshot, and returns the snapshot that its bytes describe. The
// error has ReasonChecksumMismatch or ReasonSnapshotUnreadable when the file is damaged, and is [ErrNoSnapshot] when it
// is no snapshot.
func (r *Repository) ReadForeign(
	ctx context.Context, rec *snapshot.Record, spoolDir string,
) (*snapshot.Snapshot, error) {
	// A directory of its own, so that a crash leaves one leftover and the inspection's table is beside the database.
	dir, err := os.MkdirTemp(spoolDir, "adopt-")
	if err != nil {
		return nil, SpoolError("create", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "snapshot"+snapshot.DataSuffix)
	s, err := r.spoolForeign(ctx, r.key(rec.File), rec.Compression, path)
	if err != nil {
		return nil, err
	}
	// Everything that the record says of this snapshot comes from its bytes: other programs write no manifest.
	res, err := database.File(ctx, path, database.Options{TempDir: dir})
	switch {
	case errors.Is(err, database.ErrUnreadable):
		return nil, snapshot.ReasonSnapshotUnreadable.New("inspect %s", r.URI(rec.File)).On(r.info.Name).Because(err)
	case err != nil:
		return nil, err
	}
	Describe(s, res)
	return s, nil
}

// Describe notes in a snapshot what an inspection has found in its database. The storage version that etcd has told
// stays when the database has none in it.
func Describe(s *snapshot.Snapshot, res database.Result) {
	s.Revision, s.OldestRevision, s.TotalKeys = res.Revision, res.OldestRevision, res.TotalKeys
	s.Hash, s.Alarms = res.Hash, res.Alarms
	s.StorageVersion = cmp.Or(res.StorageVersion, s.StorageVersion)
}

// k3sName is the form that K3s and RKE2 give the names of their snapshots: <name>-<node>-<unix seconds>. The name is
// etcd-snapshot for scheduled ones and on-demand for others, unless the operator has chosen another; a node's name may
// have hyphens itself. So only the seconds at the end can be told apart.
var k3sName = regexp.MustCompile(`^.+-.+-[0-9]{9,11}$`)

// NamedByK3s reports whether an object has exactly the name of a snapshot of K3s or RKE2. Such a file was meant to be a
// snapshot: one that is none is a snapshot that failed, and not a file of another kind.
func (r *Repository) NamedByK3s(o *Object) bool {
	file := strings.TrimPrefix(o.Key, r.prefix)
	name, suffix, ok := snapshot.ObjectName(file)
	return ok && (suffix == "" || suffix == snapshot.ZipSuffix) && k3sName.MatchString(name)
}

// peekSize is how many bytes are read of an archive to get the first ones of the database in it: the header with its
// longest name, and a block of Deflate.
const peekSize = 192 << 10

// PeekForeign looks at a file of this size without reading it whole: at its first bytes, and of an archive also at its
// last. It returns nil when it begins like a snapshot and was not cut off, as far as they show. It is [ErrNoSnapshot]
// when it does not begin like one, and an error with ReasonChecksumMismatch when its end is missing.
func (r *Repository) PeekForeign(ctx context.Context, file string, size int64) error {
	key, compression, head := r.key(file), snapshot.CompressionOf(file), Range{Length: database.HeadSize}
	if compression == snapshot.CompressionZip {
		head.Length = peekSize
	}
	in, err := r.openForeign(ctx, key, compression, head)
	if err != nil {
		return err
	}
	_, declared, err := readHead(in)
	_ = in.Close()
	switch {
	case err != nil:
		return err
	case compression == snapshot.CompressionZip:
		return r.peekEnd(ctx, key, size)
	case size < declared: // etcd's checksum behind it may be missing: --skip-hash-check takes such a file
		return r.damaged(key, fmt.Errorf("it has %d bytes, and the database in it has %d", size, declared))
	}
	return nil
}

// peekEnd returns an error when an archive of this size was cut off.
func (r *Repository) peekEnd(ctx context.Context, key string, size int64) error {
	in, err := r.backend.Get(ctx, key, Range{Offset: max(size-zip.TailSize, 0)})
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	tail, err := io.ReadAll(io.LimitReader(in, zip.TailSize))
	switch {
	case err != nil:
		return snapshot.ReasonBackendUnavailable.New("backend %q: read %s", r.info.Name, key).On(r.info.Name).Because(err)
	case !zip.HasEnd(tail):
		return r.damaged(key, errCutOff)
	}
	return nil
}

// openForeign opens the database in a range of a file of which nothing is known but its name, so only its own checksum
// is compared.
func (r *Repository) openForeign(
	ctx context.Context, key string, c snapshot.Compression, part Range,
) (*copyReader, error) {
	return r.openRange(ctx, key, part, &snapshot.Snapshot{Compression: c}, NewTrailer(), age.Identities{})
}

// spoolForeign writes the database in an object, with etcd's checksum, to path. It writes no more than the size that
// the database itself declares: an archive may pretend to hold anything.
func (r *Repository) spoolForeign(
	ctx context.Context, key string, c snapshot.Compression, path string,
) (*snapshot.Snapshot, error) {
	in, err := r.openForeign(ctx, key, c, Range{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	head, size, err := readHead(in)
	if err != nil {
		return nil, err
	}
	if err := CheckSpace(filepath.Dir(path), size); err != nil {
		return nil, err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, SpoolError("create", err)
	}
	defer func() { _ = out.Close() }()
	limited := &limitedWriter{w: out, left: size + ChecksumSize}
	if _, err = limited.Write(head); err == nil {
		_, err = Copy(limited, in)
	}
	switch {
	case limited.err != nil:
		return nil, SpoolError("write", limited.err)
	case errors.Is(err, errTooLong):
		return nil, in.damaged(fmt.Errorf("%w: it says that it has %d bytes", errTooLong, size))
	case err != nil:
		return nil, err
	}
	return &snapshot.Snapshot{
		DBSize: in.dbSize, SHA256: in.dbSum, StoredSize: in.stored.n, StoredSHA256: in.stored.SHA256(),
	}, nil
}

// readHead reads the first bytes of a copy, and returns the size that the database declares in them. A file that cannot
// be decoded, or is shorter than a page, is no snapshot; a backend that breaks off says nothing of it.
func readHead(in io.Reader) (head []byte, size int64, err error) {
	head = make([]byte, database.HeadSize)
	n, err := io.ReadFull(in, head)
	size, ok := database.DeclaredSize(head[:n])
	// Damage at this place only means that the file cannot be decoded, as is so for files of other kinds.
	short := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	switch {
	case err != nil && !short && snapshot.ReasonOf(err) != snapshot.ReasonChecksumMismatch:
		return nil, 0, err
	case ok:
		return head, size, nil
	case errors.Is(err, zip.ErrFormat):
		return nil, 0, fmt.Errorf("%w: %w", ErrNoSnapshot, zip.ErrFormat)
	case n == 0:
		return nil, 0, fmt.Errorf("%w: it is empty", ErrNoSnapshot)
	case n < len(head):
		return nil, 0, fmt.Errorf("%w: it ends after %d bytes", ErrNoSnapshot, n)
	}
	return nil, 0, ErrNoSnapshot
}

// limitedWriter takes a number of bytes and no more. It keeps the error of its writer, to tell a full disk from a copy
// that cannot be read.
type limitedWriter struct {
	w    io.Writer
	left int64
	err  error // of w
}

// Write implements [io.Writer].
func (l *limitedWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > l.left {
		return 0, errTooLong
	}
	n, err := l.w.Write(p)
	l.left -= int64(n)
	l.err = err
	return n, err
}

// ForeignLabels returns the metadata that K3s or RKE2 keep of a snapshot, as far as labels can hold it. These programs
// work without the metadata, and so does this one: an error is logged and no more.
func (r *Repository) ForeignLabels(ctx context.Context, file string) map[string]string {
	reader, ok := r.backend.(MetadataReader)
	if !ok {
		return nil
	}
	var doc []byte
	in, err := reader.Metadata(ctx, r.key(file))
	if err == nil {
		doc, err = r.readDocument(r.key(file), in)
	}
	if err != nil {
		if !snapshot.IsNotFound(err) {
			r.log.WarnContext(ctx, "labels of an adopted snapshot not read", "backend", r.info.Name, "file", file, "error", err)
		}
		return nil
	}
	// Other programs decide about the document: members that no label can hold are left out. A file without labels can
	// be restored as well as one with them.
	var all map[string]any
	if json.Unmarshal(doc, &all) != nil {
		return nil
	}
	labels := map[string]string{}
	for k, v := range all {
		text, ok := v.(string)
		if ok && len(labels) < snapshot.MaxLabels && snapshot.ValidateLabels(map[string]string{k: text}) == nil {
			labels[k] = text
		}
	}
	return labels
}
