package datadir

import (
	"bytes"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// bulk reports whether a bucket may be large: that of all revisions of all keys, which is nearly the whole database,
// and that of the leases. A restore may add to them, after the last entry, but changes no entry.
func bulk(bucket []byte) bool { return string(bucket) == "key" || string(bucket) == "lease" }

// writeSeed makes a database with everything in another one, except the bulk, of which it takes the last entry, and the
// entries of buckets that are to be emptied.
func writeSeed(db *bolt.DB, path string, emptied []string) error {
	seed, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true})
	if err != nil {
		return err
	}
	defer func() { _ = seed.Close() }()
	err = db.View(func(from *bolt.Tx) error {
		for _, name := range []string{"key", "meta"} { // etcdutl ends the process when one of them is missing
			if from.Bucket([]byte(name)) == nil {
				return fmt.Errorf("it is no database of etcd: it has no bucket %q", name)
			}
		}
		return seed.Update(func(to *bolt.Tx) error {
			return from.ForEach(func(name []byte, b *bolt.Bucket) error {
				into, err := to.CreateBucket(name)
				if err != nil {
					return err
				}
				if slices.Contains(emptied, string(name)) {
					return nil
				}
				if !bulk(name) {
					return copyAll(into, b)
				}
				if last, value := b.Cursor().Last(); last != nil {
					return into.Put(last, value)
				}
				return nil
			})
		})
	})
	if err != nil {
		return err
	}
	return seed.Close()
}

func copyAll(into, from *bolt.Bucket) error {
	return from.ForEach(func(key, value []byte) error {
		if value == nil {
			return fmt.Errorf("%q is a bucket in a bucket, which no etcd makes", key)
		}
		return into.Put(key, value)
	})
}

// follow makes the changes to a seed in its database.
func follow(db *bolt.DB, seedPath string) error {
	seed, err := bolt.Open(seedPath, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { _ = seed.Close() }()
	return seed.View(func(from *bolt.Tx) error {
		return db.Update(func(to *bolt.Tx) error {
			return from.ForEach(func(name []byte, b *bolt.Bucket) error {
				into, err := to.CreateBucketIfNotExists(name)
				if err != nil {
					return err
				}
				if !bulk(name) { // the seed does not have all of it
					if err := removeOthers(into, b); err != nil {
						return err
					}
				}
				return copyChanged(into, b)
			})
		})
	})
}

// removeOthers removes the entries that another bucket does not have.
func removeOthers(b, other *bolt.Bucket) error {
	var gone [][]byte
	err := b.ForEach(func(key, _ []byte) error {
		if other.Get(key) == nil {
			gone = append(gone, bytes.Clone(key)) // the file may be mapped elsewhere before it is used
		}
		return nil
	})
	for _, key := range gone {
		if err == nil {
			err = b.Delete(key)
		}
	}
	return err
}

func copyChanged(into, from *bolt.Bucket) error {
	return from.ForEach(func(key, value []byte) error {
		if old := into.Get(key); old != nil && bytes.Equal(old, value) {
			return nil
		}
		return into.Put(key, value)
	})
}
