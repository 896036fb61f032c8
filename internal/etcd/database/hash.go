package database

import (
	"hash/crc32"
	"runtime/debug"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const (
	hashBatch   = 512 // how many keys and values are handed over at a time
	hashBatches = 8   // how many of these the walk may be ahead
)

// hasher computes etcd's hash of all keys and values beside the walk that finds them: that is more than half of the
// work.
type hasher struct {
	next   [][]byte // to be handed over
	todo   chan [][]byte
	used   chan [][]byte // to be filled again
	ended  bool
	result chan struct{} // closed when sum and err are there
	sum    uint32
	err    error
}

// newHasher returns a hasher, which is at work until end is called.
func newHasher() *hasher {
	h := &hasher{
		todo: make(chan [][]byte, hashBatches), used: make(chan [][]byte, hashBatches), result: make(chan struct{}),
	}
	go h.run()
	return h
}

// add hashes b after all that was added before. It must not change.
func (h *hasher) add(b []byte) {
	if h.next = append(h.next, b); len(h.next) < hashBatch {
		return
	}
	h.todo <- h.next
	select {
	case h.next = <-h.used:
	default:
		h.next = make([][]byte, 0, hashBatch)
	}
}

// end returns the hash of all that was added, once nothing of it is read any more. It may be called again.
func (h *hasher) end() (uint32, error) {
	if !h.ended {
		h.ended = true
		h.todo <- h.next
		close(h.todo)
	}
	<-h.result
	return h.sum, h.err
}

func (h *hasher) run() {
	defer close(h.result)
	for batch := range h.todo {
		if h.err == nil {
			h.err = h.hash(batch)
		}
		select {
		case h.used <- batch[:0]:
		default:
		}
	}
}

// hash makes an error of a page that cannot be read from the disk any more, as inspect does.
func (h *hasher) hash(batch [][]byte) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = asError(cause)
		}
	}()
	for _, b := range batch {
		h.sum = crc32.Update(h.sum, castagnoli, b)
	}
	return nil
}
