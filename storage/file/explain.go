package file

import (
	"errors"

	"github.com/snapshotd/snapshotd/storage/driver"
)

// explain has a hint for a directory that is not there. Everything else is an error of the operating system.
func explain(err error) driver.Verdict {
	if _, ok := errors.AsType[*rootError](err); ok {
		return driver.Missing(plain(err), "mount or create it, or correct the URL; it is not created by itself")
	}
	return driver.Verdict{Text: plain(err)}
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
