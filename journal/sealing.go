package journal

import (
	"context"
	"errors"
	"time"
)

// sealTimeout is how long the seal of a part waits for the times to live of the leases that its revisions name, once it
// is time to ask for them.
const sealTimeout = 600 * time.Millisecond

// sync makes the added entries durable.
func (s *session) sync() error {
	began := time.Now()
	if err := s.journal.log.Sync(); err != nil {
		return err
	}
	// The member is not at fault for a slow disk (observe).
	s.advanced = s.advanced.Add(time.Since(began))
	s.useful = s.useful || s.adds()
	s.journal.noteSynced(s.mark)
	return nil
}

// sealSoon seals, or waits until the leases that the revisions of the part name were asked for. A part is sealed with
// its revisions alone: when no other revision followed, the times to live would never be on the backends.
func (s *session) sealSoon(ctx context.Context) error {
	if s.answered >= s.wanted {
		return s.seal(ctx)
	}
	if s.due.IsZero() {
		s.due = time.Now()
	}
	return nil
}

// sealLate seals when answers do not come.
func (s *session) sealLate(ctx context.Context) error {
	if s.due.IsZero() || time.Since(s.due) < s.journal.cfg.FlushInterval+sealTimeout {
		return nil
	}
	return s.seal(ctx)
}

// seal ends the part of the journal that is open, for the backends.
func (s *session) seal(ctx context.Context) error {
	s.due = time.Time{}
	if s.journal.log.Unsealed().First > 0 {
		// Whoever goes on from here, maybe another replica, has the newest segment alone to know both from.
		if err := s.writeMark(); err != nil {
			return err
		}
		if err := s.writeAuth(); err != nil {
			return err
		}
		if err := s.journal.log.Seal(); err != nil {
			return err
		}
		s.noted = false
		s.forgetSealed()
		s.journal.note(ctx, s.journal.written)
	}
	return s.journal.shrink(ctx)
}

// end leaves the journal whole: all entries are made durable and sealed, or those that a disk did not take are given
// up.
func (s *session) end() error {
	seals := s.journal.log.Unsealed().First > 0 // else a part that has facts alone goes
	var err error
	if seals {
		err = s.writeAuth()
	}
	if err = errors.Join(err, s.journal.log.Close()); err != nil {
		return errors.Join(err, s.journal.log.Abandon())
	}
	if seals {
		s.forgetSealed()
	}
	return nil
}

// forgetSealed notes that all observations but those that wait are in sealed parts.
func (s *session) forgetSealed() {
	s.journal.owed = nil
	for _, o := range s.pending {
		if o.lasts() {
			s.journal.owed = append(s.journal.owed, o)
		}
	}
}

// writeMark adds the newest watermark, unless it is there.
func (s *session) writeMark() error {
	if !s.mark.Time.After(s.written) {
		return nil
	}
	s.written = s.mark.Time
	return s.journal.log.Append(s.mark)
}

// writeAuth adds the newest state of users and roles, unless the open part has it: the next leader reads the newest
// segment, and compares.
func (s *session) writeAuth() error {
	if s.journal.auth == nil || s.noted {
		return nil
	}
	s.noted = true
	return s.journal.log.Append(*s.journal.auth)
}
