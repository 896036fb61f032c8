package storage

import "errors"

// extent is what is read of an object.
type extent struct {
	offset int64
	length int64 // below 0: to the end
}

// whole is all of an object.
var whole = extent{0, -1}

func (x extent) check() error {
	if x.offset < 0 || x.length == 0 {
		return errors.New("a range begins at 0 or later, and has at least one byte")
	}
	return nil
}
