package database

import (
	"fmt"
	"hash/maphash"
	"os"
	"syscall"
)

const (
	slotSize = 16      // two words of hash
	minSlots = 1 << 12 // what the smallest table has

	// The lowest bits of a slot's second word are not of the hash.
	slotUsed = 1
	slotLive = 2
	slotBits = slotUsed | slotLive
)

// keySet knows which keys are live. It keeps 126 bits of a hash of each, in a hash table with open addressing that lies
// in a mapped file without a name: the kernel can write it to the disk when memory is short. That two keys share a hash
// is less likely than a wrong answer of the machine.
type keySet struct {
	dir   string
	seeds [2]maphash.Seed
	table []byte // mapped; a power of two of slots
	used  int    // slots with a key, live or not
	lives int    // slots with a live key
}

func newKeySet(dir string) (*keySet, error) {
	table, err := mapTable(dir, minSlots)
	if err != nil {
		return nil, err
	}
	return &keySet{dir: dir, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, table: table}, nil
}

// live returns how many keys are live.
func (s *keySet) live() int64 { return int64(s.lives) }

// record says that a key was put, or deleted. The last word on a key holds.
func (s *keySet) record(key []byte, live bool) error {
	first, second := maphash.Bytes(s.seeds[0], key), maphash.Bytes(s.seeds[1], key)&^slotBits|slotUsed
	slot := s.find(first, second)
	if order.Uint64(slot[8:]) == 0 {
		if !live {
			return nil
		}
		if s.used >= s.slots()*3/4 {
			if err := s.grow(); err != nil {
				return err
			}
			slot = s.find(first, second)
		}
		order.PutUint64(slot, first)
		s.used++
	}
	s.setLive(slot, second, live)
	return nil
}

func (s *keySet) slots() int { return len(s.table) / slotSize }

// find returns the slot of a hash, or the free one where it belongs.
func (s *keySet) find(first, second uint64) []byte {
	mask := uint64(s.slots() - 1)
	for i := first & mask; ; i = (i + 1) & mask {
		slot := s.table[i*slotSize:][:slotSize]
		word := order.Uint64(slot[8:])
		if word == 0 || word&^slotLive == second && order.Uint64(slot) == first {
			return slot
		}
	}
}

func (s *keySet) setLive(slot []byte, second uint64, live bool) {
	if order.Uint64(slot[8:])&slotLive != 0 {
		s.lives--
	}
	if live {
		second |= slotLive
		s.lives++
	}
	order.PutUint64(slot[8:], second)
}

// grow moves the live keys into a new table: twice as large, or as large when the deleted ones were many.
func (s *keySet) grow() error {
	slots := s.slots()
	if s.lives > slots*3/8 {
		slots *= 2
	}
	table, err := mapTable(s.dir, slots)
	if err != nil {
		return err
	}
	old := s.table
	defer func() { _ = syscall.Munmap(old) }()
	s.table, s.used = table, s.lives
	for at := 0; at < len(old); at += slotSize {
		first, second := order.Uint64(old[at:]), order.Uint64(old[at+8:])
		if second&slotLive == 0 {
			continue
		}
		slot := s.find(first, second&^slotLive)
		order.PutUint64(slot, first)
		order.PutUint64(slot[8:], second)
	}
	return nil
}

// close gives the table's memory and disk space back.
func (s *keySet) close() { _ = syscall.Munmap(s.table) }

// mapTable maps a new file of zeros that has no name any more. The zeros are written: a disk that is full is an error
// here, where a hole in the file would be a fault later.
func mapTable(dir string, slots int) ([]byte, error) {
	f, err := os.CreateTemp(dir, "keys-*.tmp")
	if err != nil {
		return nil, fmt.Errorf("make the table of keys: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := os.Remove(f.Name()); err != nil {
		return nil, fmt.Errorf("make the table of keys: %w", err)
	}
	zeros := make([]byte, minSlots*slotSize)
	for range slots / minSlots {
		if _, err := f.Write(zeros); err != nil {
			return nil, fmt.Errorf("make the table of keys: %w", err)
		}
	}
	table, err := syscall.Mmap(int(f.Fd()), 0, slots*slotSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the table of keys: %w", err)
	}
	return table, nil
}
