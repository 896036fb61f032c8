package cluster_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/snapshot/retention"
)

// edited replaces a record by one with other facts, as whoever can write to etcd can do it.
func (f *fixture) edited(t *testing.T, name string, edit func(rec *snapshot.Record)) {
	t.Helper()
	rec := f.records(t)[name].Copy()
	edit(rec)
	if err := f.catalog.Catalog.Update(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
}

// forgeries are changes of the facts of a record that no replica makes, by the field.
func forgeries() map[string]func(rec *snapshot.Record) {
	const other = "0123456789abcdef"
	sum := strings.Repeat(other, 4)
	return map[string]func(rec *snapshot.Record){
		"cluster":           func(rec *snapshot.Record) { rec.Cluster = "another" },
		"size":              func(rec *snapshot.Record) { rec.DBSize += 512 },
		"checksum":          func(rec *snapshot.Record) { rec.SHA256 = sum },
		"stored size":       func(rec *snapshot.Record) { rec.StoredSize++ },
		"stored checksum":   func(rec *snapshot.Record) { rec.StoredSHA256 = sum },
		"revision":          func(rec *snapshot.Record) { rec.Revision++ },
		"highest revision":  func(rec *snapshot.Record) { rec.Revision = 1 << 62 },
		"oldest revision":   func(rec *snapshot.Record) { rec.OldestRevision = 1 << 62 },
		"keys":              func(rec *snapshot.Record) { rec.TotalKeys++ },
		"hash":              func(rec *snapshot.Record) { rec.Hash++ },
		"time of the past":  func(rec *snapshot.Record) { rec.CreateTime = time.Unix(1, 0).UTC() },
		"time of tomorrow":  func(rec *snapshot.Record) { rec.CreateTime = rec.CreateTime.Add(24 * time.Hour) },
		"time of year 9999": func(rec *snapshot.Record) { rec.CreateTime = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) },
		"trigger":           func(rec *snapshot.Record) { rec.Trigger = snapshot.TriggerManual },
		"adopted":           func(rec *snapshot.Record) { rec.Trigger = snapshot.TriggerAdopted },
		"no trigger":        func(rec *snapshot.Record) { rec.Trigger = snapshot.TriggerUnspecified },
		"not pinned":        func(rec *snapshot.Record) { rec.Pinned = false },
		"schedule":          func(rec *snapshot.Record) { rec.Schedule = "another" },
		"compression":       func(rec *snapshot.Record) { rec.Compression = snapshot.CompressionNone },
		"recipients":        func(rec *snapshot.Record) { rec.EncryptionRecipients = []string{"age1attacker"} },
		"etcd cluster":      func(rec *snapshot.Record) { rec.EtcdClusterID = other },
		"node":              func(rec *snapshot.Record) { rec.Node = "another" },
		"storage version":   func(rec *snapshot.Record) { rec.StorageVersion = "\x1b[2J" },
		"alarms":            func(rec *snapshot.Record) { rec.Alarms = []string{"CORRUPT " + other} },
		"request":           func(rec *snapshot.Record) { rec.RequestID = "another" },
		"file":              func(rec *snapshot.Record) { rec.File = "../../etc/passwd" },
		"generation":        func(rec *snapshot.Record) { rec.Generation += 5 },
		"highest gen":       func(rec *snapshot.Record) { rec.Generation = 1 << 53 },
		"location size": func(rec *snapshot.Record) {
			*rec = *forge(rec, func(st *snapshot.Status, _ *snapshot.Bookkeeping) { st.Locations[0].Size++ })
		},
		"highest location size": func(rec *snapshot.Record) {
			*rec = *forge(rec, func(st *snapshot.Status, _ *snapshot.Bookkeeping) { st.Locations[0].Size = 1 << 62 })
		},
		"proof": func(rec *snapshot.Record) {
			rec.Verified(snapshot.Verification{Level: snapshot.LevelDrill, Passed: true, Time: rec.CreateTime}, false)
		},
	}
}

// A record that was changed in one field makes no byte of a snapshot go, and no manifest say something else: once the
// record is removed, reconcile makes it anew as it was.
func TestARecordThatWasChangedInOneFieldCostsNothing(t *testing.T) {
	for what, edit := range forgeries() {
		t.Run(what, func(t *testing.T) {
			f := newFixture(t, keeping(retention.Rules{KeepLast: 2, OnDemand: true, Adopted: true}), signed(t))
			f.scheduled(t, 2)
			victim := f.scheduled(t, 1)[0]
			if _, err := f.Update(t.Context(), cluster.UpdateRequest{Name: victim, Pinned: new(true)}); err != nil {
				t.Fatal(err)
			}
			newest := f.scheduled(t, 2)
			want := f.records(t)[victim]
			f.clock.pass(2 * time.Hour)
			f.edited(t, victim, edit)
			for range 2 {
				_, _ = f.Reconcile(t.Context(), cluster.ReconcileRequest{Repair: true})
				_, _ = f.Prune(t.Context(), cluster.PruneRequest{})
				_, _ = f.Verify(t.Context(), cluster.VerifyRequest{Name: victim, Level: snapshot.LevelChecksum})
				_, _ = f.Update(t.Context(), cluster.UpdateRequest{Name: victim, Labels: map[string]string{"a": "b"}})
				f.clock.pass(2 * time.Hour)
			}
			f.forget(t, victim)
			f.mustReconcile(t)
			for _, name := range append(newest, victim) {
				rec := f.records(t)[name]
				if rec == nil || rec.State() != snapshot.StateReady || len(rec.ReadyOn()) != 2 {
					t.Fatalf("%s: %+v", name, rec)
				}
				if _, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: name, Level: snapshot.LevelStructure}); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if got, want := facts(f.records(t)[victim]), facts(want); got != want {
				t.Errorf("the manifests say\n%s, and said\n%s", got, want)
			}
		})
	}
}

// facts returns the part of a manifest that never changes.
func facts(rec *snapshot.Record) string {
	s := rec.Clone()
	return fmt.Sprint(s.Cluster, s.DBSize, s.SHA256, s.StoredSize, s.StoredSHA256, s.Revision, s.OldestRevision, s.TotalKeys, s.Hash,
		s.CreateTime, s.Trigger, s.Pinned, s.Schedule, s.Compression, s.EncryptionRecipients, s.EtcdClusterID, s.Node, s.StorageVersion,
		s.Alarms, rec.RequestID)
}

// An update writes labels and pin into the manifests. Whatever else the record says of the snapshot may come from
// anybody, and gets no signature.
func TestAnUpdateSignsNothingButItsChange(t *testing.T) {
	all := forgeries()
	delete(all, "adopted") // no manifest is written, and the catalog refuses a record without a file that is one
	for what, edit := range all {
		t.Run(what, func(t *testing.T) {
			f := newFixture(t, signed(t))
			name := f.mustSave(t).Name
			want := f.records(t)[name]
			f.edited(t, name, edit)
			labels := map[string]string{"a": "b"}
			_, err := f.Update(t.Context(), cluster.UpdateRequest{Name: name, Labels: labels})
			for _, b := range []string{"one", "two"} {
				m, rerr := place(f.backends[b], f.cfg.Trust).ReadManifest(t.Context(), name)
				if rerr != nil {
					t.Fatal(rerr)
				}
				if got, want := facts(m.Record), facts(want); got != want {
					t.Errorf("on %s the manifest says\n%s, and said\n%s", b, got, want)
				}
				if (err == nil) != maps.Equal(m.Record.Labels, labels) {
					t.Errorf("%v, and on %s there are the labels %v", err, b, m.Record.Labels)
				}
			}
		})
	}
}

// A manifest that nobody trusts gets no signature by an update, either.
func TestAnUpdateSignsNoManifestThatIsNotTrusted(t *testing.T) {
	f := newFixture(t, signed(t))
	name := f.mustSave(t).Name
	signed, _, _ := strings.Cut(string(read(t, f.path("one", name, ".json"))), ",\n  \"signature\"")
	writeFile(t, f.path("one", name, ".json"), signed+"\n}\n")
	_, err := f.Update(t.Context(), cluster.UpdateRequest{Name: name, Pinned: new(true)})
	wantUntrusted(t, err)
	_, err = place(f.backends["one"], f.cfg.Trust).ReadManifest(t.Context(), name)
	wantUntrusted(t, err)
	if m, err := place(f.backends["two"], f.cfg.Trust).ReadManifest(t.Context(), name); err != nil || !m.Record.Pinned {
		t.Errorf("on two: %+v, %v", m, err)
	}
}

// Old snapshots whose records were given new times take no place of the new ones.
func TestForgedTimesPushNothingOut(t *testing.T) {
	f := newFixture(t, keeping(retention.Rules{KeepLast: 3}), signed(t))
	names := f.scheduled(t, 7) // newest first
	f.clock.pass(2 * time.Hour)
	for i, name := range names[3:] {
		f.edited(t, name, func(rec *snapshot.Record) { rec.CreateTime = f.clock.Now().Add(-time.Duration(i) * time.Minute) })
	}
	for range 2 {
		decisions, err := f.Prune(t.Context(), cluster.PruneRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(decisions, func(d cluster.Decision) bool { return d.Err != nil && strings.Contains(d.Err.Error(), names[3]) }) {
			t.Error("no decision names the record")
		}
	}
	f.kept(t, names[:3]...)
}

// kept fails the test unless both backends still have the data of these snapshots.
func (f *fixture) kept(t *testing.T, names ...string) {
	t.Helper()
	for _, b := range []string{"one", "two"} {
		for _, name := range names {
			if !strings.Contains(strings.Join(f.files(t, b), " "), name+".db.zst") {
				t.Errorf("backend %s has lost %s", b, name)
			}
		}
	}
}

// sized gives the copies of a snapshot another size in its record.
func (f *fixture) sized(t *testing.T, name string, size func(int64) int64) {
	t.Helper()
	f.forged(t, name, func(_ *snapshot.Record, st *snapshot.Status, _ *snapshot.Bookkeeping) {
		for i := range st.Locations {
			st.Locations[i].Size = size(st.Locations[i].Size)
		}
	})
}

// A decision that counted the sizes and the records of the catalog removes nothing that a backend has with another
// size.
func TestForgedSizesRemoveNothing(t *testing.T) {
	for what, tc := range map[string]struct {
		rules retention.Rules
		forge func(t *testing.T, f *fixture, names []string)
	}{
		"one that is larger than the limit": {
			retention.Rules{MaxTotalBytes: 1 << 40},
			func(t *testing.T, f *fixture, names []string) {
				f.sized(t, names[1], func(int64) int64 { return 1 << 46 })
			},
		},
		"beside records of snapshots that do not exist": {
			retention.Rules{KeepLast: 3},
			func(t *testing.T, f *fixture, names []string) {
				f.invented(t, f.records(t)[names[0]], 5)
				for _, name := range names[1:3] {
					f.sized(t, name, func(size int64) int64 { return size + 1 })
				}
			},
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFixture(t, func(c *cluster.Config) {
				c.Retention = map[string]retention.Rules{"one": tc.rules, "two": tc.rules}
			})
			names := f.scheduled(t, 4)
			tc.forge(t, f, names)
			dry, err := f.Prune(t.Context(), cluster.PruneRequest{ValidateOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			decisions, err := f.Prune(t.Context(), cluster.PruneRequest{})
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range slices.Concat(dry, decisions) {
				if d.Name == names[1] && (!d.Stays || snapshot.ReasonOf(d.Err) != snapshot.ReasonConflict) {
					t.Errorf("%+v", d)
				}
			}
			f.kept(t, names[:3]...)
			f.intact(t, names[1])
		})
	}
}

// A listing may lack what is there. What the catalog alone knows of such a copy is not reason enough to remove it.
func TestPruneRemovesNothingThatOnlyTheListingLacks(t *testing.T) {
	f := newFixture(t, keeping(retention.Rules{KeepLast: 2}))
	names := f.scheduled(t, 3)
	f.backends["one"].hide = func(o repository.Object) bool { return strings.Contains(o.Key, names[2]) }
	for _, dry := range []bool{true, false} {
		decisions, err := f.Prune(t.Context(), cluster.PruneRequest{Backends: []string{"one"}, ValidateOnly: dry})
		if err != nil {
			t.Fatal(err)
		}
		if d := decisions[2]; d.Name != names[2] || snapshot.ReasonOf(d.Err) != snapshot.ReasonConflict {
			t.Errorf("dry %t: %+v", dry, d)
		}
	}
	f.kept(t, names...)
	f.backends["one"].hide = nil
	if got := f.pruneOne(t); len(got) != 2 || len(f.files(t, "one")) != 4 {
		t.Errorf("%q stay, and there is %q", got, f.files(t, "one"))
	}
}

// claimed makes the record of a snapshot that does not exist, in this state.
func claimed(state snapshot.State, edit func(*snapshot.Status), failures ...snapshot.Failure) func(*snapshot.Record) {
	return func(rec *snapshot.Record) {
		*rec = *forge(rec, func(st *snapshot.Status, b *snapshot.Bookkeeping) {
			edit(st)
			st.State, b.Failures = state, failures
		})
		rec.Name += "0"
	}
}

// The outcome of a request is that of its save. A record that claims the request of a save to come, as a schedule makes
// them, does not keep it from being saved.
func TestARequestIsNotAnsweredByAForgedRecord(t *testing.T) {
	for what, edit := range map[string]func(rec *snapshot.Record){
		"another snapshot": func(*snapshot.Record) {},
		"an adopted one":   func(rec *snapshot.Record) { rec.Trigger = snapshot.TriggerAdopted },
		"one that is gone": func(rec *snapshot.Record) { rec.Name += "0" },
		"one that is nowhere": claimed(snapshot.StateReady, func(st *snapshot.Status) {
			st.Locations = nil
		}),
		"one that is nowhere, with an error": claimed(snapshot.StateReady, func(st *snapshot.Status) {
			st.Locations = nil
		}, snapshot.Failure{Reason: snapshot.ReasonNoSpace, Message: "it is full"}),
		"one on a backend that is not configured": claimed(snapshot.StateReady, func(st *snapshot.Status) {
			st.Locations = []snapshot.Location{{Backend: "three", State: snapshot.StateReady, Size: 1}}
		}),
		"one on another node, where no backend is of a node": claimed(snapshot.StateReady, func(st *snapshot.Status) {
			st.Locations = []snapshot.Location{{Backend: "three@node-2", State: snapshot.StateReady, Size: 1}}
		}),
		"one that has failed without an error": claimed(snapshot.StateFailed, func(st *snapshot.Status) {
			for i := range st.Locations {
				st.Locations[i].State, st.Locations[i].Size = snapshot.StateFailed, 0
			}
		}),
	} {
		t.Run(what, func(t *testing.T) {
			f := newFixture(t)
			old := f.mustSave(t).Name
			fake := f.records(t)[old].Copy()
			fake.RequestID = "schedule/nightly/1700000000"
			edit(fake)
			if fake.Name != old {
				fake.Version = 0
				if err := f.catalog.Catalog.Create(t.Context(), fake); err != nil {
					t.Fatal(err)
				}
			} else if err := f.catalog.Catalog.Update(t.Context(), fake); err != nil {
				t.Fatal(err)
			}
			f.clock.pass(2 * time.Hour)
			req := cluster.SaveRequest{RequestID: fake.RequestID, Trigger: snapshot.TriggerScheduled}
			first, err := f.Save(t.Context(), req)
			if err != nil || first.Snapshot.Name == fake.Name {
				t.Fatalf("%+v, %v", first.Snapshot, err)
			}
			again, err := f.replica(t).Save(t.Context(), req)
			if err != nil || again.Snapshot.Name != first.Snapshot.Name {
				t.Errorf("then %+v, %v", again.Snapshot, err)
			}
			if rec := f.records(t)[old]; rec == nil || len(f.files(t, "one")) != 4 {
				t.Errorf("the other one: %+v", rec)
			}
		})
	}
}
