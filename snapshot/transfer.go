package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"

	"github.com/snapshotd/snapshotd/internal/fault"
	"github.com/snapshotd/snapshotd/internal/inspect"
	"github.com/snapshotd/snapshotd/internal/seekable"
)

const dataContentType = "application/octet-stream"

// fetchBuffer is how much is collected of etcd's messages of 32 KiB before it is hashed and spooled.
const fetchBuffer = 256 << 10

// errNoBackendLeft ends the reading of etcd when nobody wants the snapshot any more.
var errNoBackendLeft = errors.New("no backend is left to write to")

// transfer is the way of the bytes of one save: etcd's stream → the raw spool → (compressed) the stored spool → backends.
// Each stage reads what the one before has written so far and never holds it up, so etcd's read transaction is over when
// the database has been read at full speed.
//
// The backends see the end of the stored spool only after the verdict: the checksum was right and every page and key
// could be read. Until then they have committed nothing.
type transfer struct {
	*save
	raw, stored *growing
	rawPath     string
	cancel      context.CancelCauseFunc

	storedTotal atomic.Int64 // what the backends are going to read; 0 until it is known

	verdict  chan struct{} // closed when the next two are set
	err      error         // why the snapshot is not whole
	manifest []byte

	mu   sync.Mutex // guards the record, too, while the transfer runs
	errs []error    // of the backends, in their order
	left int        // backends that have not failed
}

// transfer moves the snapshot from etcd to the backends and notes in the record what became of it. It returns why the
// database could not be read, verified or spooled; what single backends had to say is in the record.
func (s *save) transfer(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := &transfer{save: s, cancel: cancel, verdict: make(chan struct{}), errs: make([]error, len(s.backends)), left: len(s.backends)}

	stream, err := s.cfg.Source.Snapshot(ctx)
	if err != nil {
		return t.abandon(err)
	}
	defer func() { _ = stream.Close() }()
	t.update(func(rec *Record) {
		rec.EtcdVersion, rec.StorageVersion = stream.Member.Version, stream.Member.StorageVersion
		rec.EtcdClusterID, rec.EtcdMemberID = stream.Member.ClusterID, stream.Member.MemberID
	})

	remove, err := t.openSpool(stream.Size)
	if err != nil {
		return t.abandon(err)
	}
	defer remove()

	var writers sync.WaitGroup
	for i := range s.backends {
		writers.Go(func() { t.write(ctx, i, stream.Size) })
	}
	t.judge(t.produce(ctx, stream))
	t.dropRaw()
	writers.Wait()
	t.keep(ctx)
	return t.note()
}

// dropRaw gives the room of the database back when a copy of it is what the backends read: that takes a while, and they
// are not done yet.
func (t *transfer) dropRaw() {
	if t.stored == t.raw {
		return
	}
	_ = t.raw.Close()
	if err := os.Remove(t.rawPath); err != nil {
		t.log.Warn("spool not removed", "error", err)
	}
}

// abandon notes that no backend was written to at all.
func (t *transfer) abandon(err error) error {
	t.err = err
	for i := range t.errs {
		t.errs[i] = err
	}
	return t.note()
}

func (t *transfer) openSpool(size int64) (remove func(), err error) {
	dir, removeDir, err := t.makeSpoolDir()
	if err != nil {
		return nil, err
	}
	closeAll := func() {
		for _, g := range []*growing{t.raw, t.stored} {
			if g != nil {
				_ = g.Close()
			}
		}
		removeDir()
	}
	if err = checkSpace(dir, size); err == nil {
		t.rawPath = filepath.Join(dir, "snapshot"+dataSuffix)
		t.raw, err = newGrowing(t.rawPath)
	}
	switch {
	case err != nil:
	case t.cfg.Compression == CompressionNone && !t.rec.Sealed():
		t.stored = t.raw
		t.storedTotal.Store(size)
	default:
		t.stored, err = newGrowing(filepath.Join(dir, "snapshot.stored"))
	}
	if err != nil {
		closeAll()
		return nil, err
	}
	return closeAll, nil
}

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
	res, err := inspect.File(ctx, t.rawPath, inspect.Options{TempDir: filepath.Dir(t.rawPath)})
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		span.RecordError(err)
		span.SetStatus(codes.Error, "the snapshot was not inspected")
		e := &Error{Reason: ReasonInternal, Message: "inspect the snapshot", Err: err}
		if errors.Is(err, inspect.ErrUnreadable) {
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

// judge gives the verdict: from now on the backends may see the end, or why there is none.
func (t *transfer) judge(err error) {
	t.err = err
	if err != nil {
		t.stored.End(err)
		t.raw.End(err)
	}
	close(t.verdict)
}

// write puts the snapshot on one backend: store checked, data durable, manifest durable.
func (t *transfer) write(ctx context.Context, i int, size int64) {
	b := t.backends[i]
	begin := t.cfg.Now()
	ctx, span := tracer.Start(ctx, "snapshot write")
	defer span.End()
	span.SetAttributes(attribute.String("backend", b.Name()))

	err := t.put(ctx, b, size)
	t.cfg.Observer.Wrote(ctx, b.Kind(), t.cfg.Now().Sub(begin), err)
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, string(ReasonOf(err)))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.errs[i] = err
	t.locate(i, err)
	if err != nil {
		if t.left--; t.left == 0 && t.cfg.Kept == nil {
			t.cancel(errNoBackendLeft)
		}
	}
	shown := t.rec.Clone()
	t.publish(Event{Type: EventLocationDone, Backend: b.Name(), Snapshot: &shown.Snapshot})
}

func (t *transfer) put(ctx context.Context, b Backend, size int64) error {
	unverified, err := t.openStore(ctx, b, storeCheck{create: true, down: t.uncatalogued})
	if err != nil {
		return err
	}
	if unverified != nil {
		t.log.WarnContext(ctx, "store accepted by its marker alone", "backend", b.Name(), "error", unverified)
	}
	data, manifest := t.key(t.rec.DataKey()), t.key(ManifestKey(t.rec.Name))
	r := &verdictReader{ctx: ctx, t: t, r: t.stored.Reader(ctx), meter: t.meter(b.Name(), 0)}
	err = b.Put(ctx, data, r, PutOptions{ContentType: dataContentType, SizeHint: size, IfAbsent: true})
	if err != nil {
		return err
	}
	fault.Point("data-" + b.Kind().String())
	if err := t.takenOver(ctx); err != nil {
		t.undo(ctx, b, data)
		return err
	}
	err = b.Put(ctx, manifest, bytes.NewReader(t.manifest), PutOptions{ContentType: jsonContentType, SizeHint: int64(len(t.manifest))})
	if err != nil {
		t.undo(ctx, b, manifest, data)
		return err
	}
	fault.Point("manifest-" + b.Kind().String())
	return nil
}

// undo removes what was committed before something failed; what cannot be removed is left to reconcile.
func (t *transfer) undo(ctx context.Context, b Backend, keys ...string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	for _, key := range keys {
		if err := b.Delete(ctx, key); err != nil {
			t.log.WarnContext(ctx, "trace of a failed write not removed", "backend", b.Name(), "key", key, "error", err)
			return
		}
	}
}

// update changes the record: backends that have failed already show it while the others still run.
func (t *transfer) update(change func(*Record)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(t.rec)
}

// locate notes what became of one location. t.mu is held.
func (t *transfer) locate(i int, err error) {
	l := &t.rec.Locations[i]
	l.UpdateTime = t.cfg.Now().UTC()
	if err != nil {
		l.State, l.Error, l.Size = StateFailed, err.Error(), 0
		return
	}
	l.State, l.Error, l.Size = StateReady, "", t.rec.StoredSize
}

// note puts the failures into the record and returns the one that is the save's as a whole, if there is one.
func (t *transfer) note() error {
	if t.err != nil && !errors.Is(t.err, errNoBackendLeft) {
		for i := range t.errs {
			t.locate(i, t.err)
		}
		return t.err
	}
	for i, err := range t.errs {
		if err != nil {
			t.rec.Failures = append(t.rec.Failures, failureOf(t.backends[i].Name(), err))
		}
	}
	return nil
}

// verdictReader is what a backend reads: the stored spool, whose end it sees only after the verdict.
type verdictReader struct {
	ctx   context.Context //nolint:containedctx // an io.Reader has no other way to be cancelled
	t     *transfer
	r     io.Reader
	meter *meter
}

func (v *verdictReader) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.meter.total = v.t.storedTotal.Load()
	v.meter.add(n)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	select {
	case <-v.t.verdict:
	case <-v.ctx.Done():
		return n, context.Cause(v.ctx)
	}
	if v.t.err != nil {
		return n, v.t.err
	}
	return n, io.EOF
}
