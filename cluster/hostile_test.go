package cluster_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Whoever can write to a backend can put any manifest there. None of them makes the service fall over, keeps it from
// seeing the rest, or leads it out of its place.
func TestHostileManifestsDoNoHarm(t *testing.T) {
	f := newFixture(t)
	good := f.mustSave(t)
	doc := string(read(t, f.path("one", good.Name, ".json")))
	data := read(t, f.path("one", good.Name, ".db.zst"))
	swap := func(old, now string) string {
		if !strings.Contains(doc, old) {
			t.Fatalf("the manifest has no %s", old)
		}
		return strings.Replace(strings.Replace(doc, good.Name, "evil", 1), old, now, 1)
	}
	field := func(name, value string) string { return swap("{\n", "{\n  \""+name+"\": "+value+",\n") }
	last := func(name, value string) string { return swap("\n}\n", ",\n  \""+name+"\": "+value+"\n}\n") }
	many, _ := json.Marshal(manyLabels(40000))
	for what, manifest := range map[string]string{
		"name of another directory": last("name", `"../../evil"`),
		"no name":                   last("name", `""`),
		"negative sizes":            last("storedSizeBytes", `"-1"`),
		"size beyond all":           last("storedSizeBytes", `"99999999999999999999"`),
		"largest size":              last("dbSizeBytes", `"9223372036854775807"`),
		"negative revision":         last("revision", `"-9223372036854775808"`),
		"year 0":                    last("createTime", `"0000-01-01T00:00:00Z"`),
		"year 9999":                 last("createTime", `"9999-12-31T23:59:59Z"`),
		"no time":                   last("createTime", `"yesterday"`),
		"duration without end":      last("duration", `"1e999s"`),
		"backends":                  last("backends", `["../x","one","one","","three"]`),
		"key twice":                 field("storedSha256", `"`+strings.Repeat("0", 64)+`"`),
		"deep":                      field("x", strings.Repeat("[", 100000)+strings.Repeat("]", 100000)),
		"10 MB":                     field("x", `"`+strings.Repeat("x", 10<<20)+`"`),
		"900 kB of bad UTF-8":       last("node", `"`+strings.Repeat("\xff", 900<<10)+`"`),
		"many labels":               last("labels", string(many)),
		"version of the future":     last("formatVersion", "2147483648"),
		"null":                      "null\n",
		"list":                      "[]\n",
		"nothing":                   "",
	} {
		t.Run(what, func(t *testing.T) {
			writeFile(t, f.path("one", "evil", ".json"), manifest)
			writeFile(t, f.path("one", "evil", ".db.zst"), string(data))
			f.clock.pass(2 * time.Hour)
			for range 2 {
				f.mustReconcile(t)
			}
			for name, rec := range f.records(t) {
				if name != "evil" && name != good.Name {
					t.Errorf("there is a record %q", name)
				}
				if name == good.Name && rec.State() != snapshot.StateReady {
					t.Errorf("the good one is %v: %s", rec.State(), rec.ErrorText())
				}
			}
			if rec := f.records(t)["evil"]; rec != nil {
				if _, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: "evil"}); err == nil && rec.State() != snapshot.StateReady {
					t.Errorf("it is %v and was verified", rec.State())
				}
				if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: "evil"}); err != nil {
					t.Errorf("delete: %v", err)
				}
			}
			for _, suffix := range []string{".json", ".db.zst"} {
				if err := os.Remove(f.path("one", "evil", suffix)); err != nil && !os.IsNotExist(err) {
					t.Fatal(err)
				}
			}
			f.mustReconcile(t)
			if n := len(f.records(t)); n != 1 {
				t.Errorf("%d records are left", n)
			}
		})
	}
}

func manyLabels(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[strings.Repeat("k", i%100)+time.Duration(i).String()] = "v"
	}
	return m
}

// A record that is READY finds a manifest that is larger than any beside its data.
func TestOversizeManifestIsAFailedLocation(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	writeFile(t, f.path("one", s.Name, ".json"), strings.Repeat(" ", 2<<20))
	writeFile(t, f.path("one", s.Name, ".db.zst"), "other")
	if r := f.reconcile(t, cluster.ReconcileRequest{})["one"]; !snapshot.IsDamage(r.Err) {
		t.Errorf("the report of the backend: %+v", r)
	}
	rec := f.records(t)[s.Name]
	if l := rec.Location("one"); l == nil || l.State != snapshot.StateFailed || rec.State() != snapshot.StatePartial {
		t.Errorf("%v: %+v", rec.State(), rec.Locations())
	}
	if r := f.reconcile(t, cluster.ReconcileRequest{Repair: true})["one"]; !snapshot.IsDamage(r.Err) || r.Repaired != 1 {
		t.Errorf("repair: %+v", r)
	}
}

// A name that no snapshot has cannot be asked for on every backend; it is somebody else's file.
func TestNamesOfOthersAreForeign(t *testing.T) {
	f := newFixture(t)
	f.mustSave(t)
	for _, name := range []string{"a\nb", "\xff\xfe", "-rf", " ", strings.Repeat("n", 240), "\u202etxt"} {
		writeFile(t, f.path("one", name, ".db.zst"), "data")
		writeFile(t, f.path("one", name, ".json"), "{}")
	}
	f.clock.pass(2 * time.Hour)
	if r := f.mustReconcile(t)["one"]; r.Foreign != 12 || r.Listed != 1 {
		t.Errorf("%+v", r)
	}
}
