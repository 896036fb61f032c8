package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/snapshotd/snapshotd/journal/segment"
)

// Loss is revisions that the files of a part should have, and that could not be read from them. A backend may have
// them.
type Loss struct {
	Timeline    segment.Timeline // empty when it is not known
	First, Last int64            // 0 where it is not known
	Again       bool             // the journal ends before them, so that its next leader reads them from etcd once more
	Err         error            // of the files; nil when these are not there
}

// Gone reports whether the files are not there. They have vanished, or were removed right before a crash.
func (l *Loss) Gone() bool { return l.Err == nil }

// None reports whether the files were bad, and no revision is missing.
func (l *Loss) None() bool { return l.Last > 0 && l.First > l.Last }

// String returns the revisions.
func (l *Loss) String() string {
	switch {
	case l.None():
		return "no revisions"
	case l.First == 0 && l.Last == 0:
		return "revisions that are not known"
	case l.First == 0:
		return fmt.Sprintf("revisions up to %d", l.Last)
	case l.Last == 0:
		return fmt.Sprintf("revisions from %d on", l.First)
	}
	return segment.Range{First: l.First, Last: l.Last}.String()
}

// surveyed is the rest of the parts in a directory. It takes in the parts in their order. The end of one that is bad is
// not in its own files: the facts of the next part say which revision came before that, so a loss stays open until
// then.
type surveyed struct {
	dir    string
	noted  note
	sealed []*Part
	newest Position // of the parts
	next   int64    // number of the next part
	losses []Loss
	open   *Loss // of the last part, whose end the next one shows
}

// survey reads all parts in a directory. An error is one that may pass: a file that is bad by itself is set aside.
func survey(dir string) (*surveyed, error) {
	numbers, highest, err := numbersIn(dir)
	if err != nil {
		return nil, err
	}
	s := &surveyed{dir: dir, noted: readPosition(dir)}
	// No number is used twice, also when parts were removed or set aside: the note and uploads under way name parts by it.
	s.next = max(s.noted.Part, highest) + 1
	// As it was read: a part that contradicts the note takes its position away (part).
	noted := s.noted
	for i, n := range numbers {
		// Only the last part can have been open when the process died, and not if the note says that it was sealed.
		if err := s.part(n, i < len(numbers)-1 || n <= noted.Part); err != nil {
			return nil, err
		}
	}
	s.close("", 0)
	at := s.position()
	for i := range s.losses {
		l := &s.losses[i]
		if l.Last == 0 && l.Timeline == noted.Timeline && noted.Revision >= l.First {
			l.Last = noted.Revision // the revision that was sealed last
		}
		l.Again = at.Timeline == l.Timeline && at.Revision < l.First
	}
	s.losses = append(s.losses, s.gone()...)
	return s, nil
}

// gone returns the revisions of parts that have vanished. Each part says which revision comes before it; the note says
// which revision was the last one, and which parts were removed on purpose. Parts that are there and cannot be read are
// left out.
func (s *surveyed) gone() (all []Loss) {
	end := Position{} // of the part before
	next := s.noted.Oldest
	add := func(p Position, number int64) {
		if number < next {
			return
		}
		l := Loss{Timeline: p.Timeline, Last: p.Revision}
		if p.Timeline == end.Timeline {
			l.First = end.Revision + 1
		}
		// A part that is there and bad is told of by itself, with its error.
		if !l.None() && l.Last > 0 && !slices.ContainsFunc(s.losses, l.overlaps) {
			all = append(all, l)
		}
	}
	for _, p := range s.sealed {
		add(Position{Timeline: p.Header.Timeline, Revision: p.Header.Previous}, p.Number-1)
		end, next = Position{Timeline: p.Header.Timeline, Revision: p.Header.Last}, max(next, p.Number+1)
	}
	if s.noted.Newer(end) {
		add(s.noted.Position, s.noted.Part)
	}
	return all
}

// overlaps reports whether two losses may have revisions in common.
func (l *Loss) overlaps(other Loss) bool {
	return l.Timeline == other.Timeline && (other.Last == 0 || l.First <= other.Last) && other.First <= l.Last
}

// numbersIn returns the numbers of the parts in a directory, in ascending order, and the highest number, also of files
// that were set aside. It removes the leftovers of writing facts.
func numbersIn(dir string) (numbers []int64, highest int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, 0, err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, ".tmp") {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return nil, 0, err
			}
		}
		number, suffix, _ := strings.Cut(name, ".")
		n, err := strconv.ParseInt(number, 16, 64)
		if err != nil || n <= 0 {
			continue
		}
		if highest = max(highest, n); "."+suffix == factsSuffix {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, highest, nil
}

// position returns how far the journal is.
func (s *surveyed) position() Position {
	if s.noted.Newer(s.newest) && !Ahead(s.noted.Timeline) {
		return s.noted.Position
	}
	return s.newest
}

// part takes in the part of a number.
func (s *surveyed) part(n int64, sealed bool) error {
	p := &Part{Number: n, dir: s.dir}
	last, damage, err := p.recover(sealed)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return p.remove() // it was about to be removed, or somebody has removed its entries
	case err != nil:
		return err
	// Setting it aside would lose revisions that can be read after a restart with more files or another user.
	case passing(damage):
		return fmt.Errorf("%w (move the file away to go on without it: its revisions are then lost, unless a backend has "+
			"them)", damage)
	}
	if n == s.noted.Part && (last.Revision == 0 || s.noted.Newer(last)) {
		s.noted.Position = Position{} // the disk has lost the note
	}
	if p.Header.Timeline != "" {
		s.close(p.Header.Timeline, p.Header.Previous)
	}
	if damage != nil {
		s.lose(p, last, damage)
	}
	if last.Revision == 0 {
		return p.remove()
	}
	s.sealed = append(s.sealed, p)
	if last.Newer(s.newest) && !Ahead(last.Timeline) {
		s.newest = last
	}
	return nil
}

// passing reports whether an error says nothing of the file: the process may open no more files, has no memory, or runs
// as another user.
func passing(err error) bool {
	return errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ENOMEM)
}

// lose notes that a part is not whole. It has lost the revisions behind the last one that is left.
func (s *surveyed) lose(p *Part, last Position, damage error) {
	p.spoilt = true
	l := Loss{Timeline: p.Header.Timeline, Err: damage}
	switch {
	case last.Revision > 0:
		l.First = last.Revision + 1
	case l.Timeline != "":
		l.First = p.Header.Previous + 1
	case s.open != nil: // nothing is known of this part, and the one before it is lost to an end that is not known
		s.open.Err = errors.Join(s.open.Err, damage)
		return
	// Without facts, it most likely went on where the parts before it end.
	case s.newest.Revision > 0:
		l.Timeline, l.First = s.newest.Timeline, s.newest.Revision+1
	}
	s.open = &l
}

// close ends a loss before a part whose facts are known. Without a timeline, no further part follows.
func (s *surveyed) close(t segment.Timeline, previous int64) {
	l := s.open
	if s.open = nil; l == nil {
		return
	}
	if l.Timeline == "" && previous > 0 {
		l.Timeline = t
	}
	if l.Timeline == t && t != "" {
		l.Last = previous
	}
	s.losses = append(s.losses, *l)
}
