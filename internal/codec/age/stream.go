package age

import (
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// ErrNoIdentity: none of the identities is of a recipient.
var ErrNoIdentity = errors.New("it is encrypted for none of the identities")

// NewWriter returns a writer that encrypts into w. Closing it writes the end, without which the encrypted data
// cannot be decrypted, and leaves w open.
func (r Recipients) NewWriter(w io.Writer) (io.WriteCloser, error) {
	encrypted, err := age.Encrypt(w, r.keys...)
	if err != nil {
		return nil, fmt.Errorf("encrypt for %d recipients: %w", len(r.keys), err)
	}
	return encrypted, nil
}

// NewReader returns the decrypted data of r. The error wraps [ErrNoIdentity] when r is encrypted for others. Whatever
// is read has been authenticated piece by piece; only io.EOF says that nothing is missing at the end.
func (i Identities) NewReader(r io.Reader) (io.Reader, error) {
	if i.Empty() {
		return nil, ErrNoIdentity
	}
	opened, err := age.Decrypt(r, i.keys...)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return nil, ErrNoIdentity
	}
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	return opened, nil
}
