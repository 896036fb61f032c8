package database_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/internal/testenv/check"
)

var must = check.OK

// layout describes a database that is laid out as etcd's but made with bbolt directly, which is quick.
type layout struct {
	records   int
	keys      int // how many different ones
	valueSize int // at most
	deletes   float64
	compact   bool // remove every third record afterwards, so that pages become free
	bolt      bolt.Options
	version   string // storage version
}

// write writes the database, followed by 32 bytes as those that etcd sends after it, and returns the path.
func (d layout) write(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "snapshot.db")
	options := d.bolt
	options.NoSync = true
	db, err := bolt.Open(path, 0o600, &options)
	must(tb, err)
	rnd := rand.New(rand.NewPCG(7, 11))
	must(tb, db.Update(d.facts))
	for from := 0; from < d.records; from += 10_000 {
		must(tb, db.Update(func(tx *bolt.Tx) error {
			return d.put(tx.Bucket([]byte("key")), rnd, from, min(from+10_000, d.records))
		}))
	}
	if d.compact {
		must(tb, db.Update(func(tx *bolt.Tx) error { return removeEveryThird(tx.Bucket([]byte("key"))) }))
	}
	must(tb, db.View(func(tx *bolt.Tx) error { return tx.CopyFile(path+".copy", 0o600) }))
	must(tb, db.Close())
	must(tb, os.Rename(path+".copy", path))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	must(tb, err)
	_, err = f.Write(make([]byte, 32))
	must(tb, err)
	must(tb, f.Close())
	return path
}

func (d layout) facts(tx *bolt.Tx) error {
	for _, name := range []string{"alarm", "auth", "cluster", "key", "lease", "members", "meta"} {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return err
		}
	}
	meta := tx.Bucket([]byte("meta"))
	if d.version != "" {
		if err := meta.Put([]byte("storageVersion"), []byte(d.version)); err != nil {
			return err
		}
	}
	return meta.Put([]byte("consistent_index"), binary.BigEndian.AppendUint64(nil, 42))
}

func (d layout) put(b *bolt.Bucket, rnd *rand.Rand, from, to int) error {
	b.FillPercent = 0.9
	for i := from; i < to; i++ {
		record := &mvccpb.KeyValue{Key: fmt.Appendf(nil, "/registry/pods/%08d", rnd.IntN(d.keys))}
		rev := binary.BigEndian.AppendUint64(nil, uint64(i/3+2))
		rev = append(rev, '_')
		rev = binary.BigEndian.AppendUint64(rev, uint64(i%3))
		if rnd.Float64() < d.deletes {
			rev = append(rev, 't')
		} else {
			record.Value = make([]byte, rnd.IntN(d.valueSize))
			record.CreateRevision, record.ModRevision, record.Version, record.Lease = 1, int64(i), 3, int64(rnd.IntN(2))
			fill(rnd, record.Value)
		}
		v, err := proto.Marshal(record)
		if err != nil {
			return err
		}
		if err := b.Put(rev, v); err != nil {
			return err
		}
	}
	return nil
}

func removeEveryThird(b *bolt.Bucket) error {
	var keys [][]byte
	i := 0
	if err := b.ForEach(func(k, _ []byte) error {
		if i++; i%90 > 60 {
			keys = append(keys, append([]byte(nil), k...))
		}
		return nil
	}); err != nil {
		return err
	}
	for _, k := range keys {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

func fill(rnd *rand.Rand, b []byte) {
	for ; len(b) >= 8; b = b[8:] {
		binary.LittleEndian.PutUint64(b, rnd.Uint64())
	}
}

// foreign writes a bbolt database that is not etcd's.
func foreign(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "foreign.db")
	db, err := bolt.Open(path, 0o600, nil)
	must(tb, err)
	must(tb, db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket([]byte("things"))
		return err
	}))
	must(tb, db.Close())
	return path
}

func truncated(tb testing.TB) string {
	tb.Helper()
	path := layout{records: 5_000, keys: 5_000, valueSize: 500}.write(tb)
	info, err := os.Stat(path)
	must(tb, err)
	must(tb, os.Truncate(path, info.Size()-int64(os.Getpagesize())))
	return path
}

// withRecords writes a database with empty records under keys of the bucket "key".
func withRecords(tb testing.TB, keys ...[]byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "records.db")
	db, err := bolt.Open(path, 0o600, nil)
	must(tb, err)
	must(tb, db.Update(func(tx *bolt.Tx) error {
		if err := (layout{}).facts(tx); err != nil {
			return err
		}
		for _, k := range keys {
			if err := tx.Bucket([]byte("key")).Put(k, nil); err != nil {
				return err
			}
		}
		return nil
	}))
	must(tb, db.Close())
	return path
}

func revisionKey(main, sub int64, mark string) []byte {
	k := binary.BigEndian.AppendUint64(nil, uint64(main))
	k = append(k, '_')
	k = binary.BigEndian.AppendUint64(k, uint64(sub))
	return append(k, mark...)
}
