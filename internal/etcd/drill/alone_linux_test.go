package drill_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/etcd/drill"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
)

// seen is what a drill's process has seen of itself, while its etcd had the database open.
type seen struct {
	Looks       int
	Listening   []string    // addresses in the form of /proc/net/tcp
	Open        os.FileMode // bits of the directories above the database that are for others
	Environment []string
}

// watchMyself looks at this process until done is closed, and writes the outcome beside the snapshot.
func watchMyself(file string, done <-chan struct{}) {
	var all seen
	for _, e := range os.Environ() { // of others than TMPDIR, the name says enough
		if name, _, _ := strings.Cut(e, "="); name != "TMPDIR" {
			e = name
		}
		all.Environment = append(all.Environment, e)
	}
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		all.look(filepath.Dir(file))
	}
	doc, err := json.Marshal(all)
	if err == nil {
		err = os.WriteFile(file+".seen", doc, 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func (s *seen) look(spool string) {
	sockets, database := myFiles()
	if database == "" {
		return
	}
	s.Looks++
	for dir := filepath.Dir(database); len(dir) > len(spool); dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil {
			s.Open |= info.Mode().Perm() & 0o077
		}
	}
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		lines, _ := os.ReadFile(table)
		for line := range strings.Lines(string(lines)) {
			const local, state, inode, listening = 1, 3, 9, "0A"
			f := strings.Fields(line)
			if len(f) > inode && f[state] == listening && slices.Contains(sockets, "socket:["+f[inode]+"]") {
				s.Listening = append(s.Listening, f[local])
			}
		}
	}
}

// myFiles returns the sockets of this process, and the database if it has one open.
func myFiles() (sockets []string, database string) {
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		to, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		if strings.HasPrefix(to, "socket:") {
			sockets = append(sockets, to)
		}
		if strings.HasSuffix(to, "/member/snap/db") {
			database = to
		}
	}
	return sockets, database
}

// The drill's etcd holds all that is in the cluster, without users and passwords.
func TestNobodyReachesTheEtcdOfADrill(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	e := embedded.StartEtcd(t)
	c := e.Client(t)
	fill(t, c)
	s := save(t, e, c)
	if err := os.Rename(s.file, s.file+watched); err != nil {
		t.Fatal(err)
	}
	s.file += watched
	if _, err := drill.Run(t.Context(), drill.Options{File: s.file, Revision: s.revision}); err != nil {
		t.Fatal(err)
	}
	var got seen
	doc, err := os.ReadFile(s.file + ".seen")
	if err == nil {
		err = json.Unmarshal(doc, &got)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got.Looks == 0 || len(got.Listening) > 0 || got.Open != 0 {
		t.Errorf("of %d looks: it listens on %v, others may use its directories by %v", got.Looks, got.Listening, got.Open)
	}
	if len(got.Environment) != 1 || !strings.HasPrefix(got.Environment[0], "TMPDIR="+filepath.Dir(s.file)) {
		t.Errorf("its environment is %q", got.Environment)
	}
}
