//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestOlderReleasesOfEtcd goes the whole way with each release of etcd that clusters still run: saved, proven by a
// drill, restored from the bucket, and started by the release that it came from.
func TestOlderReleasesOfEtcd(t *testing.T) {
	for _, release := range testenv.OlderReleases {
		t.Run(release, func(t *testing.T) { wholeWay(t, testenv.Release(release)) })
	}
}

func wholeWay(t *testing.T, release testenv.ClusterOption) {
	w := newWorld(t, 8<<20, release)
	client := w.etcd.Client(t)
	if _, err := client.Grant(t.Context(), 3600); err != nil {
		t.Fatal(err)
	}
	s := start(t, w.options(), w.args(t, "")...)
	s.save()
	saved := s.list()[0]
	want := liveHash(t, client, w.etcd.Endpoints()[0], saved.Revision)
	if out := s.must("verify", "latest", "--level", "drill"); !strings.Contains(out, "the same as the live cluster's") {
		t.Errorf("the drill said %s", out)
	}
	s.kill()

	from := []string{"latest", "--from", w.s3URL("")}
	data := filepath.Join(t.TempDir(), "data")
	w.must(t, program(t, ""), append([]string{"restore", "--data-dir", data}, from...)...)
	restored := testenv.StartRestored(t, data, release)
	if got := liveHash(t, restored.Client(t), restored.Endpoints()[0], saved.Revision); got != want {
		t.Errorf("HashKV is %d, and was %d", got, want)
	}

	bumped := filepath.Join(t.TempDir(), "data")
	w.must(t, program(t, ""), append([]string{"restore", "--for-kubernetes", "--data-dir", bumped}, from...)...)
	status := testenv.StartRestored(t, bumped, release).Status(t, 0)
	if status.Header.Revision < saved.Revision+1_000_000_000 {
		t.Errorf("restored for Kubernetes its revision is %d, the snapshot's was %d", status.Header.Revision, saved.Revision)
	}
}
