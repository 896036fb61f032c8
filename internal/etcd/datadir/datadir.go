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

// Make makes the data directory that etcdutl makes with the same options. The snapshot's file becomes the database of it: it
// is changed and moved, not copied, and must be on the same file system. Its checksum, if it has one, is not compared. It must
// have been inspected, now or when it was saved: bbolt trusts pages, and ends the process at some damages.
//
// etcdutl works on a seed: a database with all that is in the file but the history of the keys. What it has changed there is
// then changed in the file.
func Make(cfg snapshot.RestoreConfig) (err error) {
	file := cfg.SnapshotPath
	if err := cutChecksum(file); err != nil {
		return err
	}
	db, err := open(file, cfg.InitialMmapSize)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	seed := file + ".seed"
	defer func() { _ = os.Remove(seed) }()
	if err := writeSeed(db, seed); err != nil {
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

// cutChecksum removes the sha256 that etcd sends after the database. That there is one is told by the size, as etcdutl does: a
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

// open opens a database. etcd leaves no list of free pages in the file, and every page is looked at to find them; what is
// changed here writes one, for the etcd that is started next. In an empty file bbolt would make a database.
func open(file string, mapSize uint64) (*bolt.DB, error) {
	if info, err := os.Stat(file); err != nil {
		return nil, err
	} else if info.Size() == 0 {
		return nil, fmt.Errorf("open %s: it is empty", file)
	}
	db, err := bolt.Open(file, 0o600, &bolt.Options{NoFreelistSync: true, FreelistType: bolt.FreelistMapType, InitialMmapSize: int(mapSize)})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", file, err)
	}
	db.NoFreelistSync = false
	return db, nil
}
