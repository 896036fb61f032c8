package age

import (
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// ErrNoIdentity: none of the identities is of a recipient.
var ErrNoIdentity = errors.New("none of the identities is one that it is sealed for")

// NewWriter returns a writer that seals what is written to it into w. Closing it writes the end, without which what was
// written cannot be opened, and leaves w open.
func (r Recipients) NewWriter(w io.Writer) (io.WriteCloser, error) {
	sealed, err := age.Encrypt(w, r.keys...)
	if err != nil {
		return nil, fmt.Errorf("seal for %d recipients: %w", len(r.keys), err)
	}
	return sealed, nil
}

// NewReader returns what is sealed in r. The error wraps [ErrNoIdentity] when it is sealed for others. Whatever is read
// has been authenticated piece by piece; only io.EOF says that nothing is missing at the end.
func (i Identities) NewReader(r io.Reader) (io.Reader, error) {
	if i.Empty() {
		return nil, ErrNoIdentity
	}
	opened, err := age.Decrypt(r, i.keys...)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return nil, ErrNoIdentity
	}
	if err != nil {
		return nil, fmt.Errorf("open what is sealed: %w", err)
	}
	return opened, nil
}
