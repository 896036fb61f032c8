//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestBenchReplay measures restores with a journal beside those of the snapshot alone, in turns, each in a process of
// its own: the time and the most anonymous memory. It is `make bench-replay`; SNAPSHOTD_E2E_REVISIONS says how many
// revisions the journal has, and without it nothing is measured. They are puts on 5,000 keys with values of 600 bytes,
// of which a third repeats, made by an etcd and followed by a service with the default intervals.
func TestBenchReplay(t *testing.T) {
	revisions := envInt(t, "SNAPSHOTD_E2E_REVISIONS", 0)
	if revisions == 0 {
		t.Skip("SNAPSHOTD_E2E_REVISIONS is not set")
	}
	w := &world{etcd: testenv.StartCluster(t, 1), dir: t.TempDir()}
	client := w.etcd.Client(t)
	if _, err := client.Put(t.Context(), "first", ""); err != nil {
		t.Fatal(err)
	}
	s := start(t, options{}, "--config", journaled(t, t.TempDir(), w.etcd.Endpoints(), map[string]string{"local": "file://" + w.dir}))
	s.follows(2)
	base := s.list()[0]
	last := updates(t, w.etcd, revisions)
	eventually(t, "the journal is on the backend", func() bool { return s.window().timeline("").last() >= last })
	s.kill()

	segments, bytes := w.segments(t)
	restore := func(choice ...string) (time.Duration, int64) {
		data := filepath.Join(t.TempDir(), "etcd")
		defer func() { _ = os.RemoveAll(data) }()
		return measured(t, exec.Command(program(t, ""), append(choice, "--from", "file://"+w.dir, "--data-dir", data)...))
	}
	var took, memory [2][]float64
	for range envInt(t, "SNAPSHOTD_E2E_ROUNDS", 5) {
		for i, choice := range [][]string{{"restore", base.Name}, {"restore", "--revision", fmt.Sprint(last)}} {
			d, peak := restore(choice...)
			took[i], memory[i] = append(took[i], d.Seconds()), append(memory[i], mib(peak))
		}
	}
	t.Logf("%s\n%d revisions from %d to %d, in %d segments of %d bytes in all, with their manifests", machine(t), last-base.Revision,
		base.Revision+1, last, segments, bytes)
	for i, name := range []string{"the snapshot alone", "with the journal"} {
		t.Logf("%s: %.2f s, %.1f MiB anonymous at its peak (medians; all %.2f s, %.1f MiB)", name, median(took[i]), median(memory[i]),
			took[i], memory[i])
	}
	t.Logf("%.2f s and %.1f MiB more", median(took[1])-median(took[0]), slices.Max(memory[1])-slices.Min(memory[0]))
}

// updates puts so many values, as fast as eight clients can, and returns the last revision.
func updates(t *testing.T, cluster *testenv.Cluster, n int64) int64 {
	t.Helper()
	const clients, keys = 8, 5000
	var working sync.WaitGroup
	last := make([]int64, clients)
	for c := range clients {
		client := cluster.Client(t)
		working.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(c)))
			value := make([]byte, 600)
			for i := int64(c); i < n; i += clients {
				for j := range 400 {
					value[j] = byte(rnd.Uint32())
				}
				resp, err := client.Put(t.Context(), fmt.Sprintf("/registry/pods/default/pod-%05d", i%keys), string(value))
				if err != nil {
					t.Error(err)
					return
				}
				last[c] = resp.Header.Revision
			}
		})
	}
	working.Wait()
	return slices.Max(last)
}

// measured runs a program, and returns how long it took and the most anonymous memory that it had.
func measured(t *testing.T, cmd *exec.Cmd) (took time.Duration, peak int64) {
	t.Helper()
	out := &testenv.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := samplePeak(cmd.Process.Pid, 2*time.Millisecond)
	err := cmd.Wait()
	took = time.Since(begin)
	if peak = stop(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return took, peak
}

// segments returns how many segments are in the directory, and the bytes of them and of their manifests.
func (w *world) segments(t *testing.T) (n int, bytes int64) {
	t.Helper()
	for _, file := range w.files(t) {
		rel, err := filepath.Rel(w.dir, file)
		if err != nil {
			t.Fatal(err)
		}
		if ok, _ := filepath.Match("default/journal/*/*/*", rel); !ok {
			continue
		}
		info, err := os.Stat(file)
		if os.IsNotExist(err) {
			continue // it was merged meanwhile
		}
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(file) == ".seg" {
			n++
		}
		bytes += info.Size()
	}
	return n, bytes
}
