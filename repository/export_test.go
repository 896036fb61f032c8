package repository

// KeyID returns the id of the key, as it stands in signatures.
func (s *Signer) KeyID() string { return s.id }
