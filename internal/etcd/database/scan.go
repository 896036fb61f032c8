package database

import (
	"context"
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"
)

// What etcd keeps in a database, as far as it is read here: the bucket "key" has a record for each revision, the bucket
// "lease" the leases, the bucket "meta" a few facts. They are read in this order, that of their names.
const (
	keyBucket   = "key"
	leaseBucket = "lease"
	metaBucket  = "meta"
	alarmBucket = "alarm"

	revisionSize  = 17 // main u64, '_', sub u64; big-endian
	tombstoneMark = 't'

	// maxRevision leaves etcd room to count on: it does not look whether a revision is the last that 63 bits can hold.
	maxRevision = 1 << 62
)

// ctxPeriod is after how many elements the context is looked at.
const ctxPeriod = 64

// scan is one pass over a database.
type scan struct {
	ctx    context.Context // a scan lives for one call
	db     *btree
	keys   keySet
	sum    *hasher
	past   *pastScan // nil when no past is wanted
	result Result

	elements int
	last     revision
}

type revision struct{ main, sub int64 }

// run reads all buckets.
func (s *scan) run() error {
	found := map[string]bool{}
	err := s.db.walk(s.db.root, nil, nil, 0, func(e element) error {
		if !e.bucket {
			return unreadable("there is a key outside of all buckets")
		}
		if len(e.key) <= len(metaBucket) {
			found[string(e.key)] = true
		}
		s.sum.add(e.key)
		return s.db.walkBucket(e.value, func(record element) error { return s.visit(e.key, record) })
	})
	if err != nil {
		return err
	}
	if !found[keyBucket] || !found[metaBucket] {
		return unreadable("it has no bucket %q or no bucket %q: it is not etcd's", keyBucket, metaBucket)
	}
	s.result.Revision = s.last.main
	s.result.OldestRevision = max(s.result.OldestRevision, firstRevision)
	s.result.TotalKeys = s.keys.live()
	if s.past != nil {
		s.result.Past = s.past.end(&s.result)
	}
	if err := s.db.checkAllPages(); err != nil {
		return err
	}
	s.result.Hash, err = s.sum.end()
	return err
}

// visit reads one key of a bucket.
func (s *scan) visit(bucket []byte, e element) error {
	if s.elements++; s.elements%ctxPeriod == 0 && s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	if e.bucket {
		return unreadable("there is a bucket inside a bucket")
	}
	s.sum.add(e.both)
	switch string(bucket) {
	case keyBucket:
		return s.record(e.key, e.value)
	case alarmBucket:
		return s.alarm(e.key)
	}
	read := readers[string(bucket)]
	if read == nil {
		return nil
	}
	if err := read(&s.result, e.key, e.value); err != nil {
		return unreadable("bucket %q: %v", bucket, err)
	}
	if s.past != nil && string(bucket) == leaseBucket {
		return s.past.lease(e.key, e.value)
	}
	return nil
}

// record reads a record of the bucket "key": a put or a deletion at a revision.
func (s *scan) record(k, v []byte) error {
	rev, tombstone, ok := parseRevision(k)
	if !ok {
		return unreadable("a record after revision %d has a malformed revision", s.last.main)
	}
	if s.last != (revision{}) && rev == s.last {
		return unreadable("there are two records of revision %d/%d", rev.main, rev.sub)
	}
	s.last = rev
	key, lease, ok := parseRecord(v)
	if !ok {
		return unreadable("the record of revision %d/%d is malformed", rev.main, rev.sub)
	}
	if s.past != nil {
		if err := s.past.record(rev, key, lease); err != nil {
			return err
		}
	}
	return s.keys.record(key, !tombstone)
}

// parseRevision reads a revision as etcd writes it. The order of the bytes is the order of the revisions.
func parseRevision(k []byte) (rev revision, tombstone, ok bool) {
	if len(k) != revisionSize && len(k) != revisionSize+1 || k[8] != '_' {
		return revision{}, false, false
	}
	rev = revision{int64(binary.BigEndian.Uint64(k)), int64(binary.BigEndian.Uint64(k[9:]))}
	tombstone = len(k) > revisionSize && k[revisionSize] == tombstoneMark
	return rev, tombstone, rev.main >= 0 && rev.main <= maxRevision && rev.sub >= 0
}

// recordFields are the types of the fields of mvccpb.KeyValue: key, create_revision, mod_revision, version, value,
// lease. An etcd below 3.7 ends when a field has another one.
var recordFields = [...]protowire.Type{
	1: protowire.BytesType, 2: protowire.VarintType, 3: protowire.VarintType, 4: protowire.VarintType,
	5: protowire.BytesType, 6: protowire.VarintType,
}

// parseRecord returns the key and the lease of a marshalled mvccpb.KeyValue without unmarshalling it. The key is nil
// when it has none: restoring with a bumped revision makes such a record, and etcdutl counts it as a key.
func parseRecord(v []byte) (key []byte, lease uint64, ok bool) {
	for len(v) > 0 {
		number, kind, n := protowire.ConsumeTag(v)
		if n < 0 {
			return nil, 0, false
		}
		v = v[n:]
		n = protowire.ConsumeFieldValue(number, kind, v)
		if n < 0 || int(number) < len(recordFields) && kind != recordFields[number] {
			return nil, 0, false
		}
		switch number {
		case 1:
			key, _ = protowire.ConsumeBytes(v)
		case 6:
			lease, _ = protowire.ConsumeVarint(v)
		}
		v = v[n:]
	}
	return key, lease, true
}
