package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Denied says why the operating system has refused a path to this process: which user it runs as, whom the path belongs
// to, its mode, and what to do. It is empty when err is another error, or of no path.
func Denied(err error) string {
	path := refused(err)
	if path == "" {
		return ""
	}
	// The last part of the path that can be seen is the one that refuses: either it is the file itself, or the directory
	// that may not be searched, or written to.
	info, serr := os.Stat(path)
	for serr != nil && filepath.Dir(path) != path {
		path = filepath.Dir(path)
		info, serr = os.Stat(path)
	}
	if serr != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	me, owner := os.Geteuid(), int(stat.Uid)
	text := fmt.Sprintf("this program runs as %s, and %s belongs to %s with mode %s: ",
		userName(me), path, userName(owner), info.Mode())
	switch me {
	case 0:
		return text + "root is refused by the mount's options, by the server of a network file system, " +
			"or by a security module"
	case owner:
		return text + "give its owner the permission with chmod"
	default:
		return text + fmt.Sprintf("run it as %s, or give access to %s with chown or chmod", userName(owner), userName(me))
	}
}

// refused returns the path that an error refuses; empty when it is another error.
func refused(err error) string {
	if !errors.Is(err, fs.ErrPermission) {
		return ""
	}
	if link, ok := errors.AsType[*os.LinkError](err); ok {
		return filepath.Dir(link.New)
	}
	e, ok := errors.AsType[*fs.PathError](err)
	switch {
	case !ok || e.Path == "":
		return ""
	case e.Op == "remove" || strings.HasPrefix(e.Op, "unlink"):
		return filepath.Dir(e.Path) // names are removed from a directory
	}
	return e.Path
}

func userName(uid int) string {
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return fmt.Sprintf("%s (uid %s)", u.Username, id)
	}
	return "uid " + id
}
