package file

import (
	"io/fs"
	"os"
)

// SetFsync replaces the function that makes files and directories durable.
func (f *Store) SetFsync(fsync func(*os.File) error) { f.fsync = fsync }

// SetChmod replaces the function that gives files their mode.
func (f *Store) SetChmod(chmod func(*os.File, fs.FileMode) error) { f.chmod = chmod }

// SetEntered replaces the function that reads a directory.
func (f *Store) SetEntered(read func(string) ([]fs.DirEntry, error)) { f.entered = read }

// Path returns where a key is.
func (f *Store) Path(key string) string { return f.path(key) }

// TempKey is tempKey.
var TempKey = tempKey
