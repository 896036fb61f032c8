package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/snapshotd/snapshotd/cluster/reading"
	"github.com/snapshotd/snapshotd/internal/fault"
	"github.com/snapshotd/snapshotd/internal/progress"
	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/internal/spool"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	// progressInterval is how often the progress of bytes that move is reported.
	progressInterval = 200 * time.Millisecond
	// noteDelay is how long a location waits for the last one, with which the save ends and is written anyway.
	noteDelay = 250 * time.Millisecond
	// idleInterval is how often progress is reported when nothing moves, so that a watcher sees that the save is alive.
	idleInterval = time.Second
)

// errNoBackendLeft ends the reading of etcd when every backend has failed.
var errNoBackendLeft = errors.New("no backend is left to write to")

// transfer moves the bytes of one save: etcd's stream → the raw spool → (compressed, encrypted) the stored spool →
// backends. Each stage reads the bytes that the one before has written and never delays it, so etcd's read transaction
// ends when the database has been read at full speed.
//
// The backends see the end of the stored spool only after the verdict: the checksum was right and every page and key
// could be read. Until then they have committed nothing.
type transfer struct {
	s           *save
	raw, stored *spool.File
	rawPath     string
	room        *repository.Room       // that these files have, and those of the inspection
	toRaw       *repository.RoomWriter // the files, as long as there is room for them
	toStored    io.Writer
	cancel      context.CancelCauseFunc

	progress *progress.Tracker
	phase    atomic.Int32                  // a snapshot.Phase
	read     *progress.Transfer            // from etcd
	taken    map[string]*progress.Transfer // by backend

	verdict  chan struct{} // closed when the next two are set
	err      error         // why the snapshot is not whole
	manifest []byte

	mu   sync.Mutex // guards the save's record while the transfer runs, and left
	left int        // backends that have not failed

	ended   chan struct{}    // closed when no backend is written any more
	noting  sync.Mutex       // held while the catalog is told of a location; guards the next two
	noted   *snapshot.Record // as the catalog was told last; may be nil
	unnoted bool             // the catalog did not take it; the outcome will tell
}

// newTransfer returns the transfer of a save, with a progress counter for etcd and one for each backend. They exist
// from the beginning, so that a watcher is shown all of them also while the first bytes are still on their way.
func newTransfer(ctx context.Context, s *save) *transfer {
	t := &transfer{s: s, verdict: make(chan struct{}), ended: make(chan struct{}), left: len(s.chosen),
		taken: map[string]*progress.Transfer{}}
	t.progress = progress.New(progressInterval, idleInterval, func(backend string, done, total int64) {
		s.c.observe(ctx, snapshot.Event{
			Type: snapshot.EventProgress, Name: s.rec.Name, RequestID: s.req.RequestID,
			Phase: snapshot.Phase(t.phase.Load()), Backend: backend, Done: done, Total: total,
		})
	})
	t.read = t.progress.Transfer("", 0)
	for _, r := range s.chosen {
		t.taken[r.Name()] = t.progress.Transfer(r.Name(), 0)
	}
	return t
}

// enter notes the phase of the save, for progress.
func (t *transfer) enter(p snapshot.Phase) {
	t.phase.Store(int32(p))
	t.progress.Report()
}

// storedSize notes how many bytes the backends are going to take. It is not known before all of them are compressed,
// and progress shows bytes without a total until then.
func (t *transfer) storedSize(total int64) {
	for _, x := range t.taken {
		x.SetTotal(total)
	}
}

// run moves the snapshot from etcd to the backends and notes the result in the record. It returns why the database
// could not be read, verified or spooled; the errors of single backends are in the record.
func (t *transfer) run(ctx context.Context) error {
	ctx, t.cancel = context.WithCancelCause(ctx)
	defer t.cancel(nil)
	defer t.progress.Start(ctx)()
	defer t.tell(ctx)()
	t.enter(snapshot.PhaseReading)
	// From here on etcd holds a read transaction open, until produce closes the stream. Nothing that waits for a
	// backend may come between the two.
	stream, err := t.s.c.cfg.Source.Snapshot(ctx)
	if err != nil {
		return t.abort(err)
	}
	defer func() { _ = stream.Close() }()
	t.read.SetTotal(stream.Size)
	t.update(func(rec *snapshot.Record) {
		rec.EtcdVersion, rec.StorageVersion = stream.Member.Version, stream.Member.StorageVersion
		rec.EtcdClusterID, rec.EtcdMemberID = stream.Member.ClusterID, stream.Member.MemberID
	})
	removeSpool, err := t.openSpool(stream.Size)
	if err != nil {
		return t.abort(err)
	}
	defer removeSpool()

	var writers sync.WaitGroup
	for _, r := range t.s.chosen {
		writers.Go(func() { t.write(ctx, r, stream.Size) })
	}
	// The backends write while the database is read, and cannot commit before the verdict: they do not see the end.
	t.publishVerdict(t.produce(ctx, stream))
	t.dropRaw()
	writers.Wait()
	t.fallBack(ctx)
	if t.err != nil && !errors.Is(t.err, errNoBackendLeft) {
		return t.abort(t.err)
	}
	return nil
}

// abort notes that no backend holds the snapshot. Backends that have bytes of it have committed none of them, because
// they never saw the end.
func (t *transfer) abort(err error) error {
	t.s.rec.Abort(err, t.s.c.cfg.Now())
	return err
}

// update changes the record. The backends run side by side, and each of them ends with a change of it. Its locations
// show backends that have failed while the others still run.
func (t *transfer) update(change func(*snapshot.Record)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(t.s.rec)
}

// openSpool makes the files that this save spools into. The room is looked for before etcd sends anything: a disk
// that is full half-way would have cost etcd the read for nothing. A snapshot that is stored as it is has one file
// for both purposes.
func (t *transfer) openSpool(size int64) (remove func(), err error) {
	dir := filepath.Join(t.s.c.cfg.SpoolDir, t.s.rec.Name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, repository.SpoolError("create", err)
	}
	remove = func() {
		for _, f := range []*spool.File{t.raw, t.stored} {
			if f != nil {
				_ = f.Close()
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.s.c.log.Warn("spool not removed", "error", err)
		}
	}
	if err := t.createSpool(dir, size); err != nil {
		remove()
		return nil, err
	}
	return remove, nil
}

// createSpool makes the files in a directory that is there.
func (t *transfer) createSpool(dir string, size int64) (err error) {
	copied := int64(0) // bytes that the stored copy is certain to have; compressed, it may be of any size
	if f := t.form(); f.Encrypt && !f.Compress {
		copied = size
	}
	if t.room, err = repository.NewRoom(dir, size+copied); err != nil {
		return err
	}
	t.rawPath = filepath.Join(dir, "snapshot"+snapshot.DataSuffix)
	if t.raw, err = spool.Create(t.rawPath, repository.SpoolError); err != nil {
		return err
	}
	t.toRaw = t.room.Writer(t.raw, size)
	if t.form().Plain() {
		t.stored, t.toStored = t.raw, io.Discard // the bytes are there already, and only have to be counted
		t.storedSize(size)
		return nil
	}
	if t.stored, err = spool.Create(filepath.Join(dir, "snapshot.stored"), repository.SpoolError); err != nil {
		return err
	}
	t.toStored = t.room.Writer(t.stored, copied)
	return nil
}

// produce reads etcd, verifies, inspects and compresses. When it returns nil the spool is whole and the record and the
// manifest describe it.
func (t *transfer) produce(ctx context.Context, stream *Stream) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var encoding sync.WaitGroup
	var size int64
	var sum string
	var encodeErr error
	encoding.Go(func() {
		if size, sum, encodeErr = t.encode(ctx); encodeErr != nil {
			cancel(encodeErr)
		}
	})

	err := t.fetch(ctx, stream)
	_ = stream.Close() // etcd's read transaction ends here, before anything else is done
	t.raw.End(err)
	if err == nil {
		fault.Point("fetched")
		t.enter(snapshot.PhaseInspecting)
		err = t.inspect(ctx)
	}
	// Without a good inspection, the rest of the compression is of no use.
	if err != nil {
		cancel(err)
	} else {
		t.enter(snapshot.PhaseCompressing)
	}
	encoding.Wait()
	if err == nil {
		err = encodeErr
	}
	if err != nil {
		return err
	}
	fault.Point("inspected")
	// The manifest is the same on every backend, so it is made once, and of a copy: locations change from now on.
	var described *snapshot.Record
	t.update(func(rec *snapshot.Record) {
		rec.StoredSize, rec.StoredSHA256 = size, sum
		described = rec.Copy()
	})
	described.Duration = t.s.c.cfg.Now().Sub(t.s.start)
	t.manifest, err = repository.EncodeManifest(described, t.s.c.cfg.Signer)
	return err
}

// fetch copies etcd's stream to the raw spool and verifies its checksum. A limit that was lifted on the way is no
// failure, but the operator must hear of it: it was set to spare etcd, and something else was stopping etcd.
func (t *transfer) fetch(ctx context.Context, stream *Stream) error {
	f := reading.Fetch{
		Stream: stream, Endpoint: stream.Member.Endpoint, Watchdog: t.s.c.cfg.Watchdog, Limit: t.s.c.cfg.StreamLimit,
		Answers: stream.Answers, Taken: t.read.Add,
	}
	got, err := f.Run(ctx, t.toRaw)
	t.toRaw.End()
	t.update(func(rec *snapshot.Record) { rec.DBSize, rec.SHA256 = got.Size, got.SHA256 })
	if got.Lifted != nil {
		t.s.warnings = append(t.s.warnings,
			fmt.Sprintf("stream_limit was lifted, because member %s stopped answering while the limit held "+
				"its read transaction open; a defragmentation waits for that transaction, and blocks the member until it ends (%v)",
				stream.Member.Endpoint, got.Lifted))
		t.s.c.log.WarnContext(ctx, "stream_limit lifted: the member stopped answering, as during a defragmentation",
			"snapshot", t.s.rec.Name, "endpoint", stream.Member.Endpoint, "error", got.Lifted)
	}
	return err
}

// form returns how this snapshot is stored. The record decides, and not the configuration: all backends and all later
// copies get the same bytes.
func (t *transfer) form() reading.Form {
	return reading.Form{
		Compress: t.s.rec.Compression != snapshot.CompressionNone, Encrypt: t.s.rec.Encrypted(),
		Recipients: t.s.c.cfg.Recipients,
	}
}

// encode fills the stored spool from the raw one and returns the size and checksum of the bytes that are stored.
func (t *transfer) encode(ctx context.Context) (size int64, sum string, err error) {
	ctx, trace := span.Start(ctx, "snapshot compress")
	defer func() { trace.End(err) }()
	size, sum, err = t.form().Encode(ctx, t.toStored, t.raw.Reader(ctx))
	if t.stored != t.raw {
		t.stored.End(err)
	}
	if err == nil {
		t.storedSize(size)
	}
	trace.SetAttributes(attribute.Int64("stored_size", size))
	return size, sum, err
}

// inspect reads every page and key of the raw spool.
func (t *transfer) inspect(ctx context.Context) (err error) {
	ctx, trace := span.Start(ctx, "snapshot inspect")
	defer func() { trace.End(err) }()
	res, err := reading.Inspect(ctx, t.rawPath, filepath.Dir(t.rawPath), t.room)
	if err != nil {
		return err
	}
	t.update(func(rec *snapshot.Record) { repository.Describe(&rec.Snapshot, res) })
	trace.SetAttributes(attribute.Int64("revision", res.Revision), attribute.Int64("total_keys", res.TotalKeys))
	return nil
}

// publishVerdict publishes the verdict: from now on the backends may see the end of the spool, or why there is none. An
// error is put into the spools, too, because a backend may be waiting for bytes that never come.
func (t *transfer) publishVerdict(err error) {
	t.err = err
	if err != nil {
		t.stored.End(err)
		t.raw.End(err)
	}
	close(t.verdict)
	t.enter(snapshot.PhaseStoring)
}

// dropRaw frees the room of the database when the backends read a compressed copy of it: they may take a while. The
// next save looks for room before it begins, and must not fail because of this one.
func (t *transfer) dropRaw() {
	if t.stored == t.raw {
		return
	}
	_ = t.raw.Close()
	if err := os.Remove(t.rawPath); err != nil {
		t.s.c.log.Warn("spool not removed", "error", err)
	}
}

// write puts the snapshot on one backend, and notes in the record how that ended.
func (t *transfer) write(ctx context.Context, r *repository.Repository, size int64) {
	begin := t.s.c.cfg.Now()
	ctx, trace := span.Start(ctx, "snapshot write", span.Backend.String(r.Name()))
	var err error
	defer func() { trace.End(err) }()

	err = t.put(ctx, r, size)
	t.taken[r.Name()].End()
	var written time.Time
	if err == nil {
		written, _ = r.ManifestTime(ctx, t.s.rec.Name) // without it, reconcile compares clocks
	}
	now := t.s.c.cfg.Now()
	t.s.c.observe(ctx,
		snapshot.Event{Type: snapshot.EventWritten, Backend: r.Name(), Kind: r.Kind(), Duration: now.Sub(begin), Err: err})
	t.update(func(rec *snapshot.Record) {
		// The location is READY at once: a caller who watches, or downloads, need not wait for the slowest backend.
		rec.Written(r.Name(), err, now)
		rec.Saw(r.Name(), written)
		if err != nil {
			// With a fallback, etcd is read to the end: the snapshot is kept on this disk then.
			if t.left--; t.left == 0 && t.s.c.fallback == nil {
				t.cancel(errNoBackendLeft)
			}
		}
		t.s.c.observe(ctx, t.s.event(snapshot.Event{Type: snapshot.EventLocationDone, Backend: r.Name()}))
		if !rec.Storing() {
			close(t.ended)
		}
	})
	t.noteLocation(ctx)
}

// noteLocation writes into the catalog which backends hold the snapshot while others are still being written, in a
// record that stays SAVING: a replica that reconciles it asks the backends. The last location comes with the outcome.
// The record is changed only as this save has left it, so that one which was reconciled or taken over meanwhile stays
// so; the outcome finds out, and also writes the part that could not be written here.
func (t *transfer) noteLocation(ctx context.Context) {
	select {
	case <-t.ended:
		return
	case <-ctx.Done():
		return
	case <-time.After(noteDelay):
	}
	t.noting.Lock()
	defer t.noting.Unlock()
	var rec *snapshot.Record
	t.update(func(r *snapshot.Record) {
		rec = r.Copy()
		rec.Duration = t.s.c.cfg.Now().Sub(t.s.start)
	})
	if t.noted != nil && t.noted.SameStatus(rec) || t.unnoted || t.s.uncatalogued != nil || t.s.lockLost() ||
		!rec.Storing() {
		return
	}
	if err := t.s.c.cfg.Records.Update(ctx, rec); err != nil {
		t.unnoted = true
		t.s.c.log.WarnContext(ctx, "catalog not told of a location; it will be told of the outcome", "snapshot", rec.Name,
			"error", err)
		return
	}
	t.noted = rec
	t.update(func(r *snapshot.Record) { r.Version, r.Etag = rec.Version, rec.Etag })
}

// put stores data and manifest: store checked, data durable, manifest durable.
func (t *transfer) put(ctx context.Context, r *repository.Repository, size int64) error {
	unverified, err := r.Open(ctx, repository.OpenOptions{Create: true, CatalogDown: t.s.uncatalogued})
	if err != nil {
		return err
	}
	if unverified != nil {
		t.s.c.log.WarnContext(ctx, "store accepted by its marker alone", "backend", r.Name(), "error", unverified)
	}
	in := &verdictReader{ctx: ctx, t: t, r: t.stored.Reader(ctx)}
	opts := repository.PutDataOptions{SizeHint: size, Taken: t.taken[r.Name()].Set}
	if err := r.PutData(ctx, t.s.rec, in, opts); err != nil {
		return err
	}
	fault.Point("data-" + r.Kind().String())
	if err := t.s.takenOver(ctx); err != nil {
		t.undo(ctx, r, t.s.rec.DataKey())
		return err
	}
	if err := r.PutManifest(ctx, t.s.rec.Name, t.manifest); err != nil {
		t.undo(ctx, r, snapshot.ManifestKey(t.s.rec.Name), t.s.rec.DataKey())
		return err
	}
	fault.Point("manifest-" + r.Kind().String())
	return nil
}

// undo removes files that were committed before something failed; reconcile removes those that cannot be removed now.
func (t *transfer) undo(ctx context.Context, r *repository.Repository, files ...string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if err := r.DeleteFiles(ctx, files...); err != nil {
		t.s.c.log.WarnContext(ctx, "trace of a failed write not removed", "backend", r.Name(), "error", err)
	}
}

// verdictReader is the stored spool as a backend reads it: its end is visible only after the verdict.
type verdictReader struct {
	ctx context.Context //nolint:containedctx // an io.Reader has no other way to be cancelled
	t   *transfer
	r   io.Reader
}

// Read gives the bytes as they come, and waits for the verdict at the end.
func (v *verdictReader) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
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
