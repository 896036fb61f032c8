package audit

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
)

const (
	maxObject  = 1 << 20 // bytes of records in one object
	maxWaiting = 8 << 20 // bytes of records that wait to be stored; further ones are lost

	firstPause   = time.Second
	longestPause = 10 * time.Second // between attempts to store an object
	storeTimeout = 10 * time.Second // of a call that must be recorded before it begins
)

// Store keeps objects. None is ever written again.
type Store interface {
	// Create stores data under a key that no object has. It ends by itself when the store does not answer.
	Create(ctx context.Context, key string, data []byte) error
}

// ObjectsConfig is the configuration of [Objects].
type ObjectsConfig struct {
	Store Store
	Node  string          // becomes part of the keys
	Fail  func(err error) // optional; told of each attempt that has failed, and of what is lost in the end
}

// Objects adds records to a store. An object holds the records that came while the one before it was stored, as lines
// of JSON in their order; it is stored once, and never written again. What cannot be stored is tried again until it
// can, or until the process ends.
//
// The key of an object has its time, the node, the process, and its number among those of the process: one that
// somebody has removed leaves a gap.
type Objects struct {
	cfg     ObjectsConfig
	process string // of which the objects are, in their keys
	count   int    // of the objects that run has made

	mu     sync.Mutex
	lines  []*line // that are not stored yet, the oldest first
	bytes  int     // of them
	closed bool
	wake   chan struct{} // has one when there is something to do
	last   error         // of the last attempt; nil when it went well

	cancel context.CancelFunc
	done   chan struct{} // closed when nothing is stored any more
}

// line is a record as it is stored.
type line struct {
	text    []byte
	outcome chan error // has that of the first attempt to store it
}

// NewObjects returns the records of a store; nil without a store. Start begins to store them.
func NewObjects(cfg ObjectsConfig) *Objects {
	if cfg.Store == nil {
		return nil
	}
	if cfg.Fail == nil {
		cfg.Fail = func(error) {}
	}
	return &Objects{cfg: cfg, process: rand.Text()[:10], wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// Start stores records until Close.
func (o *Objects) Start(ctx context.Context) {
	if o == nil {
		return
	}
	ctx, o.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go o.run(ctx)
}

// Append adds a record, and does not wait until it is stored.
func (o *Objects) Append(r *Record) error {
	if o == nil {
		return nil
	}
	_, err := o.add(r)
	return err
}

// Store adds a record, and waits until it is stored. A record that was not is stored later, if that is possible then.
func (o *Objects) Store(ctx context.Context, r *Record) error {
	if o == nil {
		return nil
	}
	l, err := o.add(r)
	if err != nil {
		return err
	}
	late := time.NewTimer(storeTimeout)
	defer late.Stop()
	select {
	case err = <-l.outcome:
		if err == nil {
			return nil
		}
	case <-late.C:
		o.mu.Lock()
		err = o.last
		o.mu.Unlock()
		if err == nil {
			err = fmt.Errorf("it takes more than %v", storeTimeout)
		}
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return fmt.Errorf("store an audit record: %w", err)
}

// add lets a record wait.
func (o *Objects) add(r *Record) (*line, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("store an audit record: %w", err)
	}
	l := &line{text: append(text, '\n'), outcome: make(chan error, 1)}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return nil, errors.New("store an audit record: the service is stopping")
	case o.bytes+len(l.text) > maxWaiting:
		err := fmt.Errorf("store an audit record: %d records wait to be stored already", len(o.lines))
		return nil, errors.Join(err, o.last)
	}
	o.lines = append(o.lines, l)
	o.bytes += len(l.text)
	o.ring()
	return l, nil
}

// ring says that there is something to do. o.mu is held.
func (o *Objects) ring() {
	select {
	case o.wake <- struct{}{}:
	default: // it is known
	}
}

// run stores what waits, object by object.
func (o *Objects) run(ctx context.Context) {
	defer close(o.done)
	for {
		batch, closed := o.batch()
		switch {
		case len(batch) > 0:
			if !o.put(ctx, batch) {
				return
			}
			continue
		case closed:
			return
		}
		select {
		case <-o.wake:
		case <-ctx.Done():
			return
		}
	}
}

// batch returns the records of the next object. They wait until they are stored.
func (o *Objects) batch() (lines []*line, closed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	bytes := 0
	for i, l := range o.lines {
		if bytes += len(l.text); bytes > maxObject && i > 0 {
			return o.lines[:i:i], o.closed
		}
	}
	return o.lines[:len(o.lines):len(o.lines)], o.closed
}

// put stores an object, in as many attempts as it takes. It reports false when ctx has ended before.
func (o *Objects) put(ctx context.Context, batch []*line) bool {
	var data []byte
	for _, l := range batch {
		data = append(data, l.text...)
	}
	o.count++
	now := time.Now().UTC().Format("2006-01-02/150405.000000")
	key := fmt.Sprintf("%s-%s-%s-%06d.jsonl", now, o.cfg.Node, o.process, o.count)
	for attempt := 1; ; attempt++ {
		err := o.cfg.Store.Create(ctx, key, data)
		o.mu.Lock()
		o.last = err
		o.mu.Unlock()
		if err == nil {
			o.stored(batch)
			return true
		}
		for _, l := range batch {
			l.tell(err)
		}
		if ctx.Err() != nil {
			return false
		}
		o.cfg.Fail(fmt.Errorf("store %d audit records: %w", len(batch), err))
		if backoff.Wait(ctx, backoff.Delay(firstPause, longestPause, attempt)) != nil {
			return false
		}
	}
}

// stored takes the first records out of those that wait.
func (o *Objects) stored(batch []*line) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lines = o.lines[len(batch):]
	for _, l := range batch {
		o.bytes -= len(l.text)
		l.tell(nil)
	}
}

// tell tells the call that may wait for the record how an attempt went.
func (l *line) tell(err error) {
	select {
	case l.outcome <- err:
	default: // it was told of the first one
	}
}

// Close stores what waits, as long as ctx lasts. The error says how many records are lost.
func (o *Objects) Close(ctx context.Context) error {
	if o == nil || o.cancel == nil {
		return nil
	}
	o.mu.Lock()
	o.closed = true
	o.ring()
	o.mu.Unlock()
	select {
	case <-o.done:
	case <-ctx.Done():
	}
	o.cancel()
	<-o.done
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.lines) == 0 {
		return nil
	}
	err := fmt.Errorf("%d audit records were not stored; they are in the log: %w", len(o.lines), o.last)
	o.cfg.Fail(err)
	return err
}
