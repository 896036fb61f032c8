package database

import (
	"fmt"
	"hash/maphash"
	"os"
	"syscall"
)

const (
	minSlots = 1 << 12 // the smallest table

	wordSize     = 8
	keySlotSize  = 2 * wordSize // two words of hash
	lentSlotSize = 4 * wordSize // and two leases
	leaseAt      = 2 * wordSize // of the key
	laterAt      = 3 * wordSize // that the key was given after it

	// The lowest bits of a slot's second word are not of the hash.
	slotUsed = 1
	slotLive = 2
	slotBits = slotUsed | slotLive
)

// table is a set of keys. It keeps 126 bits of a hash of each, in a hash table with open addressing that lies in a
// mapped file without a name: the kernel can write it to the disk when memory is short. That two keys share a hash is
// less likely than a wrong answer of the machine.
type table struct {
	dir      tempDir
	slotSize int
	seeds    [2]maphash.Seed
	slots    []byte // mapped; a power of two of slots
	used     int    // slots with a key, live or not
	lives    int    // slots with a live key
}

func newTable(dir tempDir, slotSize int) (*table, error) {
	slots, err := mapTable(dir, minSlots*slotSize)
	if err != nil {
		return nil, err
	}
	seeds := [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	return &table{dir: dir, slotSize: slotSize, seeds: seeds, slots: slots}, nil
}

// set puts a key into the set, or takes it out, and returns its slot; nil when it was out already.
func (t *table) set(key []byte, live bool) (slot []byte, err error) {
	first, second := t.hash(key)
	slot = t.find(first, second)
	if order.Uint64(slot[wordSize:]) == 0 {
		if !live {
			return nil, nil
		}
		if t.used >= t.count()*3/4 {
			if err := t.grow(); err != nil {
				return nil, err
			}
			slot = t.find(first, second)
		}
		order.PutUint64(slot, first)
		t.used++
	}
	t.setLive(slot, second, live)
	return slot, nil
}

func (t *table) hash(key []byte) (first, second uint64) {
	return maphash.Bytes(t.seeds[0], key), maphash.Bytes(t.seeds[1], key)&^slotBits | slotUsed
}

// count returns how many slots there are.
func (t *table) count() int { return len(t.slots) / t.slotSize }

// find returns the slot of a hash, or the free one where it belongs.
func (t *table) find(first, second uint64) []byte {
	mask := uint64(t.count() - 1)
	size := uint64(t.slotSize)
	for i := first & mask; ; i = (i + 1) & mask {
		slot := t.slots[i*size:][:size]
		word := order.Uint64(slot[wordSize:])
		if word == 0 || word&^slotLive == second && order.Uint64(slot) == first {
			return slot
		}
	}
}

func (t *table) setLive(slot []byte, second uint64, live bool) {
	if order.Uint64(slot[wordSize:])&slotLive != 0 {
		t.lives--
	}
	if live {
		second |= slotLive
		t.lives++
	}
	order.PutUint64(slot[wordSize:], second)
}

// grow moves the live keys into new slots: twice as many, or as many when the deleted ones were many.
func (t *table) grow() error {
	count := t.count()
	if t.lives > count*3/8 {
		count *= 2
	}
	slots, err := mapTable(t.dir, count*t.slotSize)
	if err != nil {
		return err
	}
	old := t.slots
	defer func() { _ = syscall.Munmap(old) }()
	t.slots, t.used = slots, t.lives
	for at := 0; at < len(old); at += t.slotSize {
		from := old[at:][:t.slotSize]
		if second := order.Uint64(from[wordSize:]); second&slotLive != 0 {
			copy(t.find(order.Uint64(from), second&^slotLive), from)
		}
	}
	return nil
}

// live calls visit with the slots of the live keys, in no order.
func (t *table) live(visit func(slot []byte)) {
	for at := 0; at < len(t.slots); at += t.slotSize {
		if slot := t.slots[at:][:t.slotSize]; order.Uint64(slot[wordSize:])&slotLive != 0 {
			visit(slot)
		}
	}
}

// close gives the table's memory and disk space back.
func (t *table) close() { _ = syscall.Munmap(t.slots) }

// keySet knows which keys are live.
type keySet struct{ *table }

func newKeySet(dir tempDir) (keySet, error) {
	t, err := newTable(dir, keySlotSize)
	return keySet{t}, err
}

// live returns how many keys are live.
func (s keySet) live() int64 { return int64(s.lives) }

// record says that a key was put, or deleted. The last word on a key holds.
func (s keySet) record(key []byte, live bool) error {
	_, err := s.set(key, live)
	return err
}

// lent knows which keys have a lease, which one, and which one they were given later.
type lent struct{ *table }

// lease is the one of a key, and the one that the key was given last after it; 0 when there is none.
type lease struct{ id, later uint64 }

func newLent(dir tempDir) (lent, error) {
	t, err := newTable(dir, lentSlotSize)
	return lent{t}, err
}

// record says that a key was put with a lease; with 0, that it was put without one, or deleted.
func (l lent) record(key []byte, lease uint64) error {
	slot, err := l.set(key, lease != 0)
	if err == nil && slot != nil {
		order.PutUint64(slot[leaseAt:], lease)
	}
	return err
}

// again says that a key was given another lease later, which does not count any more but for its time to live.
func (l lent) again(key []byte, lease uint64) {
	first, second := l.hash(key)
	if slot := l.find(first, second); order.Uint64(slot[wordSize:])&slotLive != 0 {
		order.PutUint64(slot[laterAt:], lease)
	}
}

// leases returns the leases of each key that has one, in no order.
func (l lent) leases() []lease {
	all := make([]lease, 0, l.lives)
	l.live(func(slot []byte) {
		all = append(all, lease{order.Uint64(slot[leaseAt:]), order.Uint64(slot[laterAt:])})
	})
	return all
}

// tempDir is a directory for tables, with [Options.Room].
type tempDir struct {
	path string
	room func(bytes int64) error
}

// mapTable maps a new file of zeros that has no name any more; the size is a multiple of the smallest table's. The
// zeros are written: a disk that is full is an error here, where a hole in the file would be a fault later.
func mapTable(dir tempDir, size int) ([]byte, error) {
	if dir.room != nil {
		if err := dir.room(int64(size)); err != nil {
			return nil, err
		}
	}
	f, err := os.CreateTemp(dir.path, "keys-*.tmp")
	if err != nil {
		return nil, fmt.Errorf("make the table of keys: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := os.Remove(f.Name()); err != nil {
		return nil, fmt.Errorf("make the table of keys: %w", err)
	}
	zeros := make([]byte, minSlots*keySlotSize)
	for range size / len(zeros) {
		if _, err := f.Write(zeros); err != nil {
			return nil, fmt.Errorf("make the table of keys: %w", err)
		}
	}
	table, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the table of keys: %w", err)
	}
	return table, nil
}
