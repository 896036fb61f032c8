package repairing

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/snapshotd/snapshotd/internal/fault"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// copying brings a copy of a snapshot from one backend to another, byte for byte, so that it needs no key.
type copying struct {
	rec      *snapshot.Record
	from, to *repository.Repository
	now      func() time.Time
	observe  func(ctx context.Context, ev snapshot.Event)

	wrote bool // data was put on the target
}

// run brings data and manifest to the target, as far as they are not there. Nothing becomes visible there before size
// and checksum of the bytes that were read were right. It says whether an error is the source's.
func (x *copying) run(ctx context.Context, manifest []byte) (sourceFailed bool, err error) {
	// The target is asked although the record says that it has no copy. An attempt that ended between data and manifest
	// has left its data there.
	there, err := x.to.Probe(ctx, x.rec)
	if err != nil {
		return false, err
	}
	// A copy that turns out to be there already is no write, and no observation of the metric. Nor is a source that
	// failed.
	begin := x.now()
	defer func() {
		if (!there.Data || !there.Manifest) && !sourceFailed {
			x.observe(ctx, snapshot.Event{
				Type: snapshot.EventWritten, Backend: x.to.Name(), Kind: x.to.Kind(), Duration: x.now().Sub(begin), Err: err,
			})
		}
	}()
	if !there.Data {
		if sourceFailed, err = x.data(ctx, there.Occupied); err != nil {
			return sourceFailed, err
		}
		fault.Point("repair-data")
	}
	if !there.Manifest {
		if err := x.to.PutManifest(ctx, x.rec.Name, manifest); err != nil {
			return false, err // data without a manifest is nothing yet; the next attempt finds it
		}
		fault.Point("repair-manifest")
	}
	return false, nil
}

// data brings the data to the target. An object that is in the way was found not to be the snapshot's, and is replaced.
func (x *copying) data(ctx context.Context, occupied bool) (sourceFailed bool, err error) {
	in, err := x.from.OpenStored(ctx, x.rec)
	if err != nil {
		return true, err
	}
	defer func() { _ = in.Close() }()
	err = x.to.PutData(ctx, x.rec, in, repository.PutDataOptions{SizeHint: x.rec.StoredSize, Replace: occupied})
	// The write fails also when the read does. The read comes first, because it is the cause.
	switch {
	case err == nil:
		x.wrote = true
		return false, nil
	// A source that failed because the call has ended says nothing of its copy.
	case in.Failed() != nil && ctx.Err() == nil:
		return true, in.Failed()
	case errors.Is(err, snapshot.ErrExists): // another replica was faster
		if again, perr := x.to.Probe(ctx, x.rec); perr == nil && again.Data {
			return false, nil
		}
	}
	return false, err
}

// recheck reads a copy that seemed to be damaged once more, because the network may have damaged its bytes; first is
// why it seemed so. It reports whether the copy is damaged indeed. Any other error says nothing of the stored bytes.
func (x *copying) recheck(ctx context.Context, first error) (damaged bool, err error) {
	again, err := x.from.OpenStored(ctx, x.rec)
	if err != nil {
		return false, err
	}
	defer func() { _ = again.Close() }()
	_, _ = io.Copy(io.Discard, again) // its error is again.Failed, with the reason
	switch {
	case again.Failed() == nil:
		return false, snapshot.ReasonBackendUnavailable.
			New("backend %q gave a copy that was damaged on the way, and a good one when asked again", x.from.Name()).
			On(x.from.Name()).Because(first).Advise("check the network, and this machine's memory")
	case snapshot.ReasonOf(again.Failed()) != snapshot.ReasonChecksumMismatch:
		return false, again.Failed()
	}
	return true, first
}
