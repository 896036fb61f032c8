//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// steps are the fault points of Save, in their order.
var steps = []string{
	"locked", "registered", "fetched", "inspected", "data-local", "data-s3", "manifest-local", "manifest-s3", "concluded",
	"recorded",
}

// TestKilledAtEveryStepLosesNothingAndLiesAboutNothing is acceptance 5: kill -9 at each step, restart, reconcile.
func TestKilledAtEveryStepLosesNothingAndLiesAboutNothing(t *testing.T) {
	w := newWorld(t, 0)
	kills := int(envInt(t, "SNAPSHOTD_E2E_KILLS", 2))
	config := w.quickConfig(t)
	o := w.options()
	o.tags = "faultpoints"
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			for range kills {
				doomed := o
				doomed.env = append(doomed.env[:len(doomed.env):len(doomed.env)], "SNAPSHOTD_FAULT_POINT="+step)
				victim := start(t, doomed, "--config", config)
				r := victim.run("save")
				if r.code == 0 {
					t.Fatalf("the save went through: %s", r.stdout)
				}
				<-victim.done
				survivor := start(t, o, "--config", config)
				w.settled(t, survivor)
				eventually(t, "the lock of the dead runs out", func() bool { return survivor.run("save").code == 0 })
				w.settled(t, survivor)
				survivor.kill()
			}
		})
	}
}

// quickConfig writes a configuration with which the traces of a crash are soon settled, and returns its file.
func (w *world) quickConfig(t *testing.T) string {
	t.Helper()
	return writeConfig(t, `
reconcile_interval: 1h
clusters:
  - name: default
    etcd: {endpoints: [%q]}
    lock_ttl: 2s
    leftover_age: 1ms
    backends:
      - {name: local, url: %q}
      - {name: s3, url: %q}
`, w.etcd.Endpoints()[0], "file://"+w.dir, w.s3URL(""))
}

// After a kill in the middle of a removal, reconcile ends the removal, or takes it back when no manifest was marked
// yet.
func TestKilledWhileDeletingLeavesNothingHalf(t *testing.T) {
	w := newWorld(t, 0)
	config := w.quickConfig(t)
	o := w.options()
	o.tags = "faultpoints"
	for _, step := range []string{"deleting", "marked", "data-deleted", "deleted"} {
		t.Run(step, func(t *testing.T) {
			doomed := o
			doomed.env = append(doomed.env[:len(doomed.env):len(doomed.env)], "SNAPSHOTD_FAULT_POINT="+step)
			victim := start(t, doomed, "--config", config)
			name := victim.save()
			if r := victim.run("delete", name); r.code == 0 {
				t.Fatalf("the removal went through: %s", r.stdout)
			}
			<-victim.done
			survivor := start(t, o, "--config", config)
			w.settled(t, survivor)
			want := 6
			if step == "deleting" {
				want = 0 // only the catalog said so, and nothing in the catalog alone removes a copy
			}
			if r := survivor.run("get", name); r.code != want {
				t.Errorf("get: exit code %d, want %d: %s%s", r.code, want, r.stdout, r.stderr)
			}
			survivor.kill()
		})
	}
}

// settled reconciles until nothing is SAVING any more, and then compares the catalog with the backends: whole copies
// are READY, READY copies are whole, and nothing else is left.
func (w *world) settled(t *testing.T, s *service) {
	t.Helper()
	var snaps []snap
	// The leader reconciles by itself, too, and sweeps what an earlier run has settled: two runs must have found nothing.
	quiet := 0
	eventually(t, "reconcile settles what the dead left", func() bool {
		quiet++
		rec, r := s.reconcile()
		if r.code != 0 {
			t.Fatalf("reconcile: exit code %d: %s", r.code, r.stderr)
		}
		snaps = s.list()
		for _, sn := range snaps {
			if sn.State == "STATE_SAVING" {
				quiet = 0
			}
		}
		for _, b := range rec.Backends {
			if b.Added+b.Updated+b.Removed+b.Swept > 0 {
				quiet = 0
			}
		}
		return quiet >= 2
	})
	ready := map[string]bool{} // <backend>/<name>
	for _, sn := range snaps {
		for _, l := range sn.Locations {
			if l.State == "STATE_READY" {
				ready[l.Backend+"/"+sn.Name] = true
				w.whole(t, l.Backend, sn)
			}
		}
	}
	for backend, keys := range map[string][]string{"local": w.files(t), "s3": w.objects(t)} {
		count := map[string]int{}
		for _, k := range keys {
			name := filepath.Base(k)
			name = strings.TrimSuffix(strings.TrimSuffix(name, ".db.zst"), ".json")
			count[name]++
		}
		for name, n := range count {
			if !ready[backend+"/"+name] || n != 2 {
				t.Errorf("left on %s: %d objects of %s, ready %v", backend, n, name, ready[backend+"/"+name])
			}
		}
	}
	uploads, err := w.s3.Client().ListMultipartUploads(t.Context(),
		&s3.ListMultipartUploadsInput{Bucket: aws.String(w.bucket)})
	if err != nil {
		t.Fatal(err)
	}
	if len(uploads.Uploads) > 0 {
		t.Errorf("%d unfinished uploads are left", len(uploads.Uploads))
	}
}

// file returns the name of a snapshot's data.
func (sn snap) file() string {
	if len(sn.EncryptionRecipients) > 0 {
		return sn.Name + ".db.zst.age"
	}
	return sn.Name + ".db.zst"
}

// whole holds the stored bytes against their checksum.
func (w *world) whole(t *testing.T, backend string, sn snap) {
	t.Helper()
	var stored []byte
	var err error
	if backend == "local" {
		stored, err = os.ReadFile(filepath.Join(w.dir, "default", sn.file()))
	} else {
		stored = w.object(t, "default/"+sn.file())
	}
	if err != nil || int64(len(stored)) != sn.StoredSizeBytes || hexSum(stored) != sn.StoredSha256 {
		t.Errorf("%s on %s is READY and not whole: %d bytes, %v", sn.Name, backend, len(stored), err)
	}
}
