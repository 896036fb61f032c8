package cluster_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// fullSource gives a snapshot of an etcd with an alarm.
type fullSource struct {
	storedSource
	alarm string
}

func (s *fullSource) Snapshot(ctx context.Context) (*cluster.Stream, error) {
	stream, err := s.storedSource.Snapshot(ctx)
	if err == nil {
		data := testenv.Alarmed(s.t, s.current().Data, s.alarm)
		stream.ReadCloser, stream.Size = io.NopCloser(bytes.NewReader(data)), int64(len(data))
	}
	return stream, err
}

// Alarms come back with a restore, so whoever looks at a snapshot has to see them.
func TestAlarmsInASnapshotAreKept(t *testing.T) {
	const alarm = "NOSPACE 8e9e05c52164694d"
	drill := &fakeDriller{}
	f := newFixture(t, func(c *cluster.Config) { c.Source, c.Driller = &fullSource{storedSource{t: t}, alarm}, drill })
	res, err := f.Save(t.Context(), cluster.SaveRequest{})
	if err != nil {
		t.Fatal(err)
	}
	s := res.Snapshot
	if !slices.Equal(s.Alarms, []string{alarm}) || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], alarm) {
		t.Errorf("alarms %v, warnings %q", s.Alarms, res.Warnings)
	}
	m, err := f.replicaRepository(t, "one").ReadManifest(t.Context(), s.Name)
	if err != nil || !slices.Equal(m.Record.Alarms, []string{alarm}) {
		t.Errorf("in the manifest: %+v, %v", m, err)
	}
	drill.said = repository.Drilled{TotalKeys: s.TotalKeys, Disarmed: []string{alarm}}
	rec := f.verify(t, s.Name, snapshot.LevelDrill)
	if !slices.Equal(rec.Verification.Disarmed, []string{alarm}) || !slices.Equal(rec.Proof.Disarmed, []string{alarm}) {
		t.Errorf("the verdict of a drill does not tell: %+v", rec.Verification)
	}
}

func TestAlarmsInASnapshotOfAnotherProgramAreKept(t *testing.T) {
	const alarm = "CORRUPT 0000000000000001"
	f := newFixture(t)
	dir := filepath.Join(f.dirs["one"], "default")
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "theirs.db"), testenv.Alarmed(t, testenv.Stored(t, 0).Data, alarm), 0o600)
	}
	if err == nil { // younger files may still be written
		hour := time.Now().Add(-time.Hour)
		err = os.Chtimes(filepath.Join(dir, "theirs.db"), hour, hour)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.mustReconcile(t)
	if rec := f.records(t)["theirs"]; !slices.Equal(rec.Alarms, []string{alarm}) {
		t.Errorf("as it was adopted: %v", rec.Alarms)
	}
	rec := f.records(t)["theirs"].Copy() // an older version has adopted it
	rec.Alarms = nil
	if err := f.catalog.Update(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	if rec := f.verify(t, "theirs", snapshot.LevelStructure); !slices.Equal(rec.Alarms, []string{alarm}) {
		t.Errorf("as it was verified: %v", rec.Alarms)
	}
}

// replicaRepository is the repository of a backend, as another replica sees it.
func (f *fixture) replicaRepository(t *testing.T, backend string) *repository.Repository {
	t.Helper()
	return repository.New(repository.Config{Backend: f.backends[backend], Cluster: "default", Prefix: "default/"})
}
