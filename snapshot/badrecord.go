package snapshot

import (
	"errors"
	"fmt"
	"slices"
)

// ErrBadRecord: the catalog holds something under a record's key that this version cannot read as that record. Nothing
// is known of the snapshot, so nothing of it is changed or removed. The error has a [BadRecord] in its tree.
var ErrBadRecord = errors.New("record cannot be read")

// BadRecord says which record cannot be read, and why. It wraps [ErrBadRecord].
type BadRecord struct {
	Name string // of the snapshot, by the record's key; empty when no record can have such a key
	Key  string // in the catalog
	Err  error  // why it cannot be read
}

// Error returns the cause: the error around it names the key.
func (b *BadRecord) Error() string { return b.Err.Error() }

// Unwrap returns the sentinel and the cause.
func (b *BadRecord) Unwrap() []error { return []error{ErrBadRecord, b.Err} }

// BadRecordName returns the name of the snapshot whose record cannot be read; false for errors of other kinds.
func BadRecordName(err error) (name string, ok bool) {
	if b, ok := errors.AsType[*BadRecord](err); ok {
		return b.Name, true
	}
	return "", false
}

// EachBadRecord returns the errors of records that cannot be read: those that [BadRecords.Err] has joined, or err
// alone.
func EachBadRecord(err error) (errs []error) {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok { // no error below it joins others
		all = joined.Unwrap()
	}
	for _, err := range all {
		if errors.Is(err, ErrBadRecord) {
			errs = append(errs, err)
		}
	}
	return errs
}

// maxBadRecords is how many errors [BadRecords] keeps. A catalog can hold any number of such records.
const maxBadRecords = 10

// BadRecords gathers the errors of records that cannot be read while the work on the others goes on. The zero value is
// ready for use.
type BadRecords struct {
	errs []error
	more int
}

// Add takes the error of a record that cannot be read, and returns true. It returns false for errors of other kinds.
func (b *BadRecords) Add(err error) bool {
	switch {
	case !errors.Is(err, ErrBadRecord):
		return false
	case len(b.errs) < maxBadRecords:
		b.errs = append(b.errs, err)
	default:
		b.more++
	}
	return true
}

// Len returns how many records they are.
func (b *BadRecords) Len() int { return len(b.errs) + b.more }

// Errors returns the first of the errors, and at the end how many more there are.
func (b *BadRecords) Errors() []error {
	if b.more == 0 {
		return b.errs
	}
	return append(slices.Clone(b.errs), fmt.Errorf("%d more records cannot be read: %w", b.more, ErrBadRecord))
}

// Err returns all of it as one error; nil when every record could be read.
func (b *BadRecords) Err() error { return errors.Join(b.Errors()...) }
