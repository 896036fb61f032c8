package config

import (
	"fmt"
	"path"
	"path/filepath"
	"syscall"
)

// The directories that the service has for itself below data_dir.
const (
	SpoolDir   = "spool" // what a start finds there is removed
	KeptDir    = "kept"  // snapshots that no backend took
	JournalDir = "journal"
)

const whyOwn = "which the service has for itself: it removes what it needs no more, all of the spool at each start"

// ownDirectories are those directories, by the text of each.
type ownDirectories map[string]string

func (v validator) ownDirectories() ownDirectories {
	own := ownDirectories{}
	for _, name := range []string{SpoolDir, KeptDir, JournalDir} {
		dir := filepath.Join(v.DataDir, name)
		if full, err := filepath.Abs(dir); err == nil { // otherwise no relative path leads anywhere
			own[directory(full)] = dir
		}
	}
	return own
}

// with returns the one that an absolute directory is, or is below; "" when there is none, and for "".
func (o ownDirectories) with(dir string) string {
	if dir == "" {
		return ""
	}
	for d := withoutLinks(dir); ; d = path.Dir(d) {
		if own, ok := o[directory(d)]; ok || d == path.Dir(d) {
			return own
		}
	}
}

// withoutLinks returns a directory without the links in its path, as far as it exists.
func withoutLinks(dir string) string {
	there, err := filepath.EvalSymlinks(dir)
	switch {
	case err == nil:
		return there
	case dir == path.Dir(dir):
		return dir
	}
	return path.Join(withoutLinks(path.Dir(dir)), path.Base(dir))
}

// directory returns a text that is the same for one directory under all of its names: two mounts or links may lead to
// it. The part of a path that does not exist yet keeps its names below the part that does.
func directory(dir string) string {
	var info syscall.Stat_t
	if err := syscall.Stat(dir, &info); err != nil && dir != path.Dir(dir) {
		return directory(path.Dir(dir)) + "/" + path.Base(dir)
	}
	return fmt.Sprintf("%d:%d", info.Dev, info.Ino)
}
