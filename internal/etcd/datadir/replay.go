package datadir

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/lease/leasepb"
	"google.golang.org/protobuf/proto"
)

// ErrDiffers: a database and what was to be compared with it are of different histories.
var ErrDiffers = errors.New("the database has another history")

// Record is one entry of the bucket of keys.
type Record struct {
	Sub       int64 // its place within the revision
	Tombstone bool
	Value     []byte // as etcd stores it
}

// batchSize is how many bytes of records are added in one transaction. bbolt holds them in memory.
const batchSize = 4 << 20

// Replay adds the records of later revisions to a database. The file must have been inspected. Nothing is durable
// before [MakeAt]: a crash leaves a file that nobody uses.
type Replay struct {
	db     *bolt.DB
	tx     *bolt.Tx // of the batch; nil before its first record
	keys   *bolt.Bucket
	size   int   // of the batch
	oldest int64 // the revision of the last compaction: of those before, not all records are there

	gaps   []gap             // that were crossed
	behind map[string]*trail // the keys of the records that were added behind the first one
}

// OpenReplay opens a database of which so much is mapped at first. The caller closes it.
func OpenReplay(file string, oldest int64, mapSize uint64) (*Replay, error) {
	if err := cutChecksum(file); err != nil {
		return nil, err
	}
	db, err := open(file, mapSize)
	if err != nil {
		return nil, err
	}
	db.NoSync, db.NoFreelistSync = true, true // the list of free pages would be written in each transaction
	return &Replay{db: db, oldest: oldest}, nil
}

// begin begins a batch, unless there is one.
func (r *Replay) begin() error {
	if r.tx != nil {
		return nil
	}
	tx, err := r.db.Begin(true)
	if err != nil {
		return err
	}
	keys := tx.Bucket([]byte("key"))
	if keys == nil {
		return errors.Join(errors.New("it has no bucket of keys"), tx.Rollback())
	}
	keys.FillPercent = 0.9 // as etcd has it: records are added at the end
	r.tx, r.keys = tx, keys
	return nil
}

// commit ends a batch.
func (r *Replay) commit() error {
	if r.tx == nil {
		return nil
	}
	err := r.tx.Commit()
	r.tx, r.keys, r.size = nil, nil, 0
	return err
}

// Add adds the records of the next revision.
func (r *Replay) Add(main int64, records []Record) error {
	if err := r.begin(); err != nil {
		return fmt.Errorf("add revision %d: %w", main, err)
	}
	for _, rec := range records {
		if err := r.keys.Put(bucketKey(main, rec), rec.Value); err != nil {
			return fmt.Errorf("add revision %d: %w", main, err)
		}
		if err := r.note(rec.Value); err != nil {
			return fmt.Errorf("add revision %d: %w", main, err)
		}
		r.size += len(rec.Value)
	}
	if r.size < batchSize {
		return nil
	}
	if err := r.commit(); err != nil {
		return fmt.Errorf("add revision %d: %w", main, err)
	}
	return nil
}

// Holds returns an error that wraps [ErrDiffers] when the database has other records of a revision that it should have.
// Of a revision up to the last compaction, records may be missing: those of keys that were written again.
func (r *Replay) Holds(main int64, records []Record) error {
	if err := r.begin(); err != nil {
		return fmt.Errorf("read revision %d: %w", main, err)
	}
	return holds(r.keys, r.oldest, main, records)
}

// Compare lets revisions be compared with a database that was inspected, as [Replay.Holds] does. It is not changed, but
// for the checksum behind it, which is cut off.
func Compare(file string, oldest int64, compare func(holds func(main int64, records []Record) error) error) error {
	return view(file, func(tx *bolt.Tx) error {
		keys := tx.Bucket([]byte("key"))
		if keys == nil {
			return errors.New("it has no bucket of keys")
		}
		return compare(func(main int64, records []Record) error { return holds(keys, oldest, main, records) })
	})
}

func holds(keys *bolt.Bucket, oldest, main int64, records []Record) error {
	there := 0
	c, first := keys.Cursor(), binary.BigEndian.AppendUint64(nil, uint64(main))
	for k, _ := c.Seek(first); bytes.HasPrefix(k, first); k, _ = c.Next() {
		there++
	}
	same := 0
	for _, rec := range records {
		switch v := keys.Get(bucketKey(main, rec)); {
		case v == nil:
		case bytes.Equal(v, rec.Value):
			same++
		default:
			return fmt.Errorf("%w: record %d of revision %d is another one", ErrDiffers, rec.Sub, main)
		}
	}
	if there > same || main > oldest && same < len(records) {
		return fmt.Errorf("%w: of the %d records of revision %d it has %d, and %d others",
			ErrDiffers, len(records), main, same, there-same)
	}
	return nil
}

// Compact lets the etcd that starts on the database compact it up to a revision, as one does that was stopped
// meanwhile.
func (r *Replay) Compact(revision int64) error {
	if err := r.begin(); err != nil {
		return fmt.Errorf("schedule a compaction: %w", err)
	}
	meta := r.tx.Bucket([]byte("meta"))
	if meta == nil {
		return errors.New("schedule a compaction: it has no bucket of facts")
	}
	if err := meta.Put([]byte("scheduledCompactRev"), bucketKey(revision, Record{})); err != nil {
		return fmt.Errorf("schedule a compaction: %w", err)
	}
	return nil
}

// Close writes the last batch, and closes the database.
func (r *Replay) Close() error {
	r.db.NoFreelistSync = false // so that the next one to open it need not look for the free pages
	return errors.Join(r.commit(), r.db.Close())
}

// bucketKey returns the key of a record in the bucket: main and sub revision, and a mark behind those of deletions.
func bucketKey(main int64, rec Record) []byte {
	k := make([]byte, 0, 18)
	k = binary.BigEndian.AppendUint64(k, uint64(main))
	k = append(k, '_')
	k = binary.BigEndian.AppendUint64(k, uint64(rec.Sub))
	if rec.Tombstone {
		k = append(k, 't')
	}
	return k
}

// Leases returns the leases in a database that was inspected.
func Leases(file string) (all []Lease, err error) {
	err = view(file, func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("lease"))
		if b == nil {
			return nil // a database that no etcd has started on yet
		}
		return b.ForEach(func(k, v []byte) error {
			var l leasepb.Lease
			if len(k) != 8 {
				return fmt.Errorf("the id of a lease has %d bytes", len(k))
			}
			if err := proto.Unmarshal(v, &l); err != nil {
				return fmt.Errorf("lease %x: %w", k, err)
			}
			all = append(all, Lease{ID: binary.BigEndian.Uint64(k), TTL: l.TTL})
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read the leases of %s: %w", file, err)
	}
	return all, nil
}

// Auth returns etcd's counter of the changes of users and roles in a database that was inspected, and whether
// authentication is on.
func Auth(file string) (revision uint64, enabled bool, err error) {
	err = view(file, func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("auth"))
		if b == nil {
			return nil // a database that no etcd has started on yet
		}
		if v := b.Get([]byte("authRevision")); len(v) == 8 {
			revision = binary.BigEndian.Uint64(v)
		}
		enabled = bytes.Equal(b.Get([]byte("authEnabled")), []byte{1})
		return nil
	})
	if err != nil {
		return 0, false, fmt.Errorf("read the revision of users and roles of %s: %w", file, err)
	}
	return revision, enabled, nil
}

// view reads a database.
func view(file string, read func(*bolt.Tx) error) (err error) {
	if err := cutChecksum(file); err != nil {
		return err
	}
	db, err := bolt.Open(file, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("open %s: %w", file, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.View(read)
}
