package datadir

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/lease/leasepb"
	"google.golang.org/protobuf/proto"
)

// Past is the revision to which a database is taken back.
type Past struct {
	Revision int64 // the database has all records that were live at it
	// Leases are those that keys named at the revision, in ascending order of the ids as unsigned numbers.
	Leases []uint64
	Ended  []Lease // those of them that are not in the database, and are to be made anew
}

// Lease is a lease with its time to live in seconds.
type Lease struct {
	ID  uint64
	TTL int64
}

// MakeAt makes a data directory as [Make] does, after the database was taken back to one of its revisions. The file
// must have been inspected: the database holds the revision, and its leases are well-formed.
func MakeAt(cfg snapshot.RestoreConfig, past Past, emptied ...string) error {
	return makeFrom(cfg, emptied, past.apply)
}

// batch is how many entries of a database are changed in one transaction. bbolt holds the pages that a transaction
// changes in memory.
const batch = 20_000

// apply takes a database back. Nothing is durable before the next transaction of the caller: a crash leaves a file that
// nobody uses.
func (p *Past) apply(db *bolt.DB) error {
	db.NoSync, db.NoFreelistSync = true, true // the list of free pages would be written in each transaction
	defer func() { db.NoSync, db.NoFreelistSync = false, false }()
	for done := false; !done; {
		err := db.Update(func(tx *bolt.Tx) (err error) {
			done, err = p.removeNewer(tx.Bucket([]byte("key")))
			return err
		})
		if err != nil {
			return fmt.Errorf("remove the records above revision %d: %w", p.Revision, err)
		}
	}
	if err := p.changeLeases(db); err != nil {
		return fmt.Errorf("change the leases: %w", err)
	}
	return nil
}

// removeNewer removes the last records above the revision, and returns whether none is left.
func (p *Past) removeNewer(b *bolt.Bucket) (done bool, err error) {
	if b == nil {
		return false, errors.New("it has no bucket of keys")
	}
	first := binary.BigEndian.AppendUint64(nil, uint64(p.Revision)+1)
	var newer [][]byte
	c := b.Cursor()
	for k, _ := c.Last(); k != nil && len(newer) < batch && bytes.Compare(k, first) >= 0; k, _ = c.Prev() {
		newer = append(newer, bytes.Clone(k))
	}
	for _, k := range newer {
		if err := b.Delete(k); err != nil {
			return false, err
		}
	}
	return len(newer) < batch, nil
}

// changeLeases leaves the leases that keys name, with their whole time to live: the rest that etcd noted last is of a
// later time than the revision.
//
// A lease without keys is removed, though it may have been granted before the revision. Its holder is told so when it
// keeps the lease alive, and makes a new one. If it stayed, its holder would not learn that the keys are gone that it
// put after the revision.
func (p *Past) changeLeases(db *bolt.DB) error {
	var next []byte // where the next transaction begins
	for begin := true; begin || next != nil; begin = false {
		err := db.Update(func(tx *bolt.Tx) (err error) {
			next, err = p.changeSome(tx.Bucket([]byte("lease")), next)
			return err
		})
		if err != nil {
			return err
		}
	}
	for some := range slices.Chunk(p.Ended, batch) {
		if err := db.Update(func(tx *bolt.Tx) error { return add(tx, some) }); err != nil {
			return err
		}
	}
	return nil
}

// changeSome changes a number of leases, and returns where the next ones begin; nil when there are none.
func (p *Past) changeSome(b *bolt.Bucket, from []byte) (next []byte, err error) {
	if b == nil {
		return nil, nil // a database that no etcd has started on yet
	}
	type change struct{ key, value []byte }
	var changes []change
	c, seen := b.Cursor(), 0
	for k, v := c.Seek(from); k != nil; k, v = c.Next() {
		if seen++; seen > batch {
			next = bytes.Clone(k)
			break
		}
		value, err := p.leaseAt(k, v)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(value, v) {
			changes = append(changes, change{bytes.Clone(k), value})
		}
	}
	for _, c := range changes {
		if c.value == nil {
			err = b.Delete(c.key)
		} else {
			err = b.Put(c.key, c.value)
		}
		if err != nil {
			return nil, err
		}
	}
	return next, nil
}

// leaseAt returns the value of a lease at the revision; nil when no key named it.
func (p *Past) leaseAt(k, v []byte) ([]byte, error) {
	if len(k) != 8 {
		return nil, fmt.Errorf("the id of a lease has %d bytes", len(k))
	}
	id := binary.BigEndian.Uint64(k)
	if _, named := slices.BinarySearch(p.Leases, id); !named {
		return nil, nil
	}
	var l leasepb.Lease
	if err := proto.Unmarshal(v, &l); err != nil {
		return nil, fmt.Errorf("lease %016x: %w", id, err)
	}
	if l.RemainingTTL == 0 {
		return v, nil
	}
	l.RemainingTTL = 0
	return proto.Marshal(&l)
}

// add adds leases.
func add(tx *bolt.Tx, leases []Lease) error {
	b, err := tx.CreateBucketIfNotExists([]byte("lease"))
	if err != nil {
		return err
	}
	for _, l := range leases {
		v, err := proto.Marshal(&leasepb.Lease{ID: int64(l.ID), TTL: l.TTL})
		if err != nil {
			return err
		}
		if err := b.Put(binary.BigEndian.AppendUint64(nil, l.ID), v); err != nil {
			return err
		}
	}
	return nil
}
