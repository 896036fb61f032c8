package snapshot

import (
	"context"
	"errors"
)

// check verifies the copy on one backend.
func (c *Cluster) check(ctx context.Context, rec *Record, req VerifyRequest, b Backend) (Checked, error) {
	unverified, err := c.openStore(ctx, b, storeCheck{})
	if err = errors.Join(err, unverified); err != nil {
		return Checked{}, err
	}
	if rec.Trigger != TriggerAdopted {
		if _, err := c.checkManifest(ctx, b, rec); err != nil {
			return Checked{}, c.notThere(b, ManifestKey(rec.Name), err)
		}
	}
	if need := req.Level.Room(rec.DBSize); need > 0 {
		if err := checkSpace(c.cfg.SpoolDir, need); err != nil {
			return Checked{}, err
		}
	}
	check := Check{Backend: b, Key: c.key(rec.DataKey()), Record: rec, Level: req.Level, Dir: c.cfg.SpoolDir, Driller: c.cfg.Driller}
	if c.cfg.Identities.Of(rec.EncryptionRecipients) {
		check.Identities = c.cfg.Identities
	}
	if req.Progress != nil {
		check.Progress = func(done, total int64) { req.Progress(b.Name(), done, total) }
	}
	checked, err := check.Run(ctx)
	return checked, c.notThere(b, rec.DataKey(), err)
}

// notThere is the verdict on a copy that is not where the catalog has it, though its store is the right one.
func (c *Cluster) notThere(b Backend, key string, err error) error {
	if !isNotFound(err) {
		return err
	}
	return &Error{
		Reason: ReasonSnapshotUnreadable, Backend: b.Name(), Message: "verify " + b.URI(c.key(key)), Err: errNotThere,
		Hint: "somebody removed it; reconcile takes note of that, and with --repair copies it from another backend",
	}
}

var errNotThere = errors.New("it is not there")
