//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// window is the answer of `snapshotd window -o json`, as far as it is needed here.
type window struct {
	Window struct {
		Journaled bool
		Timelines []timeline
		Gaps      []struct {
			AfterRevision, BeforeRevision int64 `json:",string"`
			AfterTime, BeforeTime         time.Time
			Reason                        string
		}
		Unread []string
	}
}

type timeline struct {
	Name   string
	Reason string
	Ranges []struct {
		FirstRevision, LastRevision, RestorableFromRevision int64 `json:",string"`
		FirstTime, LastTime                                 time.Time
	}
}

func (s *service) window() (found window) {
	s.t.Helper()
	decode(s.t, s.windowJSON(), &found)
	return found
}

// windowJSON returns the window also while a backend is away, which its exit code tells.
func (s *service) windowJSON(args ...string) string {
	s.t.Helper()
	r := s.run(append([]string{"window", "-o", "json"}, args...)...)
	if r.stdout == "" {
		s.t.Fatalf("snapshotd window: exit code %d, %s", r.code, r.stderr)
	}
	return r.stdout
}

// timeline returns a timeline of the window by its name, or the newest one when that is empty. It is the zero one when
// no backend has it.
func (w window) timeline(name string) (found timeline) {
	for _, l := range w.Window.Timelines {
		if name == "" || l.Name == name {
			found = l
		}
	}
	return found
}

// last is the newest revision that the backends hold of a timeline; 0 when it is not there.
func (l timeline) last() int64 {
	if len(l.Ranges) == 0 {
		return 0
	}
	return l.Ranges[len(l.Ranges)-1].LastRevision
}

// rpo returns how old the newest moment is that the metric says could be restored without this process, or without its
// machine when a backend is named. It is false where the service does not lead.
func (s *service) rpo(backend string) (age time.Duration, ok bool) {
	s.t.Helper()
	for name, value := range s.scrape() {
		if !strings.HasPrefix(name, "snapshotd_journal_rpo_seconds{") {
			continue
		}
		if backend == "" && strings.Contains(name, `stage="local"`) ||
			backend != "" && strings.Contains(name, `backend="`+backend+`"`) {
			return time.Duration(value * float64(time.Second)), true
		}
	}
	return 0, false
}

// looked waits until the service has looked at all that etcd tells without an event: a watermark is the beginning of such
// a look, and the next one its end.
func (s *service) looked() {
	s.t.Helper()
	for range 2 {
		since := time.Now()
		eventually(s.t, "the service has looked at etcd again", func() bool {
			asked := time.Now()
			age, ok := s.rpo("")
			return ok && asked.Add(-age).After(since)
		})
	}
}

// follows waits until the service leads and its journal has a revision; when it has begun a timeline, also until it has
// taken the snapshot from which that can be restored.
func (s *service) follows(revision int64) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("the service follows etcd up to revision %d, and has its snapshot", revision), func() bool {
		m := s.scrape()
		if m[`snapshotd_leader{cluster="default"}`] != 1 || m[`snapshotd_journal_revision{cluster="default"}`] < float64(revision) {
			return false
		}
		saved := s.begun() == ""
		for name, value := range m {
			saved = saved || value > 0 && strings.HasPrefix(name, "snapshotd_saves_total{") && strings.Contains(name, `result="success"`)
		}
		return saved
	})
}

// begun returns the timeline that the service has begun last; empty when it has gone on with an older one.
func (s *service) begun() (name string) {
	for line := range strings.Lines(s.log.String()) {
		var l struct{ Msg, Timeline string }
		if json.Unmarshal([]byte(line), &l) == nil && strings.HasPrefix(l.Msg, "journal begins") {
			name = l.Timeline
		}
	}
	return name
}

var (
	restoredLine = regexp.MustCompile(`(?m)^revision +(\d+)`)
	holdsLine    = regexp.MustCompile(`(?m)^holds +revision (\d+)`)
)

// restoredRevision reads from the output of `snapshotd restore` which revision it has restored.
func restoredRevision(t *testing.T, out string) int64 {
	t.Helper()
	for _, line := range []*regexp.Regexp{restoredLine, holdsLine} {
		if m := line.FindStringSubmatch(out); m != nil {
			n, err := strconv.ParseInt(m[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("the restore does not say which revision it has restored:\n%s", out)
	return 0
}

// journaled writes the configuration of a service that follows a cluster, with a data directory of its choice. settings
// are further lines of the cluster.
func journaled(t *testing.T, data string, endpoints []string, backends map[string]string, settings ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "snapshotd.yaml")
	doc := fmt.Sprintf("data_dir: %s\nnode_name: node-1\nclusters:\n  - etcd: {endpoints: [%s]}\n", data, strings.Join(endpoints, ", "))
	if len(settings) == 0 {
		settings = []string{"journal: {enabled: true}"}
	}
	for _, line := range settings {
		doc += "    " + line + "\n"
	}
	doc += "    backends:\n"
	for name, url := range backends {
		doc += fmt.Sprintf("      - {name: %s, url: %q}\n", name, url)
	}
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// envDuration returns a duration from the environment; 0 by default.
func envDuration(t *testing.T, name string) time.Duration {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return 0
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return d
}

// contextFor returns a context for one request, which does not end with the test.
func contextFor(t *testing.T, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(t.Context()), limit)
}
