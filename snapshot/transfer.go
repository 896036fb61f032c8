package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

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

// judge gives the verdict: from now on the backends may see the end, or why there is none.
func (t *transfer) judge(err error) {
	t.err = err
	if err != nil {
		t.stored.End(err)
		t.raw.End(err)
	}
	close(t.verdict)
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
