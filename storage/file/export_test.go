package file

import "os"

// SetFsync replaces what makes files and directories durable.
func (f *Store) SetFsync(fsync func(*os.File) error) { f.fsync = fsync }

// Path returns where a key is.
func (f *Store) Path(key string) string { return f.path(key) }

// TempKey is tempKey.
var TempKey = tempKey
