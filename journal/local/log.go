package local

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/snapshotd/snapshotd/journal/segment"
)

// bufferSize is how many bytes of entries are collected before they are written.
const bufferSize = 256 << 10

// Log is the journal of one cluster on this machine. Its methods may be called at once from several goroutines: one
// adds entries, and one for each backend reads sealed parts and removes them. Those that only look (Sealed, Synced,
// Size) do not wait for those that write.
type Log struct {
	dir   string
	limit int64

	mu         sync.Mutex // also held while the disk is waited for
	opened     bool
	sealed     []*Part
	open       *Part // nil when none was begun
	file       file
	buffer     *bufio.Writer
	scratch    []byte
	dirty      bool     // entries were added since the last Sync
	failed     error    // of the file: entries since the last Sync may be lost, also when the next one succeeds
	next       int64    // number of the next part
	last       Position // with all that was added
	noted      note     // as it is on the disk, unless that has failed
	unresolved bool     // parts are missing, and it is not known yet whether their revisions are lost
	synced     mark     // without the entries that a crash would take
	lost       []Loss   // of files that could not be read, until the caller takes them
	grown      bool     // there is another sealed part, of which nobody was told yet

	shown shown
}

// file is the part of [os.File] that a log writes with.
type file interface {
	io.WriteCloser
	Sync() error
	Truncate(size int64) error
}

// mark is a place in the open part.
type mark struct {
	header segment.Header
	size   int64
	last   Position
}

// New returns the journal in a directory, which it does not touch: another Log may still write there. The journal is
// empty until Open. limit bounds the bytes that all parts have together.
func New(dir string, limit int64) *Log {
	return &Log{dir: dir, limit: limit, shown: shown{changed: make(chan struct{})}}
}

// Open makes the directory if it is missing, and repairs the files in it. A part that was not sealed is sealed now. A
// part that cannot be read is set aside, and does not keep the others; [Log.TakeLosses] names it. The directory has no
// other Log that is open. Open may be called again, also after an error.
func (l *Log) Open() error {
	l.mu.Lock()
	defer l.unlock()
	// Nobody else writes here: the disk has nothing that is not known.
	if l.opened {
		return nil
	}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of the journal: %w", err)
	}
	found, err := survey(l.dir)
	if err != nil {
		return fmt.Errorf("open the journal: %w", err)
	}
	l.opened, l.sealed, l.last, l.next = true, found.sealed, found.position(), found.next
	l.noted, l.lost, l.unresolved = found.noted, found.losses, len(found.losses) > 0
	l.grown = true
	return nil
}

// TakeLosses returns the revisions that could not be read when the journal was opened. Another call returns nothing.
func (l *Log) TakeLosses() []Loss {
	l.mu.Lock()
	defer l.mu.Unlock()
	lost := l.lost
	l.lost = nil
	return lost
}

// Position returns how far the journal is, with entries that are not synced yet.
func (l *Log) Position() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// Begin begins a new part of the journal, which is open. The header has the timeline, the member, the term, and, at a
// gap, the reason. At the position of the journal, the rest follows from it; another timeline begins from nothing.
func (l *Log) Begin(h segment.Header) error {
	l.mu.Lock()
	defer l.unlock()
	if !l.opened {
		return errors.New("begin a part of the journal: the journal is not open")
	}
	if err := l.seal(); err != nil {
		return err
	}
	// Parts are sealed each few seconds, whatever their size: the higher levels are made by merges.
	h.Level = segment.Level10s
	if h.Timeline == l.last.Timeline {
		h.Previous, h.PreviousChain = l.last.Revision, l.last.Chain
	}
	h.Chain = h.PreviousChain
	return l.begin(h)
}

// Continue makes the journal go on from a position that is not its own: that of another replica, on the backends.
func (l *Log) Continue(from Position) {
	l.mu.Lock()
	defer l.unlock()
	l.last = from
}

// begin makes the files of a new part. The caller holds the lock, and no part is open.
func (l *Log) begin(h segment.Header) error {
	p := &Part{Number: l.next, Header: h, dir: l.dir}
	f, err := p.create()
	for errors.Is(err, os.ErrExist) { // a file that was not there, or had lost its facts, when the journal was opened
		p.Number++
		f, err = p.create()
	}
	if err != nil {
		return fmt.Errorf("begin a part of the journal: %w", err)
	}
	// The facts come last. A crash between the two leaves entries without facts, which are no part; facts without entries
	// would be the trace of a removal (Part.recover).
	if err := p.writeFacts(); err != nil {
		return errors.Join(fmt.Errorf("begin a part of the journal: %w", err), f.Close(), p.remove())
	}
	l.next = p.Number + 1
	l.open, l.file, l.buffer = p, f, bufio.NewWriterSize(f, bufferSize)
	l.synced = mark{header: h, last: l.last}
	return nil
}

// Append adds an entry to the part that was begun. It is durable after the next Sync. After an error the part is as it
// was at its last Sync, or Open repairs it.
func (l *Log) Append(e segment.Entry) error {
	l.mu.Lock()
	defer l.unlock()
	if l.open == nil {
		return errors.New("add to the journal: no part was begun")
	}
	frame, err := segment.AppendFrame(l.scratch[:0], e)
	if err != nil {
		return err
	}
	if l.scratch = frame; cap(frame) > 4*bufferSize {
		l.scratch = nil // one large revision does not cost its memory for ever
	}
	// A copy, so that an entry which does not follow changes nothing.
	h, before := l.open.Header, l.open.Header.Chain
	if err := h.Add(e); err != nil {
		return fmt.Errorf("add to the journal: %w", err)
	}
	if _, err := l.buffer.Write(frame); err != nil {
		l.failed = err
		return fmt.Errorf("add to the journal: %w", err)
	}
	l.open.Header, l.dirty = h, true
	l.open.Size += int64(len(frame))
	if r, ok := e.(segment.Revision); ok {
		l.last = Position{Timeline: h.Timeline, Revision: r.Main, Chain: h.Chain, Anchor: r.Main, AnchorChain: before}
	}
	return nil
}

// Sync makes all entries durable that were added. After an error it fails until [Log.Abandon]: the system may have
// dropped the bytes that it could not write, so that another attempt would succeed without them.
func (l *Log) Sync() error {
	l.mu.Lock()
	defer l.unlock()
	return l.sync()
}

// sync is Sync under the lock. Abandon goes back to synced, so that is set behind the sync.
func (l *Log) sync() error {
	if l.dirty && l.failed == nil {
		if l.failed = l.buffer.Flush(); l.failed == nil {
			l.failed = l.file.Sync()
		}
	}
	if l.failed != nil {
		return fmt.Errorf("sync the journal: %w", l.failed)
	}
	if !l.dirty {
		return nil
	}
	l.dirty = false
	l.synced = mark{header: l.open.Header, size: l.open.Size, last: l.last}
	return nil
}

// Seal ends the part that is open, if it has a revision; the next entries go into a new one. After an error there may
// be no part, and Append fails until the next Begin.
func (l *Log) Seal() error {
	l.mu.Lock()
	defer l.unlock()
	// Facts alone make no segment (segment.Builder.Seal): they wait for a revision.
	if l.open == nil || l.open.Header.First == 0 {
		return nil
	}
	h := l.open.Header
	if err := l.seal(); err != nil {
		return err
	}
	return l.begin(segment.Header{
		Timeline: h.Timeline, Level: h.Level, Member: h.Member, Term: h.Term,
		Previous: h.Last, PreviousChain: h.Chain, Chain: h.Chain,
	})
}

// seal ends the open part without beginning another one.
func (l *Log) seal() error {
	if l.open == nil {
		return nil
	}
	if err := l.sync(); err != nil {
		return err
	}
	return l.put()
}

// put puts the open part, all of which is synced, behind the sealed ones.
func (l *Log) put() error {
	p := l.open
	// An error of Close loses nothing, because all was synced. The part counts, and the caller hears of it.
	err := l.file.Close()
	l.open, l.file, l.buffer = nil, nil, nil
	if p.Header.First == 0 {
		return errors.Join(err, p.remove())
	}
	l.sealed, l.grown = append(l.sealed, p), true
	l.noted.Position, l.noted.Part = l.last, p.Number
	return errors.Join(err, l.note())
}

// note writes the note. While parts are missed, it goes on to name them.
func (l *Log) note() error {
	switch {
	case l.unresolved:
	case len(l.sealed) > 0:
		l.noted.Oldest = l.sealed[0].Number
	case l.open != nil:
		l.noted.Oldest = l.open.Number
	default:
		l.noted.Oldest = l.next
	}
	if l.noted.Timeline == "" { // no part was sealed yet
		return nil
	}
	return writePosition(l.dir, l.noted)
}

// Resolve notes that nothing more is to be found out of the revisions that were lost. The next Open does not name them,
// unless an older part is still there.
func (l *Log) Resolve() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.unresolved {
		return nil
	}
	l.unresolved = false
	return l.note()
}

// Abandon ends the open part as it was at its last Sync, after an error of the disk.
func (l *Log) Abandon() error {
	l.mu.Lock()
	defer l.unlock()
	if l.open == nil {
		return nil
	}
	l.open.Header, l.open.Size, l.last = l.synced.header, l.synced.size, l.synced.last
	l.dirty, l.failed = false, nil
	// The bytes behind the last sync may be whole or not, in any order of blocks. They must not be read again.
	err := l.file.Truncate(l.synced.size)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cut off what was not synced of the journal: %w", err), l.put())
	}
	return l.put()
}

// Close seals the open part. After an error, the next Open seals the entries that were synced.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.unlock()
	return l.seal()
}
