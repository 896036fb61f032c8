package segment

import (
	"cmp"
	"time"
)

// MaxRevision is the highest revision that an entry may name. etcd counts up to 2^63; this is far below, so that the
// revision behind it is a number as well.
const MaxRevision = 1 << 62

// Entry is one fact of a cluster: a [Revision], [Lease], [Leases], [Compaction], [Watermark] or [Auth].
//
// The time of an entry has whole milliseconds. It is rounded when it is encoded, so that no entry claims more than was
// seen: up for the arrival of a revision, down for a watermark.
type Entry interface{ kind() kind }

// Revision is all that etcd wrote at one main revision.
type Revision struct {
	Main    int64
	Time    time.Time // of its arrival: it was committed then or before
	Records []Record  // at least one, in ascending order of Sub
}

// Record is one entry of etcd's bucket of keys.
type Record struct {
	Sub       int64 // its place within the revision
	Tombstone bool
	// Value is the marshalled mvccpb.KeyValue exactly as etcd stores it; that of a tombstone has the key alone.
	Value []byte
}

// Lease is etcd's answer about one lease.
type Lease struct {
	ID         int64
	GrantedTTL int64 // in seconds; 0 when it is gone
	Revision   int64 // that the store had when etcd answered
	Gone       bool  // it has ended, or never was
}

// Leases is a complete list of the leases that etcd had, those without keys among them. It is written when it has
// changed.
type Leases struct {
	IDs      []int64 // in ascending order as unsigned numbers
	Revision int64   // that the store had when etcd answered
}

// CompareLeases compares ids of leases in the order of [Leases].
func CompareLeases(a, b int64) int { return cmp.Compare(uint64(a), uint64(b)) }

// Compaction is that the history up to a revision was removed. It happened between two observations of the store.
type Compaction struct {
	Revision      int64 // up to which, included
	After, Before int64 // the store's revisions when it had not happened yet, and when it had; After <= Before
}

// Watermark is that all revisions which were committed before a time are in the journal, and the entries before this
// one: a linearizable read that began at the time showed a revision that the journal had then.
type Watermark struct {
	Revision int64
	Time     time.Time
}

// Auth is etcd's counter of the changes of users and roles, and whether they are asked for, when either has changed.
// These have no revisions of their own: after a change, only a new base has them.
type Auth struct {
	AuthRevision uint64
	Revision     int64 // that the store had when etcd answered
	Enabled      bool  // authentication is on; to turn it on does not count as a change
}

// kind is the first byte of an entry. The numbers are part of the format: none is given to anything else later, and one
// that is not known ends the reading, because it might say that something before it does not hold.
type kind byte

const (
	kindRevision kind = 1 + iota
	kindLease
	kindLeases
	kindCompaction
	kindWatermark
	kindAuth
)

func (Revision) kind() kind   { return kindRevision }
func (Lease) kind() kind      { return kindLease }
func (Leases) kind() kind     { return kindLeases }
func (Compaction) kind() kind { return kindCompaction }
func (Watermark) kind() kind  { return kindWatermark }
func (Auth) kind() kind       { return kindAuth }
