package datadir

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
)

// Alarms is the bucket of etcd's alarms.
const Alarms = "alarm"

// Make makes the data directory that etcdutl makes with the same options. The snapshot's file becomes its database: it
// is changed and moved, not copied, and must be on the same file system. Its checksum, if it has one, is not compared.
// The file must have been inspected, now or during its save: bbolt trusts pages, and some damages end the process.
//
// Buckets that are named stay empty: restored without its alarms, an etcd takes writes.
//
// etcdutl works on a seed: a database with everything in the file but the history of the keys. Its changes to the seed
// are then made in the file.
func Make(cfg snapshot.RestoreConfig, emptied ...string) error {
	return makeFrom(cfg, emptied, func(*bolt.DB) error { return nil })
}

// makeFrom makes the data directory after the file's database was edited.
func makeFrom(cfg snapshot.RestoreConfig, emptied []string, edit func(*bolt.DB) error) (err error) {
	file := cfg.SnapshotPath
	if err := cutChecksum(file); err != nil {
		return err
	}
	db, err := open(file, cfg.InitialMmapSize)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := edit(db); err != nil {
		return fmt.Errorf("change %s: %w", file, err)
	}
	seed := file + ".seed"
	defer func() { _ = os.Remove(seed) }()
	if err := writeSeed(db, seed, emptied); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	cfg.SnapshotPath, cfg.SkipHashCheck = seed, true
	if err := etcdutl(cfg); err != nil {
		return err
	}
	grown := filepath.Join(cfg.OutputDataDir, "member", "snap", "db")
	if err := follow(db, grown); err != nil {
		return fmt.Errorf("change %s: %w", file, err)
	}
	return os.Rename(file, grown)
}

// cutChecksum removes the sha256 that etcd sends after the database. As in etcdutl, the size tells that there is one: a
// database is a whole number of pages.
func cutChecksum(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if info.Size()%512 == sha256.Size {
		return os.Truncate(file, info.Size()-sha256.Size)
	}
	return nil
}

// open opens a database. etcd leaves no list of free pages in the file, so every page is read to find them; after the
// changes the file has a list, for the etcd that starts on it. bbolt would make a database in an empty file.
func open(file string, mapSize uint64) (*bolt.DB, error) {
	if info, err := os.Stat(file); err != nil {
		return nil, err
	} else if info.Size() == 0 {
		return nil, fmt.Errorf("open %s: it is empty", file)
	}
	db, err := bolt.Open(file, 0o600, &bolt.Options{
		NoFreelistSync: true, FreelistType: bolt.FreelistMapType, InitialMmapSize: int(mapSize),
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", file, err)
	}
	db.NoFreelistSync = false
	return db, nil
}
