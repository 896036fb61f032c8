package database_test

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"os"
	"reflect"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/snapshotd/snapshotd/internal/etcd/database"
)

// setMeta changes a meta page, and makes its checksum right again.
func setMeta(b []byte, page int, size uint32, later uint64) {
	m := b[page*pageSize+16:][:64]
	binary.NativeEndian.PutUint32(m[8:], size)
	binary.NativeEndian.PutUint64(m[48:], binary.NativeEndian.Uint64(m[48:])+later)
	sum := fnv.New64a()
	_, _ = sum.Write(m[:56])
	binary.NativeEndian.PutUint64(m[56:], sum.Sum64())
}

// The inspection and bbolt must begin with the same meta page, or they see two databases.
func TestMetaPagesAreReadAsBboltReadsThem(t *testing.T) {
	path := layout{records: 900, keys: 300, valueSize: 250, bolt: bolt.Options{PageSize: pageSize}}.write(t)
	whole, err := os.ReadFile(path)
	must(t, err)
	want, err := database.File(t.Context(), path, database.Options{})
	must(t, err)
	spoil := func(b []byte, page int) { b[page*pageSize+16+56]++ }
	for name, c := range map[string]struct {
		edit     func(b []byte)
		readable bool
	}{
		"the second one is later":                    {func(b []byte) { setMeta(b, 1, pageSize, 2) }, true},
		"the first one is spoiled":                   {func(b []byte) { spoil(b, 0) }, true},
		"the second one is spoiled":                  {func(b []byte) { spoil(b, 1) }, true},
		"both are spoiled":                           {func(b []byte) { spoil(b, 0); spoil(b, 1) }, false},
		"a later second one with pages of 8,192":     {func(b []byte) { setMeta(b, 1, 2*pageSize, 2) }, false},
		"an earlier second one with pages of 8,192":  {func(b []byte) { setMeta(b, 1, 2*pageSize, 0) }, false},
		"a later second one with pages of 0":         {func(b []byte) { setMeta(b, 1, 0, 2) }, false},
		"a first one with pages of 512":              {func(b []byte) { setMeta(b, 0, 512, 0) }, false},
		"a first one with pages of 3,000":            {func(b []byte) { setMeta(b, 0, 3000, 0) }, false},
		"a first one with pages of 0":                {func(b []byte) { setMeta(b, 0, 0, 0) }, false},
		"a first one with pages of 8,192":            {func(b []byte) { setMeta(b, 0, 2*pageSize, 0) }, false},
		"the only one is the second, and says 8,192": {func(b []byte) { spoil(b, 0); setMeta(b, 1, 2*pageSize, 2) }, false},
	} {
		b := append([]byte(nil), whole...)
		c.edit(b)
		must(t, os.WriteFile(path, b, 0o600))
		got, err := database.File(t.Context(), path, database.Options{})
		if !c.readable {
			if !errors.Is(err, database.ErrUnreadable) {
				t.Errorf("%s: got %+v, %v", name, got, err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
		db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
		if err != nil {
			t.Errorf("%s: bbolt: %v", name, err)
			continue
		}
		must(t, db.Close())
	}
}

// bbolt panics at an empty key in a page that it changes, and refuses to write keys that are empty or too long.
func TestKeysThatBboltCannotHaveAreUnreadable(t *testing.T) {
	path := layout{records: 20_000, keys: 20_000, valueSize: 50, bolt: bolt.Options{PageSize: pageSize}}.write(t)
	whole, err := os.ReadFile(path)
	must(t, err)
	const (
		branch, leaf = 1, 2
		head         = 16 // of a page; its first element follows
	)
	emptied := map[uint16]int{}
	for at := 2 * pageSize; at+pageSize <= len(whole); at += pageSize {
		kind := binary.NativeEndian.Uint16(whole[at+8:])
		size := map[uint16]int{branch: at + head + 4, leaf: at + head + 8}[kind] // of the first key
		if size == 0 || emptied[kind] > 20 {
			continue
		}
		b := append([]byte(nil), whole...)
		binary.NativeEndian.PutUint32(b[size:], 0)
		must(t, os.WriteFile(path, b, 0o600))
		if _, err := database.File(t.Context(), path, database.Options{}); errors.Is(err, database.ErrUnreadable) {
			emptied[kind]++
		} else if reached(t, path) {
			t.Errorf("page %d begins with an empty key: %v", at/pageSize, err)
		}
	}
	if emptied[branch] == 0 || emptied[leaf] == 0 {
		t.Errorf("pages whose first key was emptied, and which were refused: %v", emptied)
	}
}

// reached reports whether bbolt finds an empty key in a database.
func reached(t *testing.T, path string) (empty bool) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	must(t, err)
	defer func() { must(t, db.Close()) }()
	must(t, db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			return b.ForEach(func(k, _ []byte) error {
				empty = empty || len(k) == 0
				return nil
			})
		})
	}))
	return empty
}
