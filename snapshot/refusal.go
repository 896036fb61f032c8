package snapshot

import "errors"

// The refusals that several operations share, so that a caller reads the same words, and the same way out, of each.

// ChangedRecord is the advice about a record that contradicts its backend.
const ChangedRecord = "the record was changed by something else; delete its key in etcd (etcdctl del), " +
	"and reconcile makes it anew"

// The errors of a location that does not hold its snapshot.
const (
	ManifestMissing = "its manifest is missing"
	ManifestDamaged = "its manifest is damaged or another snapshot's"
	OtherSnapshot   = "it holds another snapshot under this name"
)

// SaveInProgress is the error that a cluster is being saved already; where says by which save.
func SaveInProgress(cluster, where string) *Error {
	return ReasonSaveInProgress.New("cluster %q is being saved already, %s", cluster, where).
		Advise("one save per cluster runs at a time; wait for it, or for its lease to run out if its replica has died")
}

// NoGoodCopy is the error that no copy of a snapshot can be read: on a backend, or on any when its name is empty.
// verb names the operation.
func NoGoodCopy(verb, name, backend string) *Error {
	return ReasonCopyMissing.New("%s %s: there is no good copy of it", verb, name).On(backend).Final().
		Advise("get shows where it is; choose one of these backends, or repair it first")
}

// ChangedMeanwhile adds the operation to the error of a conflict. It returns other errors as they are.
func ChangedMeanwhile(err error, format string, args ...any) error {
	if !errors.Is(err, ErrConflict) {
		return err
	}
	return ReasonConflict.New(format, args...).Because(err).Advise("look at it again, and decide anew")
}

// CheckEtag returns an error when the record is not the one that a caller has read. An empty etag matches any.
func (r *Record) CheckEtag(etag string) error {
	if etag == "" || etag == r.Etag {
		return nil
	}
	e := ReasonEtagMismatch.New("etag: snapshot %q has %s now and not %s", r.Name, r.Etag, etag).
		Advise("get it again, and decide anew")
	e.Field = "etag"
	return e
}

// CheckIdle returns an error while the snapshot is being saved.
func (r *Record) CheckIdle() error {
	if r.status.State != StateSaving {
		return nil
	}
	return SaveInProgress(r.Cluster, "and "+r.Name+" is its snapshot")
}
