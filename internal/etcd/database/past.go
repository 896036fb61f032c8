package database

import (
	"cmp"
	"encoding/binary"
	"slices"

	"go.etcd.io/etcd/server/v3/lease/leasepb"
	"google.golang.org/protobuf/proto"
)

// firstRevision is that of an etcd that was never written to.
const firstRevision = 1

// Past is a database as it was at one of its revisions. etcd keeps no history of leases: those in the database are of
// its newest revision.
type Past struct {
	Revision  int64 // the newest at or below the one that was asked for; they differ when nothing was written at that one
	Next      int64 // the next revision above; 0 when there is none
	TotalKeys int64 // that were live
	Newer     int64 // records above the revision

	Leases  []uint64 // that live keys named, in ascending order, whether they are in the database or not
	Ended   []Ended  // those of them that are not in the database, in the same order
	Dropped int64    // leases in the database that no live key named
}

// Ended is a lease that is not in the database any more.
type Ended struct {
	ID   uint64
	Keys int64 // that named it

	// TTL is the time to live, in seconds, of a lease that one of these keys was given later and that is in the database:
	// whoever holds such a key mostly takes the same. 0 when there is none. The lease's own is lost.
	TTL int64
}

// pastScan gathers a [Past] during a scan.
type pastScan struct {
	Past

	revision int64  // that was asked for
	keys     keySet // of the scan: which keys are live
	lent     lent

	gathered bool    // all records were read, and the rest is set
	named    []Ended // all leases that live keys named; without keys when the database has it
	later    []later // in the order of the ids
	isNamed  int     // of named, to be compared with the next lease in the database
	isLater  int     // of later, likewise
}

// later is a lease that a key was given which had named another one.
type later struct {
	id    uint64
	named int // the index of the other one
}

func newPastScan(dir tempDir, revision int64, keys keySet) (*pastScan, error) {
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
	if rev.main <= p.revision {
		p.Revision = rev.main
		return p.lent.record(key, lease)
	}
	if p.Newer++; p.Newer == 1 {
		p.Next, p.TotalKeys = rev.main, p.keys.live()
	}
	if lease != 0 {
		p.lent.again(key, lease)
	}
	return nil
}

// gather notes which leases live keys named, once all records were read.
func (p *pastScan) gather() {
	if p.gathered {
		return
	}
	p.gathered = true
	if p.Newer == 0 {
		p.TotalKeys = p.keys.live()
	}
	all := p.lent.leases()
	slices.SortFunc(all, func(a, b lease) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.later, b.later))
	})
	for i, l := range all {
		if i == 0 || all[i-1].id != l.id {
			p.named = append(p.named, Ended{ID: l.id})
			p.Leases = append(p.Leases, l.id)
		}
		last := len(p.named) - 1
		p.named[last].Keys++
		if l.later != 0 && (i == 0 || all[i-1] != l) {
			p.later = append(p.later, later{l.later, last})
		}
	}
	slices.SortFunc(p.later, func(a, b later) int { return cmp.Compare(a.id, b.id) })
}

// lease reads a lease of the database, whose id has eight bytes. They are in ascending order, and all records were read
// before them.
func (p *pastScan) lease(k, v []byte) error {
	id := binary.BigEndian.Uint64(k)
	var l leasepb.Lease
	if err := proto.Unmarshal(v, &l); err != nil || uint64(l.ID) != id {
		return unreadable("the lease %016x cannot be decoded, or has another id inside", id)
	}
	p.gather()
	for p.isNamed < len(p.named) && p.named[p.isNamed].ID < id {
		p.isNamed++
	}
	if p.isNamed < len(p.named) && p.named[p.isNamed].ID == id {
		p.named[p.isNamed].Keys = 0 // it has not ended
		p.isNamed++
	} else {
		p.Dropped++
	}
	for ; p.isLater < len(p.later) && p.later[p.isLater].id <= id; p.isLater++ {
		if later := p.later[p.isLater]; later.id == id {
			p.named[later.named].TTL = max(p.named[later.named].TTL, l.TTL)
		}
	}
	return nil
}

// end returns the past when the database, of which everything else was read, holds the revision; nil when it does not.
func (p *pastScan) end(r *Result) *Past {
	if p.revision < r.OldestRevision || p.revision > r.Newest() {
		return nil
	}
	p.gather()
	for _, l := range p.named {
		if l.Keys > 0 {
			p.Ended = append(p.Ended, l)
		}
	}
	// A compaction may have removed the records of its own revision.
	p.Revision = max(p.Revision, r.OldestRevision)
	return &p.Past
}
