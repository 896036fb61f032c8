// Package copying brings a copy of a snapshot from one backend to another, byte for byte, so that it needs no key.
package copying

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/snapshotd/snapshotd/internal/fault"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Copying is the making of one copy.
type Copying struct {
	Record   *snapshot.Record
	From, To *repository.Repository
	Now      func() time.Time
	Observe  func(ctx context.Context, ev snapshot.Event)

	wrote bool
}

// Wrote reports whether data was put on the target.
func (x *Copying) Wrote() bool { return x.wrote }

// Run brings data and manifest to the target, as far as they are not there. Nothing becomes visible there before size
// and checksum of the bytes that were read were right. It says whether an error is the source's.
func (x *Copying) Run(ctx context.Context, manifest []byte) (sourceFailed bool, err error) {
	// The target is asked although the record says that it has no copy. An attempt that ended between data and manifest
	// has left its data there.
	there, err := x.To.Probe(ctx, x.Record)
	if err != nil {
		return false, err
	}
	// A copy that turns out to be there already is no write, and no observation of the metric. Nor is a source that
	// failed.
	begin := x.Now()
	defer func() {
		if (!there.Data || !there.Manifest) && !sourceFailed {
			x.Observe(ctx, snapshot.Event{
				Type: snapshot.EventWritten, Backend: x.To.Name(), Kind: x.To.Kind(), Duration: x.Now().Sub(begin), Err: err,
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
		if err := x.To.PutManifest(ctx, x.Record.Name, manifest); err != nil {
			return false, err // data without a manifest is nothing yet; the next attempt finds it
		}
		fault.Point("repair-manifest")
	}
	return false, nil
}

// data brings the data to the target. An object that is in the way was found not to be the snapshot's, and is replaced.
func (x *Copying) data(ctx context.Context, occupied bool) (sourceFailed bool, err error) {
	in, err := x.From.OpenStored(ctx, x.Record)
	if err != nil {
		return true, err
	}
	defer func() { _ = in.Close() }()
	err = x.To.PutData(ctx, x.Record, in, repository.PutDataOptions{SizeHint: x.Record.StoredSize, Replace: occupied})
	// The write fails also when the read does. The read comes first, because it is the cause.
	switch {
	case err == nil:
		x.wrote = true
		return false, nil
	// A source that failed because the call has ended says nothing of its copy.
	case in.Failed() != nil && ctx.Err() == nil:
		return true, in.Failed()
	case errors.Is(err, snapshot.ErrExists): // another replica was faster
		if again, perr := x.To.Probe(ctx, x.Record); perr == nil && again.Data {
			return false, nil
		}
	}
	return false, err
}

// Recheck reads a copy that seemed to be damaged once more, because the network may have damaged its bytes; first is
// why it seemed so. It reports whether the copy is damaged indeed. Any other error says nothing of the stored bytes.
func (x *Copying) Recheck(ctx context.Context, first error) (damaged bool, err error) {
	again, err := x.From.OpenStored(ctx, x.Record)
	if err != nil {
		return false, err
	}
	defer func() { _ = again.Close() }()
	_, _ = io.Copy(io.Discard, again) // its error is again.Failed, with the reason
	switch {
	case again.Failed() == nil:
		return false, snapshot.ReasonBackendUnavailable.
			New("backend %q gave a copy that was damaged on the way, and a good one when asked again", x.From.Name()).
			On(x.From.Name()).Because(first).Advise("check the network, and this machine's memory")
	case snapshot.ReasonOf(again.Failed()) != snapshot.ReasonChecksumMismatch:
		return false, again.Failed()
	}
	return true, first
}
