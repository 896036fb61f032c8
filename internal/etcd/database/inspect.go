package database

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"
)

// ErrUnreadable: the file is not an etcd database that can be read through. Errors that do not wrap it are of the file
// system or the context and say nothing about the database.
var ErrUnreadable = errors.New("the database cannot be read through")

// Result describes the database, by its content.
type Result struct {
	Revision       int64  // the newest; 0 when there is none
	TotalKeys      int64  // live keys, as etcdutl counts them since 3.6
	Hash           uint32 // of all buckets, as `etcdutl snapshot status` computes it
	StorageVersion string // such as 3.7.0; empty below etcd 3.6
	OldestRevision int64  // the first whose state is still there: that of the last compaction, or 1

	Past *Past // at [Options.Revision]; nil when none was asked for, or when it is not from OldestRevision to Newest

	Alarms []string // such as "NOSPACE 8e9e05c52164694d": the name and the id of the member
}

// Newest returns the revision that an etcd on the database begins with. It has no record when a compaction removed it.
func (r *Result) Newest() int64 { return max(r.Revision, r.OldestRevision) }

// Options are the options of [File].
type Options struct {
	TempDir  string // for the table of keys, about 40 bytes a key; the directory of the file when empty
	Revision int64  // of which the past is wanted; 0 for none

	// Room is optional. It is asked before so many bytes are written to TempDir; its error ends the inspection.
	Room func(bytes int64) error
}

// File inspects the snapshot at path: a database, with or without the 32 bytes of sha256 that etcd sends after it.
// These are not checked here. The file must not change meanwhile.
func File(ctx context.Context, path string, opts Options) (Result, error) {
	f, err := os.Open(path)
	if err != nil {
		return Result{}, fmt.Errorf("inspect the snapshot: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := mapFile(f)
	if err != nil {
		return Result{}, fmt.Errorf("inspect the snapshot: %w", err)
	}
	defer func() { _ = syscall.Munmap(data) }()
	dir := opts.TempDir
	if dir == "" {
		dir = filepath.Dir(path)
	}
	tables := tempDir{dir, opts.Room}
	keys, err := newKeySet(tables)
	if err != nil {
		return Result{}, fmt.Errorf("inspect the snapshot: %w", err)
	}
	defer keys.close()
	s := scan{ctx: ctx, keys: keys}
	if opts.Revision > 0 {
		if s.past, err = newPastScan(tables, opts.Revision, keys); err != nil {
			return Result{}, fmt.Errorf("inspect the snapshot: %w", err)
		}
		defer s.past.close()
	}
	result, err := inspect(&s, data[:databaseSize(len(data))])
	if err != nil {
		return Result{}, fmt.Errorf("inspect %s: %w", path, err)
	}
	return result, nil
}

// mapFile maps all of a file, to be read only.
func mapFile(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() == 0 || int64(int(info.Size())) != info.Size() {
		return nil, fmt.Errorf("map %s: %w: it is a file of mode %v and %d bytes",
			f.Name(), ErrUnreadable, info.Mode(), info.Size())
	}
	data, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, &os.PathError{Op: "map", Path: f.Name(), Err: err}
	}
	return data, nil
}

// databaseSize returns how many of a snapshot's bytes are the database. etcd tells whether a checksum follows it by the
// size, as a database is a whole number of pages.
func databaseSize(size int) int {
	const sha256Size = 32
	if size%512 == sha256Size {
		return size - sha256Size
	}
	return size
}

// inspect walks the database. A page that cannot be read from the disk any more arrives as a fault, not as an error:
// here it becomes one.
func inspect(s *scan, data []byte) (result Result, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			result, err = Result{}, asError(cause)
		}
	}()
	if s.db, err = openBtree(data); err != nil {
		return Result{}, err
	}
	s.sum = newHasher()
	defer func() { _, _ = s.sum.end() }() // nothing may be read any more when the file is unmapped
	if err := s.run(); err != nil {
		return Result{}, err
	}
	return s.result, nil
}

// asError returns the error for a panic. Whatever else the runtime objects to, it was the database that led there.
func asError(cause any) error {
	err, ok := cause.(runtime.Error)
	if !ok {
		panic(cause)
	}
	if _, fault := cause.(interface{ Addr() uintptr }); fault {
		return fmt.Errorf("%w: a mapped page cannot be read or written "+
			"(the disk fails or is full, or the file became shorter): %w", ErrUnreadable, err)
	}
	return fmt.Errorf("%w: %w", ErrUnreadable, err)
}
