package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/internal/testenv/check"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
)

var eventually = check.Eventually

// logged is the log of a service.
type logged struct{ testenv.Buffer }

func (l *logged) count(text string) int { return strings.Count(l.String(), text) }

// journaled is a service with one cluster that has a journal, and a directory as backend.
type journaled struct {
	file, dataDir, backend, etcd string

	log    logged
	reload chan os.Signal
}

func newJournaled(t *testing.T, etcd *embedded.Etcd) *journaled {
	t.Helper()
	dir := t.TempDir()
	return &journaled{
		file: filepath.Join(dir, "snapshotd.yaml"), dataDir: filepath.Join(dir, "data"), backend: filepath.Join(dir, "backend"),
		etcd: etcd.Endpoints()[0], reload: make(chan os.Signal),
	}
}

// configure writes the configuration with a schedule that is due on one day of the year.
func (j *journaled) configure(t *testing.T, day int) {
	t.Helper()
	j.write(t, fmt.Sprintf("clusters:\n"+
		"  - etcd: {endpoints: [%q]}\n    backends: [{name: local, url: \"file://%s\"}]\n    lock_ttl: 2s\n"+
		"    journal: {enabled: true, flush_interval: 20ms, upload_interval: 1s}\n"+
		"    schedules: [{name: yearly, cron: \"0 0 %d 1 *\"}]\n", j.etcd, j.backend, day))
}

// write writes the configuration with these clusters.
func (j *journaled) write(t *testing.T, clusters string) {
	t.Helper()
	doc := fmt.Sprintf("node_name: node-1\ndata_dir: %q\nlisten_grpc: 127.0.0.1:0\nlisten_http: 127.0.0.1:0\n%s", j.dataDir, clusters)
	if err := os.WriteFile(j.file+".new", []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(j.file+".new", j.file); err != nil {
		t.Fatal(err)
	}
}

// serve runs the service until the test ends.
func (j *journaled) serve(t *testing.T) *Service {
	t.Helper()
	s := j.open(t)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// open opens the service.
func (j *journaled) open(t *testing.T) *Service {
	t.Helper()
	if err := os.MkdirAll(j.backend, 0o700); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	src := config.Source{Flags: config.AddFlags(flags), Getenv: func(string) string { return "" }}
	if err := flags.Parse([]string{"--config", j.file}); err != nil {
		t.Fatal(err)
	}
	load := func() (*config.Config, error) { return config.Load(src) }
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Config: cfg, Version: "test", Log: &j.log, Reload: j.reload, Load: load})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// held returns the objects of the journal on the backend.
func (j *journaled) held(t *testing.T) journal.Window {
	t.Helper()
	b, err := storage.New(storage.Config{Name: "local", URL: "file://" + j.backend})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close(t.Context()) }()
	repo := repository.New(repository.Config{Backend: b, Cluster: "default", Prefix: "default/"})
	return journal.Look(t.Context(), []journal.Listing{segments.New(segments.Config{Repository: repo})})
}

// reaches waits until the backend holds all revisions from the beginning of the journal to a revision.
func (j *journaled) reaches(t *testing.T, revision int64) {
	t.Helper()
	var w journal.Window
	defer func() {
		if t.Failed() {
			t.Logf("the backend holds %+v", w)
		}
	}()
	eventually(t, fmt.Sprintf("revision %d is on the backend", revision), func() bool {
		w = j.held(t)
		lines := w.Timelines
		return len(lines) > 0 && lines[len(lines)-1].Ranges[len(lines[len(lines)-1].Ranges)-1].Last >= revision
	})
	if len(w.Timelines) != 1 || len(w.Timelines[0].Ranges) != 1 || len(w.Unread) > 0 {
		t.Error("the journal has gaps")
	}
}

// TestAJournalGoesOnWhenItsClusterIsChanged changes the schedule of a cluster, again and again, while its etcd is
// written to all the time.
func TestAJournalGoesOnWhenItsClusterIsChanged(t *testing.T) {
	t.Parallel()
	etcd := embedded.StartEtcd(t)
	j := newJournaled(t, etcd)
	j.configure(t, 1)
	j.serve(t)
	client := etcd.Client(t)
	var last atomic.Int64
	var stop atomic.Bool
	var writer sync.WaitGroup
	writer.Go(func() {
		for !stop.Load() {
			resp, err := client.Put(t.Context(), "/written", "always")
			if err != nil {
				t.Error(err)
				return
			}
			last.Store(resp.Header.Revision)
			time.Sleep(time.Millisecond) // about as fast as a busy cluster; nothing is concluded from it
		}
	})
	defer writer.Wait()
	defer stop.Store(true)
	const follows, changed = `"journal follows etcd"`, `"cluster is in effect"`
	for round := 1; round <= 4; round++ {
		eventually(t, "etcd is followed", func() bool { return j.log.count(follows) >= round })
		now := last.Load()
		eventually(t, "more is written", func() bool { return last.Load() > now+50 })
		j.reaches(t, now)
		j.configure(t, round+1)
		j.reload <- os.Interrupt
		eventually(t, "the cluster is changed", func() bool { return j.log.count(changed) >= round })
	}
	eventually(t, "etcd is followed", func() bool { return j.log.count(follows) >= 5 })
	stop.Store(true)
	writer.Wait()
	j.reaches(t, last.Load())
	if n := j.log.count(`"upload of the journal"`) + j.log.count(`"journal does not follow etcd"`); n > 0 {
		t.Errorf("the journal has failed %d times\n%s", n, j.log.String())
	}
}

// TestAClusterWhoseJournalCannotBeOpenedIsSaved: the journal begins when its directory can be made.
func TestAClusterWhoseJournalCannotBeOpenedIsSaved(t *testing.T) {
	t.Parallel()
	etcd := embedded.StartEtcd(t)
	j := newJournaled(t, etcd)
	j.configure(t, 1)
	if err := os.MkdirAll(j.dataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	inTheWay := filepath.Join(j.dataDir, "journal")
	if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := j.serve(t)
	eventually(t, "the log has that the journal is not opened", func() bool { return j.log.count(`"journal is not opened`) > 0 })
	eventually(t, "the cluster is saved", func() bool {
		res, err := s.clusters[0].Save(t.Context(), cluster.SaveRequest{})
		if err != nil && snapshot.ReasonOf(err) != snapshot.ReasonSaveInProgress {
			t.Fatal(err)
		}
		return err == nil && res.Snapshot.State() == snapshot.StateReady
	})
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	eventually(t, "etcd is followed", func() bool { return j.log.count(`"journal follows etcd"`) > 0 })
	resp, err := etcd.Client(t).Put(t.Context(), "/written", "once")
	if err != nil {
		t.Fatal(err)
	}
	j.reaches(t, resp.Header.Revision)
}

// TestAClusterThatDoesNotStopKeepsNoOtherOneWaiting changes two clusters, a loop of one of which does not end.
func TestAClusterThatDoesNotStopKeepsNoOtherOneWaiting(t *testing.T) {
	t.Parallel()
	etcd := embedded.StartEtcd(t)
	j := newJournaled(t, etcd)
	configure := func(day int) {
		j.write(t, fmt.Sprintf("defaults:\n"+
			"  etcd: {endpoints: [%q]}\n  backends: [{name: local, url: \"file://%s\"}]\n  lock_ttl: 2s\n"+
			"  schedules: [{name: yearly, cron: \"0 0 %d 1 *\"}]\nclusters: [{name: hangs}, {name: other}]\n", j.etcd, j.backend, day))
	}
	configure(1)
	s := j.serve(t)
	s.stopTimeout = 100 * time.Millisecond
	release := make(chan struct{})
	letGo := sync.OnceFunc(func() { close(release) })
	defer letGo()
	s.clusters[0].loops.Go(func() { <-release })
	inEffect := func(name string) int {
		n := 0
		for line := range strings.Lines(j.log.String()) {
			if strings.Contains(line, `"cluster is in effect"`) && strings.Contains(line, "cluster="+name) {
				n++
			}
		}
		return n
	}
	for round := 1; round <= 3; round++ { // the second and third time, a cluster that has not begun yet is changed
		configure(round + 1)
		j.reload <- os.Interrupt
		eventually(t, "the other cluster is changed", func() bool { return inEffect("other") == round })
	}
	if n := inEffect("hangs"); n > 0 || !strings.Contains(j.log.String(), `"cluster does not stop`) {
		t.Errorf("the cluster that does not stop was changed %d times:\n%s", n, j.log.String())
	}
	letGo()
	eventually(t, "the last change is in effect", func() bool { return inEffect("hangs") == 1 })
}
