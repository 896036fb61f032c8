package restore

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// Owner returns the user and the group to whom a data directory belongs, as chown takes them: the owner of the
// directory, or of the one above it when it does not exist yet. It is empty when that is who runs this process: what a
// restore makes belongs to them already.
func Owner(dir string) string {
	info, err := os.Stat(dir)
	if err != nil {
		info, err = os.Stat(filepath.Dir(filepath.Clean(dir)))
	}
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) == os.Geteuid() {
		return ""
	}
	owner, group := strconv.Itoa(int(stat.Uid)), strconv.Itoa(int(stat.Gid))
	if u, err := user.LookupId(owner); err == nil {
		owner = u.Username
	}
	if g, err := user.LookupGroupId(group); err == nil {
		group = g.Name
	}
	return owner + ":" + group
}
