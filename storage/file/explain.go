package file

import (
	"errors"
	"syscall"

	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage/driver"
)

// explain has hints for a directory that is not there, and for errors that network file systems have of their own.
// Everything else is an error of the operating system.
func explain(err error) driver.Verdict {
	if _, ok := errors.AsType[*rootError](err); ok {
		return driver.Missing(plain(err), "mount or create it, or correct the URL; it is not created by itself")
	}
	text := plain(err)
	switch errno, _ := errors.AsType[syscall.Errno](err); errno {
	case syscall.ESTALE:
		return driver.Unavailable(text, "the server has another directory there by now, or has forgotten it; mount it anew")
	case syscall.ENOTCONN, syscall.EHOSTDOWN, syscall.ENODEV:
		return driver.Unavailable(text, "the program or server behind this mount has ended; mount it anew")
	case syscall.EIO:
		return driver.Unavailable(text, "look at the kernel's log, the disk, and the server that it is mounted from")
	case syscall.EROFS:
		return driver.Denied(text, "the file system is read-only, as kernels make it after an error of the disk; look at "+
			"the kernel's log and mount it anew")
	case syscall.EEXIST:
		return driver.Verdict{Reason: snapshot.ReasonBackendUnavailable, Text: text,
			Hint: "the file system does not replace a " +
				"file by another one; sshfs needs the option workaround=rename"}
	}
	return driver.Verdict{Text: text}
}

// plain returns an error without the layers of gocloud.dev, which stand for a code: the cause comes first in them.
func plain(err error) string {
	for {
		both, ok := err.(interface{ Unwrap() []error })
		if !ok || len(both.Unwrap()) == 0 {
			return err.Error()
		}
		err = both.Unwrap()[0]
	}
}
