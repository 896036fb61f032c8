package cluster_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/repository/signing"
	"github.com/snapshotd/snapshotd/snapshot"
)

// newSigner returns a signer and who believes it.
func newSigner(t *testing.T) (*signing.Signer, *signing.Trust) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signing.NewSigner(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	trust := signing.NewTrust(false)
	trust.AddSigner(signer)
	return signer, trust
}

func signed(t *testing.T) func(*cluster.Config) {
	t.Helper()
	signer, trust := newSigner(t)
	return func(c *cluster.Config) { c.Signer, c.Trust = signer, trust }
}

// A manifest that is not what was signed is an error of its backend, its location is FAILED, and nothing of it is
// adopted or deleted; the good copy stays what it is.
func TestReconcileDoesNotBelieveAChangedManifest(t *testing.T) {
	f := newFixture(t, signed(t))
	s := f.mustSave(t)
	manifest := f.path("two", s.Name, ".json")
	good := read(t, manifest)
	unsigned, _, _ := strings.Cut(string(good), ",\n  \"signature\"")
	for what, bad := range map[string]string{
		"changed":         strings.Replace(string(good), `"revision": "`, `"revision": "1`, 1),
		"without signing": unsigned + "\n}\n",
		"cut off":         string(good[:len(good)/2]),
		"empty":           "",
	} {
		t.Run(what, func(t *testing.T) {
			writeFile(t, manifest, bad)
			f.forget(t, s.Name)
			f.clock.pass(48 * time.Hour) // leftovers are old enough to be swept
			for range 3 {
				reports := f.reconcile(t, cluster.ReconcileRequest{})
				wantUntrusted(t, reports["two"].Err)
				if reports["one"].Err != nil || reports["two"].Swept != 0 || reports["two"].Removed != 0 {
					t.Errorf("reports %+v", reports)
				}
				rec := f.records(t)[s.Name]
				if rec == nil || rec.State() != snapshot.StatePartial || rec.Revision != s.Revision {
					t.Fatalf("record %+v", rec)
				}
				if l := rec.Location("two"); l.State != snapshot.StateFailed || !strings.Contains(l.Error, "not trusted") || l.Size != s.StoredSize {
					t.Errorf("location %+v", l)
				}
				if l := rec.Location("one"); l.State != snapshot.StateReady {
					t.Errorf("location %+v", l)
				}
			}
			for _, suffix := range []string{".db.zst", ".json"} {
				if _, err := os.Stat(f.path("two", s.Name, suffix)); err != nil {
					t.Error(err)
				}
			}
			_, err := place(f.backends["two"], f.cfg.Trust).ReadManifest(t.Context(), s.Name)
			wantUntrusted(t, err)

			writeFile(t, manifest, string(good)) // a person has put it back
			f.mustReconcile(t)
			if rec := f.records(t)[s.Name]; rec.State() != snapshot.StateReady {
				t.Errorf("with the good manifest again: %s, %s", rec.State(), rec.ErrorText())
			}
		})
	}
}

func wantUntrusted(t *testing.T, err error) {
	t.Helper()
	if snapshot.ReasonOf(err) != snapshot.ReasonManifestUntrusted {
		t.Errorf("%v, want MANIFEST_UNTRUSTED", err)
	}
}

// Where no manifest can be believed there is no snapshot; the backends say why.
func TestReconcileAdoptsNothingThatIsNotSigned(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	f.forget(t, s.Name)
	strict := f.replica(t, signed(t))
	reports, err := strict.Reconcile(t.Context(), cluster.ReconcileRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range reports {
		wantUntrusted(t, r.Err)
		if r.Added != 0 {
			t.Errorf("report %+v", r)
		}
	}
	if rec := f.records(t)[s.Name]; rec != nil {
		t.Errorf("record %+v", rec)
	}
}

// A save whose replica died is not settled as READY by a manifest that is not believed.
func TestUntrustedManifestDoesNotSettleASave(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	rec := f.records(t)[s.Name]
	rec = forge(rec, func(st *snapshot.Status, b *snapshot.Bookkeeping) {
		st.State, b.Owner = snapshot.StateSaving, "node-1/dead"
	})
	if err := f.catalog.Update(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	strict := f.replica(t, signed(t))
	if _, err := strict.Reconcile(t.Context(), cluster.ReconcileRequest{}); err != nil {
		t.Fatal(err)
	}
	if rec := f.records(t)[s.Name]; rec.State() != snapshot.StateFailed || !strings.Contains(rec.ErrorText(), "not trusted") {
		t.Errorf("settled as %s: %s", rec.State(), rec.ErrorText())
	}
}

// Repair spreads no manifest that is not believed.
func TestRepairDoesNotBelieveAChangedManifest(t *testing.T) {
	f := newFixture(t, signed(t))
	name := f.partialSave(t, cluster.SaveRequest{})
	manifest := f.path("one", name, ".json")
	good := read(t, manifest)
	bad := strings.Replace(string(good), `"revision": "`, `"revision": "1`, 1)
	writeFile(t, manifest, bad)
	reports := f.reconcile(t, cluster.ReconcileRequest{Repair: true})
	if snapshot.ReasonOf(reports["one"].Err) != snapshot.ReasonManifestUntrusted || len(f.files(t, "two")) != 0 {
		t.Errorf("%+v, and two has %q", reports, f.files(t, "two"))
	}
	if l := f.records(t)[name].Location("one"); l == nil || l.State != snapshot.StateFailed {
		t.Errorf("the location is %+v", l)
	}
}

// A manifest on the target of a repair that is not believed is replaced by one that is.
func TestRepairReplacesAChangedManifest(t *testing.T) {
	f := newFixture(t, signed(t))
	other := f.mustSave(t).Name
	writeFile(t, f.path("two", other, ".json"), strings.Replace(string(read(t, f.path("two", other, ".json"))), `"revision": "`, `"revision": "1`, 1))
	f.forget(t, other)
	f.reconcile(t, cluster.ReconcileRequest{})
	f.reconcile(t, cluster.ReconcileRequest{Repair: true})
	if got, want := read(t, f.path("two", other, ".json")), read(t, f.path("one", other, ".json")); string(got) != string(want) {
		t.Errorf("the manifest on two was not replaced:\n%s", got)
	}
	f.twins(t, other)
}

// An alert names the backends with wrong bytes, by the verification as by the reconcile after it.
func TestAManifestThatIsNotTrustedIsNoDamageOfTheBytes(t *testing.T) {
	f := newFixture(t, signed(t))
	s := f.mustSave(t)
	writeFile(t, f.path("two", s.Name, ".json"), "{}\n")
	if _, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: s.Name, Level: snapshot.LevelChecksum}); err == nil {
		t.Fatal("it has passed")
	}
	if on, told := f.seen.failed[s.Name]; !told || len(on) > 0 {
		t.Errorf("the verification tells of wrong bytes on %q", on)
	}
	f.reconcile(t, cluster.ReconcileRequest{})
	if on, told := f.seen.damaged[s.Name]; !told || len(on) > 0 {
		t.Errorf("reconcile tells of wrong bytes on %q", on)
	}
}
