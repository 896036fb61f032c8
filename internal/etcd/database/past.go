package database

import (
	"encoding/binary"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// firstRevision is that of an etcd that was never written to.
const firstRevision = 1

// Past is a database as it was at one of its revisions. etcd keeps no history of leases: those in the database are of its
// newest revision.
type Past struct {
	Revision  int64 // the newest at or below the one that was asked for; they differ when nothing was written at that one
	Next      int64 // the next revision above; 0 when there is none
	TotalKeys int64 // that were live
	Newer     int64 // records above the revision

	Leases        []uint64 // that live keys named, each once, in ascending order, whether they are in the database or not
	DroppedLeases int64    // leases in the database that no live key named
	EndedLeases   int64    // leases that live keys named and that are not in the database
	EndedKeys     int64    // the keys that named these
}

// pastScan gathers a [Past] during a scan.
type pastScan struct {
	Past

	revision int64  // that was asked for
	keys     keySet // of the scan: which keys are live
	lent     lent

	ended bool // all records up to the revision were read, and named is complete
	named []namedLease
	next  int // of named, to be compared with the next lease in the database
}

// namedLease is a lease that live keys name.
type namedLease struct {
	id   uint64
	keys int64
}

func newPastScan(dir string, revision int64, keys keySet) (*pastScan, error) {
	l, err := newLent(dir)
	if err != nil {
		return nil, err
	}
	return &pastScan{revision: revision, keys: keys, lent: l}, nil
}

// close gives the memory and disk space back.
func (p *pastScan) close() { p.lent.close() }

// record takes a record into account, in the order of revisions and before the set of live keys does.
func (p *pastScan) record(rev revision, key []byte, lease uint64) error {
	if rev.main > p.revision {
		if p.Newer++; p.Newer == 1 {
			p.Next = rev.main
			p.finish()
		}
		return nil
	}
	p.Revision = rev.main
	return p.lent.record(key, lease)
}

// finish notes what was live at the revision, once all records up to it were read.
func (p *pastScan) finish() {
	if p.ended {
		return
	}
	p.ended, p.TotalKeys = true, p.keys.live()
	all := p.lent.leases()
	slices.Sort(all)
	for _, id := range all {
		if n := len(p.named); n == 0 || p.named[n-1].id != id {
			p.named = append(p.named, namedLease{id: id})
		}
		p.named[len(p.named)-1].keys++
	}
}

// lease reads a lease of the database. They are in ascending order, and all records were read before them.
func (p *pastScan) lease(k, v []byte) error {
	if len(k) != wordSize {
		return unreadable("there is a lease with a malformed id")
	}
	id := binary.BigEndian.Uint64(k)
	if !isLease(v, id) {
		return unreadable("the lease %016x is malformed", id) // etcd panics on it
	}
	p.finish()
	p.endUpTo(id)
	if p.next < len(p.named) && p.named[p.next].id == id {
		p.next++
	} else {
		p.DroppedLeases++
	}
	return nil
}

// endUpTo counts the named leases below an id, which the database does not have.
func (p *pastScan) endUpTo(id uint64) {
	for ; p.next < len(p.named) && p.named[p.next].id < id; p.next++ {
		p.countEnded()
	}
}

func (p *pastScan) countEnded() {
	p.EndedLeases++
	p.EndedKeys += p.named[p.next].keys
}

// isLease reports whether v is a marshalled leasepb.Lease of the id.
func isLease(v []byte, id uint64) bool {
	var found uint64
	for len(v) > 0 {
		number, kind, n := protowire.ConsumeTag(v)
		if n < 0 {
			return false
		}
		v = v[n:]
		n = protowire.ConsumeFieldValue(number, kind, v)
		if n < 0 {
			return false
		}
		if number == 1 && kind == protowire.VarintType {
			found, _ = protowire.ConsumeVarint(v)
		}
		v = v[n:]
	}
	return found == id
}

// end returns the past when the database, of which everything else was read, holds the revision; nil when it does not.
func (p *pastScan) end(r *Result) *Past {
	if p.revision < r.OldestRevision || p.revision > r.Newest() {
		return nil
	}
	p.finish()
	for ; p.next < len(p.named); p.next++ {
		p.countEnded()
	}
	for _, l := range p.named {
		p.Leases = append(p.Leases, l.id)
	}
	// A compaction may have removed the records of its own revision.
	p.Revision = max(p.Revision, r.OldestRevision)
	return &p.Past
}
