package snapshot

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"sync"

	"github.com/snapshotd/snapshotd/internal/codec/age"
)

// downloads is how many downloads of a cluster's snapshots are read at the same time: each one holds parts of an object and
// frames, about 60 MiB of a large one in a bucket, until it is closed.
const downloads = 2

// DownloadRequest asks for the bytes of a snapshot.
type DownloadRequest struct {
	Name    string
	Backend string // empty: the first one that can be read
	Decoded bool   // the database as etcd sent it, or else the bytes as they are stored
	Offset  int64  // of the first byte that is wanted
}

// Download is the bytes of a snapshot from an offset on. From offset 0 a Read returns io.EOF only when all checksums were
// right; what is not right is an [Error] with ReasonChecksumMismatch. From a later one only the number of bytes is compared.
type Download struct {
	io.Reader
	Name        string
	Backend     string
	Size        int64  // of the whole
	SHA256      string // of its first SHA256Bytes bytes, in hex
	SHA256Bytes int64  // all of what is stored; all of a database but the checksum that etcd sends behind it
	FileName    string

	close io.Closer
}

// NewDownload returns d with its bytes, which r has.
func NewDownload(r io.ReadCloser, d Download) *Download {
	d.Reader, d.close = r, &releasing{Closer: r, release: func() {}}
	return &d
}

// Close ends the reading, wherever it is. It may be called again, and at the same time.
func (d *Download) Close() error { return d.close.Close() }

// Download opens a snapshot for reading, and waits while as many are read as may be. When no backend is named, one whose copy
// cannot be read gives way to the next. The caller closes what it returns.
func (c *Cluster) Download(ctx context.Context, req DownloadRequest) (*Download, error) {
	rec, err := c.Get(ctx, req.Name)
	if err != nil {
		return nil, err
	}
	d := downloadOf(rec, req.Decoded)
	if err := c.checkDownload(rec, req, d.Size); err != nil {
		return nil, err
	}
	copies := c.copiesOf(rec, req.Backend, func(l *Location) bool { return req.Backend != "" || l.State == StateReady })
	if len(copies) == 0 {
		return nil, &Error{
			Reason: ReasonCopyMissing, Backend: req.Backend, Message: fmt.Sprintf("download %s: there is no good copy of it", rec.Name),
			Hint: "get shows where it is; choose one of these backends, or repair it first",
		}
	}
	select {
	case c.downloading <- struct{}{}:
	case <-ctx.Done():
		return nil, cancelled(ctx, "download "+rec.Name)
	}
	if err := c.openFirst(ctx, copies, rec, req, &d); err != nil {
		<-c.downloading
		return nil, err
	}
	d.close = &releasing{Closer: d.close, release: func() { <-c.downloading }}
	return &d, nil
}

// releasing is closed once, and then makes room for another one.
type releasing struct {
	io.Closer
	once    sync.Once
	release func()
}

func (r *releasing) Close() (err error) {
	r.once.Do(func() {
		err = r.Closer.Close()
		r.release()
	})
	return err
}

// openFirst opens the first copy that can be read.
func (c *Cluster) openFirst(ctx context.Context, copies []Backend, rec *Record, req DownloadRequest, d *Download) error {
	var errs []error
	for _, b := range copies {
		err := c.openDownload(ctx, b, rec, req, d)
		if err == nil {
			d.Backend = b.Name()
			return nil
		}
		if ctx.Err() != nil {
			return cancelled(ctx, "download "+rec.Name)
		}
		c.log.WarnContext(ctx, "copy cannot be downloaded", "snapshot", rec.Name, "backend", b.Name(), "error", err)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *Cluster) checkDownload(rec *Record, req DownloadRequest, size int64) error {
	switch {
	case rec.State == StateSaving:
		return c.saveInProgress(fmt.Sprintf("and %s is what it saves", rec.Name))
	case req.Backend != "" && c.backend(req.Backend) == nil:
		return Invalid("backend", "cluster %q has no backend %q; it has %s", c.cfg.Name, req.Backend, listed(c.BackendNames()))
	case req.Offset < 0 || req.Offset > size:
		return Invalid("offset", "is %d, and there are %d bytes", req.Offset, size)
	}
	return nil
}

// downloadOf says what a download of a snapshot is.
func downloadOf(rec *Record, decoded bool) Download {
	if decoded {
		return Download{Name: rec.Name, Size: rec.DBSize + checksumSize, SHA256: rec.SHA256, SHA256Bytes: rec.DBSize, FileName: rec.Name + dataSuffix}
	}
	return Download{Name: rec.Name, Size: rec.StoredSize, SHA256: rec.StoredSHA256, SHA256Bytes: rec.StoredSize, FileName: path.Base(rec.DataKey())}
}

// openDownload opens the copy on one backend, and makes sure that it gives something.
func (c *Cluster) openDownload(ctx context.Context, b Backend, rec *Record, req DownloadRequest, d *Download) error {
	unverified, err := c.openStore(ctx, b, storeCheck{})
	if err = errors.Join(err, unverified); err != nil {
		return err
	}
	key := c.key(rec.DataKey())
	var r io.ReadCloser
	switch {
	case !req.Decoded && req.Offset == 0:
		r, err = OpenStored(ctx, b, key, &rec.Snapshot)
	case !req.Decoded:
		r, err = b.GetRange(ctx, key, req.Offset, -1)
	default:
		r, err = c.openDecoded(ctx, b, key, rec, req.Offset)
	}
	if err != nil {
		return missingCopy(b, key, err)
	}
	exact := &exactReader{r: r, left: d.Size - req.Offset, damaged: func(err error) error { return damagedCopy(b, key, err) }}
	buffered := bufio.NewReaderSize(exact, 64<<10)
	if _, err := buffered.Peek(1); err != nil && !errors.Is(err, io.EOF) {
		_ = r.Close()
		return err
	}
	d.Reader, d.close = buffered, r
	return nil
}

// openDecoded opens the database in a copy from an offset on.
func (c *Cluster) openDecoded(ctx context.Context, b Backend, key string, rec *Record, offset int64) (io.ReadCloser, error) {
	if offset > 0 && !rec.Sealed() {
		r, err := seekDecoded(ctx, b, key, &rec.Snapshot, offset)
		if r != nil || err != nil {
			return r, err
		}
	}
	var identities age.Identities
	if c.cfg.Identities.Of(rec.EncryptionRecipients) {
		identities = c.cfg.Identities
	}
	r, err := OpenCopy(ctx, b, key, &rec.Snapshot, identities)
	if err != nil || offset == 0 {
		return r, err
	}
	if err := discard(r, offset); err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

// discard reads so many bytes and forgets them.
func discard(r io.Reader, n int64) error {
	_, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{io.LimitReader(r, n)}, make([]byte, 256<<10))
	return err
}

// missingCopy says of a copy that is not where the catalog has it what to do about that.
func missingCopy(b Backend, key string, err error) error {
	if !isNotFound(err) {
		return err
	}
	return &Error{
		Reason: ReasonCopyMissing, Backend: b.Name(), Message: "read " + b.URI(key), Err: errNotThere,
		Hint: "somebody removed it; reconcile takes note of that, and with --repair copies it from another backend",
	}
}

func damagedCopy(b Backend, key string, err error) error {
	return (&copyReader{where: "read " + b.URI(key), backend: b.Name()}).damaged(err)
}

// exactReader passes on so many bytes, and fails when there are fewer or more.
type exactReader struct {
	r       io.Reader
	left    int64
	damaged func(error) error
}

func (e *exactReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.left -= int64(n)
	switch {
	case e.left < 0:
		return 0, e.damaged(errors.New("it is longer than it should be"))
	case err == io.EOF && e.left > 0: // a wrapped one is not the end
		return n, e.damaged(fmt.Errorf("its last %d bytes are missing", e.left))
	}
	return n, err
}
