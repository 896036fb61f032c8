// Package verifying reads the copy of a snapshot on one backend, and says whether it is good. It changes nothing: the
// cluster decides about the consequences of a verdict.
package verifying

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// A Hasher can return the HashKV of a revision of the live etcd.
type Hasher interface {
	HashKV(ctx context.Context, revision int64) (LiveHash, error)
}

// LiveHash is the hash of a revision in the live cluster.
type LiveHash struct {
	ClusterID       string // 16 hex digits
	HashKV          uint32
	CompactRevision int64 // two hashes of a revision are of the same keys only when they agree on this
}

// Verifying says how copies are verified.
type Verifying struct {
	Level      snapshot.Level
	Dir        string             // for temporary files
	Identities age.Identities     // of the snapshot; none when it cannot be decrypted here
	Driller    repository.Driller // for LevelDrill
	Live       Hasher             // optional
	Progress   func(backend string, done, total int64)
	Logger     *slog.Logger
}

// Verdict is the result of a copy that was read.
type Verdict struct {
	repository.Checked
	Live string // how the drill's hash compares with the live cluster's, for a person
}

// Copy checks the copy on one backend, twice when it seems to be damaged: the network may have damaged its bytes.
func (v *Verifying) Copy(
	ctx context.Context, rec *snapshot.Record, r *repository.Repository,
) (verdict Verdict, err error) {
	checked, err := v.check(ctx, rec, r)
	if snapshot.IsDamage(err) && ctx.Err() == nil {
		v.Logger.WarnContext(ctx, "stored copy seems to be damaged; it is read again", "snapshot", rec.Name,
			"backend", r.Name(), "error", err)
		checked, err = v.check(ctx, rec, r)
	}
	if err != nil {
		return Verdict{}, err
	}
	verdict = Verdict{Checked: checked}
	// The hash of a damaged copy would say nothing about the live cluster, so only a good one is compared.
	if v.Level == snapshot.LevelDrill {
		verdict.Live, err = v.compareLive(ctx, rec, checked)
	}
	return verdict, err
}

// check reads the copy on one backend.
func (v *Verifying) check(
	ctx context.Context, rec *snapshot.Record, r *repository.Repository,
) (repository.Checked, error) {
	if err := r.OpenVerified(ctx, false); err != nil {
		return repository.Checked{}, err
	}
	// The manifest first: it is small, and a copy without it is no snapshot, however good its bytes are.
	if rec.Trigger != snapshot.TriggerAdopted {
		if _, err := r.CheckManifest(ctx, rec); err != nil {
			return repository.Checked{}, notThere(r, snapshot.ManifestKey(rec.Name), err)
		}
	}
	// A disk that is full half-way through would look like a copy that cannot be read.
	if need := v.Level.Room(min(rec.DBSize, snapshot.MaxSize)); need > 0 {
		if err := repository.CheckSpace(v.Dir, need); err != nil {
			return repository.Checked{}, err
		}
	}
	check := repository.Check{
		Repository: r, Record: rec, Level: v.Level, Dir: v.Dir, Driller: v.Driller, Identities: v.Identities,
	}
	if v.Progress != nil {
		check.Progress = func(done, total int64) { v.Progress(r.Name(), done, total) }
	}
	checked, err := check.Run(ctx)
	return checked, notThere(r, rec.DataKey(), err)
}

// notThere is the verdict on a copy that is not where the catalog has it, though its store is the right one.
func notThere(r *repository.Repository, file string, err error) error {
	if !snapshot.IsNotFound(err) {
		return err
	}
	return snapshot.ReasonSnapshotUnreadable.New("verify %s", r.URI(file)).On(r.Name()).Because(repository.ErrNotThere).
		Advise("it was removed by hand; reconcile takes note of that, and with --repair copies it from another backend")
}

// compareLive compares a drill's HashKV with the live cluster's, where that still has the revision. The text says
// whether it could; the error is that they differ.
func (v *Verifying) compareLive(ctx context.Context, rec *snapshot.Record, checked repository.Checked) (string, error) {
	// Most of these are no fault of anything: the live cluster moves on. A comparison that was not possible is told in
	// words, so that it is not taken for one that went well.
	if v.Live == nil {
		return "not compared: the source has none", nil
	}
	live, err := v.Live.HashKV(ctx, checked.HashRevision)
	switch {
	case ctx.Err() != nil:
		return "", snapshot.Cancelled(ctx, "verify %s", rec.Name)
	case err != nil:
		why := err.Error()
		if e, ok := errors.AsType[*snapshot.Error](err); ok && e.Err == nil {
			why = e.Message
		}
		return "not compared: " + why, nil
	case rec.EtcdClusterID == "":
		return "not compared: it is not known which cluster the snapshot is of", nil
	case live.ClusterID != rec.EtcdClusterID:
		return "not compared: the live cluster is another one now, restored or made anew", nil
	case live.CompactRevision != checked.CompactRevision:
		return "not compared: the live cluster was compacted meanwhile", nil
	case live.HashKV == checked.HashKV:
		return "the same as the live cluster's", nil
	}
	return "not the live cluster's", snapshot.ReasonSnapshotUnreadable.New("verify %s", rec.Name).
		Because(fmt.Errorf("HashKV at revision %d is %d, and %d in the live cluster",
			checked.HashRevision, checked.HashKV, live.HashKV)).
		Advise("unless the cluster was restored from an older snapshot since, one of the two is damaged: " +
			"compare the members of etcd with each other (etcdctl endpoint hashkv --cluster)")
}
