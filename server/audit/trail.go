package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// Begun is the code of a record that is written before its call begins.
const Begun = "BEGUN"

// Record is a line of JSON: a call that changes something, or a download, and how it ended.
type Record struct {
	Time      time.Time       `json:"time"` // when it ended; of one that begins, now
	Seconds   float64         `json:"seconds"`
	Operation string          `json:"operation"`
	Kind      string          `json:"kind"` // of the principal
	Principal string          `json:"principal,omitempty"`
	TokenID   string          `json:"token_id,omitempty"`
	Role      string          `json:"role"` // on the cluster; on the first one, when it is about several
	Cluster   string          `json:"cluster,omitempty"`
	Clusters  []string        `json:"clusters,omitempty"` // when it is about several
	Snapshot  string          `json:"snapshot,omitempty"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
	Code      string          `json:"code"` // of the answer, or Begun
	Reason    string          `json:"reason,omitempty"`
	TraceID   string          `json:"trace_id,omitempty"`
	Peer      string          `json:"peer"`
	Via       string          `json:"via"`
}

// Trail is the audit file. Records are only ever added, each with one write. A file that was renamed is left alone, and
// the next record begins a new one: rotation needs no signal.
type Trail struct {
	name string

	mu   sync.Mutex
	file *os.File
	torn bool // the last line has no end: the disk was full
}

// Open opens the audit file; nil when there is none.
func Open(name string) (*Trail, error) {
	if name == "" {
		return nil, nil
	}
	t := &Trail{name: name}
	return t, t.open()
}

// open opens the file, which must not be a link: who can put a link into its directory could have the service write
// elsewhere.
func (t *Trail) open() error {
	f, err := os.OpenFile(t.name, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return fmt.Errorf("open the audit file: %w", err)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return errors.Join(fmt.Errorf("open the audit file: %s is no file", t.name), err, f.Close())
	}
	t.file = f
	return nil
}

// Append adds a record at the end of the file.
func (t *Trail) Append(r *Record) error {
	if t == nil {
		return nil
	}
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write the audit file: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.follow(); err != nil {
		return err
	}
	line = append(line, '\n')
	if t.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := t.file.Write(line)
	if err != nil {
		t.torn = t.torn || n > 0
		return fmt.Errorf("write the audit file: %w", err)
	}
	t.torn = false
	return nil
}

// follow opens the file anew when its name is another file's by now, or nobody's.
func (t *Trail) follow() error {
	if t.file != nil {
		open, err := t.file.Stat()
		named, nerr := os.Lstat(t.name)
		if err == nil && nerr == nil && os.SameFile(open, named) {
			return nil
		}
		_ = t.file.Close() // what was written to it is there
		t.file, t.torn = nil, false
	}
	return t.open()
}

// Close closes the file.
func (t *Trail) Close() error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == nil {
		return nil
	}
	return t.file.Close()
}
