package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"

	"github.com/snapshotd/snapshotd/internal/codec/seekable"
	"github.com/snapshotd/snapshotd/internal/etcd/database"
	"github.com/snapshotd/snapshotd/internal/fault"
)

// fetchBuffer is how much is collected of etcd's messages of 32 KiB before it is hashed and spooled.
const fetchBuffer = 256 << 10

// produce reads etcd, verifies, inspects and compresses. When it returns nil the spool is whole and the record and the
// manifest describe it.
func (t *transfer) produce(ctx context.Context, stream *Stream) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	type sum struct {
		size   int64
		sha256 string
	}
	stored := make(chan sum, 1)
	var compressing sync.WaitGroup
	var compressErr error
	compressing.Go(func() {
		var r sum
		if r.size, r.sha256, compressErr = t.compress(ctx); compressErr != nil {
			cancel(compressErr)
		}
		stored <- r
	})

	err := t.fetch(ctx, stream)
	_ = stream.Close() // whatever comes next, etcd's read transaction is over
	t.raw.End(err)
	if err == nil {
		fault.Point("fetched")
		err = t.inspect(ctx)
	}
	if err != nil {
		cancel(err)
	}
	compressing.Wait()
	if err == nil {
		err = compressErr
	}
	if err != nil {
		return err
	}
	fault.Point("inspected")
	r := <-stored
	var described *Record
	t.update(func(rec *Record) {
		rec.StoredSize, rec.StoredSHA256 = r.size, r.sha256
		described = rec.Clone()
	})
	described.Duration = t.cfg.Now().Sub(t.start)
	t.manifest, err = encodeManifest(described, t.cfg.Signer)
	return err
}

// fetch copies etcd's stream to the raw spool and verifies its checksum. A watchdog ends it when etcd gives no bytes.
func (t *transfer) fetch(ctx context.Context, stream *Stream) error {
	// Reads of the stream end when its own context does; this one must end them too.
	stop := context.AfterFunc(ctx, func() { _ = stream.Close() })
	defer stop()
	ctx, bark := context.WithCancelCause(ctx)
	defer bark(nil)
	dog := time.AfterFunc(t.cfg.Watchdog, func() {
		bark(&Error{
			Reason:  ReasonEtcdUnavailable,
			Message: fmt.Sprintf("read the snapshot of %s: it gave no bytes for %s", stream.Member.Endpoint, t.cfg.Watchdog),
			Hint:    "the member hangs or the network drops what it sends; save again to try another member, and check this one",
			Retry:   retryAfter(ReasonEtcdUnavailable),
		})
		_ = stream.Close()
	})
	defer dog.Stop()

	check := newTrailer()
	meter := t.meter("", stream.Size)
	buf, n := make([]byte, fetchBuffer), 0
	for {
		m, err := stream.Read(buf[n:])
		n += m
		if m > 0 {
			dog.Reset(t.cfg.Watchdog)
		}
		if n == len(buf) || err != nil && n > 0 {
			dog.Stop() // the spool's disk and the limit may take their time; only etcd is watched
			_, _ = check.Write(buf[:n])
			if _, err := t.raw.Write(buf[:n]); err != nil {
				return err
			}
			meter.add(n)
			if err := t.cfg.StreamLimit.Wait(ctx, n); err != nil {
				return err
			}
			n = 0
			dog.Reset(t.cfg.Watchdog)
		}
		switch {
		case errors.Is(err, io.EOF):
			size, sum, err := check.Verify()
			t.update(func(rec *Record) { rec.DBSize, rec.SHA256 = size, sum })
			return err
		case context.Cause(ctx) != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		}
	}
}

// compress fills the stored spool from the raw one and returns the size and checksum of what is stored.
func (t *transfer) compress(ctx context.Context) (size int64, sum string, err error) {
	ctx, span := tracer.Start(ctx, "snapshot compress")
	defer span.End()
	hash := sha256.New()
	count := &counter{}
	if t.stored == t.raw {
		_, err = io.Copy(io.MultiWriter(hash, count), t.raw.Reader(ctx))
	} else {
		err = t.encode(ctx, io.MultiWriter(t.stored, hash, count))
		t.stored.End(err)
	}
	if err == nil {
		t.storedTotal.Store(count.n)
	}
	span.SetAttributes(attribute.Int64("stored_size", count.n))
	return count.n, hex.EncodeToString(hash.Sum(nil)), err
}

// encode writes the raw spool as it is to be stored: compressed, then sealed.
func (t *transfer) encode(ctx context.Context, w io.Writer) error {
	sealed := io.WriteCloser(nopCloser{w})
	if t.rec.Sealed() {
		var err error
		if sealed, err = t.cfg.Recipients.NewWriter(w); err != nil {
			return &Error{Reason: ReasonInternal, Message: "encrypt the snapshot", Err: err}
		}
	}
	var err error
	if t.cfg.Compression == CompressionNone {
		_, err = io.Copy(sealed, t.raw.Reader(ctx))
	} else {
		_, err = seekable.Copy(ctx, sealed, t.raw.Reader(ctx), seekable.Options{})
	}
	if err != nil {
		return err // the end of what is sealed is not written
	}
	return sealed.Close()
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// inspect reads every page and key of the raw spool.
func (t *transfer) inspect(ctx context.Context) error {
	ctx, span := tracer.Start(ctx, "snapshot inspect")
	defer span.End()
	res, err := database.File(ctx, t.rawPath, database.Options{TempDir: filepath.Dir(t.rawPath)})
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		span.RecordError(err)
		span.SetStatus(codes.Error, "the snapshot was not inspected")
		e := &Error{Reason: ReasonInternal, Message: "inspect the snapshot", Err: err}
		if errors.Is(err, database.ErrUnreadable) {
			e.Reason = ReasonSnapshotUnreadable
			e.Hint = "its checksum is right, so the member's own database is damaged; save from another member and check this one"
		}
		return e
	}
	t.update(func(rec *Record) {
		rec.Revision, rec.TotalKeys, rec.Hash = res.Revision, res.TotalKeys, res.Hash
		if res.StorageVersion != "" {
			rec.StorageVersion = res.StorageVersion
		}
	})
	span.SetAttributes(attribute.Int64("revision", res.Revision), attribute.Int64("total_keys", res.TotalKeys))
	return nil
}
