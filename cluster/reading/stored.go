package reading

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/codec/seekable"
	"github.com/snapshotd/snapshotd/internal/etcd/database"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Form is how a database is stored. The zero value is the bytes that etcd has sent.
type Form struct {
	Compress   bool
	Encrypt    bool
	Recipients age.Recipients // of encrypted ones
}

// Plain reports whether the database is stored as it is.
func (f Form) Plain() bool { return !f.Compress && !f.Encrypt }

// Encode writes a database as it is to be stored: compressed, then encrypted. It returns the size and the checksum of
// the bytes that it has written. All backends get these bytes, so that a copy can be checked and repaired without any
// key.
func (f Form) Encode(ctx context.Context, to io.Writer, db io.Reader) (size int64, sum string, err error) {
	hash, n := sha256.New(), counter(0)
	err = f.encode(ctx, io.MultiWriter(to, hash, &n), db)
	return int64(n), hex.EncodeToString(hash.Sum(nil)), err
}

func (f Form) encode(ctx context.Context, to io.Writer, db io.Reader) error {
	encrypted := io.WriteCloser(nopCloser{to})
	if f.Encrypt {
		var err error
		if encrypted, err = f.Recipients.NewWriter(to); err != nil {
			return snapshot.ReasonInternal.New("encrypt the snapshot").Because(err)
		}
	}
	var err error
	if f.Compress {
		_, err = seekable.Copy(ctx, encrypted, db, seekable.Options{})
	} else {
		_, err = io.Copy(encrypted, db)
	}
	if err != nil {
		return err // the end of the encrypted stream is not written, so nothing can take it for whole
	}
	return encrypted.Close()
}

// nopCloser is the end of a form that is not encrypted: the spool below it is closed by its owner.
type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// counter counts the bytes that are written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// Inspect reads every page and key of a spooled database. Temporary files are made in dir, where there is room for
// them. The checksum alone shows that the bytes are those that the member has sent, and not that the member's own
// database is whole.
func Inspect(ctx context.Context, path, dir string, room *repository.Room) (database.Result, error) {
	res, err := database.File(ctx, path, database.Options{TempDir: dir, Room: room.Take})
	_, known := errors.AsType[*snapshot.Error](err)
	switch {
	case err == nil:
		return res, nil
	case ctx.Err() != nil:
		return res, context.Cause(ctx)
	case known: // there is no room
		return res, err
	case errors.Is(err, database.ErrUnreadable):
		return res, snapshot.ReasonSnapshotUnreadable.New("inspect the snapshot").Because(err).
			Advise("its checksum is right, so the member's own database is damaged; save from another member and check this one")
	}
	return res, repository.SpoolError("read", err)
}
