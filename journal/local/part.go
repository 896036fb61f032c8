package local

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"path/filepath"

	"github.com/snapshotd/snapshotd/internal/disk"
	"github.com/snapshotd/snapshotd/journal/segment"
)

// Part is a run of consecutive revisions, and the facts between them. It changes only until it is sealed, so that
// sealed ones are shared without a lock.
type Part struct {
	Number int64          // the parts are numbered in the order in which they were begun
	Header segment.Header // of the entries so far
	Size   int64          // of the entries, in bytes

	dir    string
	spoilt bool // its file is not whole: Size is that of the rest
}

const (
	entriesSuffix = ".log"
	factsSuffix   = ".json"
	badSuffix     = ".bad" // behind the others, of files that were set aside
)

// path has the number in hex, of one width, so that a listing of the directory has the parts in their order.
func (p *Part) path(suffix string) string {
	return filepath.Join(p.dir, fmt.Sprintf("%016x%s", p.Number, suffix))
}

// facts are those of a part that its entries do not have.
type facts struct {
	Timeline      segment.Timeline `json:"timeline"`
	Member        segment.EtcdID   `json:"etcdMemberId"`
	Term          int64            `json:"term,string"`
	Previous      int64            `json:"previousRevision,string"`
	PreviousChain segment.Chain    `json:"previousChain"`
	Reason        string           `json:"reason,omitempty"`
}

// writeFacts replaces the file with the facts.
func (p *Part) writeFacts() error {
	h := &p.Header
	doc, err := json.Marshal(facts{h.Timeline, h.Member, h.Term, h.Previous, h.PreviousChain, h.Reason})
	if err != nil {
		return err
	}
	return replace(p.path(factsSuffix), append(doc, '\n'))
}

// readFacts returns the header of a part before its first entry.
func (p *Part) readFacts() (segment.Header, error) {
	doc, err := os.ReadFile(p.path(factsSuffix))
	if err != nil {
		return segment.Header{}, err
	}
	var f facts
	if err := json.Unmarshal(doc, &f); err != nil {
		return segment.Header{}, fmt.Errorf("read %s: %w", p.path(factsSuffix), err)
	}
	// The file has no checksum: a change by somebody or the disk shows in its fields, or in the chain.
	if !f.Timeline.Valid() || f.Previous < 0 {
		return segment.Header{}, fmt.Errorf("read %s: timeline %.60q and revision %d are none",
			p.path(factsSuffix), f.Timeline, f.Previous)
	}
	return segment.Header{
		Timeline: f.Timeline, Level: segment.Level10s, Member: f.Member, Term: f.Term,
		Previous: f.Previous, PreviousChain: f.PreviousChain, Chain: f.PreviousChain, Reason: f.Reason,
	}, nil
}

// Entries yields the entries of a part from its file. An error is the last element.
func (p *Part) Entries() iter.Seq2[segment.Entry, error] {
	return func(yield func(segment.Entry, error) bool) {
		err := p.each(p.Size, func(e segment.Entry, _ int64) bool { return yield(e, nil) })
		if err != nil {
			yield(nil, fmt.Errorf("read the journal from %s: %w", p.path(entriesSuffix), err))
		}
	}
}

// each calls f with each entry in the first bytes of the file, and with how many bytes are whole entries then, until it
// returns false.
func (p *Part) each(size int64, f func(e segment.Entry, whole int64) bool) error {
	file, err := os.Open(p.path(entriesSuffix))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	// No more than the size: behind it may be what Abandon could not cut off.
	in := bufio.NewReaderSize(io.LimitReader(file, size), 256<<10)
	whole := int64(0)
	for {
		e, n, err := segment.ReadFrame(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		whole += int64(n)
		if !f(e, whole) {
			return nil
		}
	}
}

// recover reads the part that a crash or a stop left, as far as its entries are whole. Behind them, the tail of a part
// that was not sealed is cut off: that is the trace of a crash. A sealed part was whole once. last has no revision when
// none is left, and damage is why the part is not whole. An error that wraps [os.ErrNotExist] says that the part was
// about to be removed.
func (p *Part) recover(sealed bool) (last Position, damage, err error) {
	if p.Header, err = p.readFacts(); err != nil {
		return Position{}, err, nil
	}
	var wrong error
	last = Position{Timeline: p.Header.Timeline}
	size := int64(0)
	err = p.each(math.MaxInt64, func(e segment.Entry, whole int64) bool {
		before := p.Header.Chain
		if wrong = p.Header.Add(e); wrong != nil {
			return false
		}
		size = whole
		if r, ok := e.(segment.Revision); ok {
			last.Anchor, last.AnchorChain, last.Revision, last.Chain = r.Main, before, r.Main, p.Header.Chain
		}
		return true
	})
	p.Size = size
	switch err = cmp.Or(wrong, err); {
	case err == nil || errors.Is(err, os.ErrNotExist):
		return last, nil, err
	// Nothing of it was promised: Sync had not returned. In a sealed part the same bytes are damage.
	case errors.Is(err, segment.ErrTorn) && !sealed:
		if err := truncate(p.path(entriesSuffix), size); err != nil {
			return last, nil, fmt.Errorf("cut off the torn end of the journal: %w", err)
		}
		return last, nil, nil
	}
	p.spoilt = true
	return last, fmt.Errorf("read the journal from %s: %w", p.path(entriesSuffix), err), nil
}

// create makes the file of the entries. One that is there already is an error and stays as it is.
func (p *Part) create() (*os.File, error) {
	return os.OpenFile(p.path(entriesSuffix), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// remove deletes the files of a part. The facts go last: without them, entries have no meaning. Those of a part that is
// not whole are set aside.
func (p *Part) remove() error {
	if p.spoilt {
		return p.setAside()
	}
	for _, suffix := range []string{entriesSuffix, factsSuffix} {
		if err := os.Remove(p.path(suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// setAside renames the files of a part, so that a person can look at them. One that is not there is no error.
func (p *Part) setAside() error {
	for _, suffix := range []string{entriesSuffix, factsSuffix} {
		if err := os.Rename(p.path(suffix), p.path(suffix)+badSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return disk.Sync(p.dir)
}

// replace writes a small file durably: all of it or nothing. The content is synced before the rename, or a crash could
// leave the name with an empty file; the directory is synced after it, or the old content could come back.
func replace(path string, doc []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(doc)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err != nil {
		_ = os.Remove(path + ".tmp")
		return err
	}
	return disk.Sync(filepath.Dir(path))
}

// truncate cuts a file off, durably: later entries must not follow bytes that a crash brings back.
func truncate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	err = f.Truncate(size)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
