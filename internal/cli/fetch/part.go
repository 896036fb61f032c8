package fetch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/disk"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/repository"
)

// sum counts and hashes bytes on their way: all of them, and those of a database, whose checksum etcd sends after it.
type sum struct {
	w        io.Writer
	n        int64
	all      hash.Hash
	database *repository.Trailer
}

func newSum(w io.Writer) *sum {
	return &sum{w: w, all: sha256.New(), database: repository.NewTrailer()}
}

func (s *sum) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.add(p[:n])
	return n, err
}

func (s *sum) add(p []byte) {
	s.n += int64(len(p))
	s.all.Write(p)
	_, _ = s.database.Write(p) // a hash takes everything
}

func (s *sum) hex() string { return hex.EncodeToString(s.all.Sum(nil)) }

// fits reports whether the bytes are those that a header describes. Its checksum is of all of them, or of the database
// before etcd's checksum.
func (s *sum) fits(h *snapshotdv1.DownloadHeader) bool {
	if h.GetSha256Bytes() == s.n {
		return s.hex() == h.GetSha256()
	}
	size, checksum, err := s.database.Verify()
	return err == nil && h.GetSha256Bytes() == size && checksum == h.GetSha256()
}

// sameDownload reports whether two headers are of the same bytes, on any backend.
func sameDownload(a, b *snapshotdv1.DownloadHeader) bool {
	a, b = proto.CloneOf(a), proto.CloneOf(b)
	a.Backend, b.Backend = "", ""
	return proto.Equal(a, b)
}

// partFile is FILE.part with the bytes so far, and FILE.part.json with their header.
type partFile struct {
	file string
	f    *os.File
	of   *snapshotdv1.DownloadHeader // nil when it is not known
	sum  *sum
}

// openPart opens the part of a file, and keeps its bytes when they are of the requested snapshot.
func openPart(file string, force bool, req *snapshotdv1.DownloadRequest) (*partFile, error) {
	p := &partFile{file: file}
	if err := p.free(force); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(p.name(), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--output: %w", err)
	}
	p.f, p.sum = f, newSum(f)
	if err := p.own(); err != nil {
		p.close()
		return nil, err
	}
	var of snapshotdv1.DownloadHeader
	doc, err := os.ReadFile(p.sidecar())
	if err == nil && protojson.Unmarshal(doc, &of) == nil && of.GetName() == req.GetName() &&
		of.GetDecoded() == req.GetDecoded() {
		p.of = &of
		if err := p.takeUp(); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

func (p *partFile) name() string    { return p.file + ".part" }
func (p *partFile) sidecar() string { return p.file + ".part.json" }

// own makes sure that the part belongs to this download alone: before it was locked, another download may have turned
// it into its file.
func (p *partFile) own() error {
	if err := disk.Lock(p.f); err != nil {
		return fmt.Errorf("--output: lock %s: %w; another download may be writing it", p.name(), err)
	}
	mine, err := p.f.Stat()
	if err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	named, err := os.Lstat(p.name())
	if err != nil || !os.SameFile(mine, named) {
		return fmt.Errorf("--output: %s was moved by another download meanwhile; see its file, and try again",
			p.name())
	}
	if file, err := os.Lstat(p.file); err == nil && os.SameFile(mine, file) {
		return fmt.Errorf("--output: %s and %s are the same file, of a download that was cut off at its very end; remove "+
			"the former", p.name(), p.file)
	}
	_ = p.f.Chmod(0o600) // some file systems know no modes
	return nil
}

// free returns an error when a file would be overwritten.
func (p *partFile) free(force bool) error {
	info, err := os.Lstat(p.file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("--output: %w", err)
	case info.IsDir():
		return exit.Usagef("--output: %s is a directory; name a file in it", p.file)
	case info.Mode()&(os.ModeDevice|os.ModeNamedPipe|os.ModeSocket) != 0:
		return exit.Usagef("--output: %s is no file, and would be replaced by one; write to it with > instead", p.file)
	case !force:
		return fmt.Errorf("--output: %s exists, and nothing is overwritten; name another file, or give --force", p.file)
	}
	return nil
}

// takeUp reads the bytes of an earlier download.
func (p *partFile) takeUp() error {
	have := newSum(p.f)
	_, err := io.CopyBuffer(writerFunc(func(b []byte) (int, error) { have.add(b); return len(b), nil }),
		struct{ io.Reader }{p.f}, make([]byte, 1<<20))
	if err != nil {
		return fmt.Errorf("--output: read the earlier part: %w", err)
	}
	if have.n <= p.of.GetTotalBytes() {
		p.sum = have
		return nil
	}
	p.of = nil
	return nil
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// begin notes the header of the part. When the bytes so far are of another one, the part begins at the start; again
// then reports whether a call with an offset was in vain.
func (p *partFile) begin(h *snapshotdv1.DownloadHeader) (again bool, err error) {
	if p.of != nil && sameDownload(p.of, h) {
		return false, nil
	}
	again = p.sum.n > 0
	if err := p.f.Truncate(0); err != nil {
		return false, fmt.Errorf("--output: %w", err)
	}
	if _, err := p.f.Seek(0, io.SeekStart); err != nil {
		return false, fmt.Errorf("--output: %w", err)
	}
	*p.sum = *newSum(p.f)
	doc, err := protojson.Marshal(h)
	if err == nil {
		err = overwrite(p.sidecar(), doc)
	}
	if err != nil {
		return false, fmt.Errorf("--output: %w", err)
	}
	p.of = h
	return again, nil
}

// finish turns the part into the file, durably.
func (p *partFile) finish(force bool) error {
	if err := p.free(force); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(p.file))
	if err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	defer func() { _ = dir.Close() }()
	err = p.f.Sync()
	if err == nil {
		err = p.place(force)
	}
	if err == nil {
		_ = os.Remove(p.sidecar()) // the part is gone
		err = dir.Sync()
	}
	if err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	return nil
}

// place renames the part. Without force, a file that has appeared under the name is not replaced.
func (p *partFile) place(force bool) error {
	if !force {
		err := os.Link(p.name(), p.file)
		if err == nil {
			return os.Remove(p.name())
		}
		if errors.Is(err, os.ErrExist) {
			return err
		} // the file system has no links
	}
	return os.Rename(p.name(), p.file)
}

// overwrite writes a small file, and removes one of that name before. After a crash between the two there is none.
func overwrite(file string, doc []byte) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(doc)
	return errors.Join(err, f.Close())
}

// remove removes a part that is damaged.
func (p *partFile) remove() {
	_ = os.Remove(p.name())
	_ = os.Remove(p.sidecar())
}

// empty reports whether the part has no bytes that a later download could use.
func (p *partFile) empty() bool {
	info, err := p.f.Stat()
	return err == nil && info.Size() == 0
}

func (p *partFile) close() { _ = p.f.Close() }
