package status_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

var now = time.Date(2026, 7, 15, 3, 0, 0, 0, time.UTC)

// saved is a snapshot of some age on both backends; change makes others of it.
func saved(name string, age time.Duration, change ...func(*stored)) *snapshot.Record {
	at := now.Add(-age)
	s := &stored{
		Snapshot: snapshot.Snapshot{
			Name: name, Cluster: "prod", Trigger: snapshot.TriggerManual, CreateTime: at,
			Revision: 7, TotalKeys: 3, DBSize: 4096, StoredSize: 100, StoredSHA256: "ab",
		},
		status: snapshot.Status{State: snapshot.StateReady, Locations: []snapshot.Location{
			{Backend: "local", State: snapshot.StateReady, URI: "file:///backups/prod/" + name + ".db.zst", UpdateTime: at},
			{Backend: "s3", State: snapshot.StateReady, URI: "s3://backups/prod/" + name + ".db.zst", UpdateTime: at},
		}},
	}
	for _, f := range change {
		f(s)
	}
	return snapshot.WithBookkeeping(snapshot.WithStatus(s.Snapshot, s.status), s.book)
}

// stored is a record as the catalog stores it.
type stored struct {
	snapshot.Snapshot
	status snapshot.Status
	book   snapshot.Bookkeeping
}

func proven(s *stored) {
	s.Verification = &snapshot.Verification{Level: snapshot.LevelDrill, Passed: true, Time: s.CreateTime.Add(time.Minute)}
	s.Proof = s.Verification
}

func notOnS3(s *stored) {
	s.status.State, s.status.Error = snapshot.StatePartial, "put it into s3: access denied"
	s.status.Locations[1].State, s.status.Locations[1].Error = snapshot.StateFailed, "access denied"
	s.book.Repairs = []snapshot.Repair{{Backend: "s3", Attempts: 2, Next: now.Add(time.Minute), Error: "access denied"}}
}

func nowhere(s *stored) {
	s.status.State, s.status.Error = snapshot.StateFailed, "read the snapshot: etcd does not answer"
	for i := range s.status.Locations {
		s.status.Locations[i].State, s.status.Locations[i].Error = snapshot.StateFailed, "nothing came"
	}
}

// damagedOn is a snapshot whose copies on some backends were stored, and found damaged since.
func damagedOn(backends ...string) func(*stored) {
	return func(s *stored) {
		s.status.State = snapshot.StatePartial
		if len(backends) == len(s.status.Locations) {
			s.status.State = snapshot.StateFailed
		}
		s.book.Damaged = backends
		for i := range s.status.Locations {
			if l := &s.status.Locations[i]; slices.Contains(backends, l.Backend) {
				l.State, l.Error = snapshot.StateFailed, "wrong bytes"
			}
		}
	}
}

func disproved(s *stored) {
	s.Verification = &snapshot.Verification{
		Level: snapshot.LevelDrill, Error: "a page is broken", Time: s.CreateTime.Add(time.Minute),
	}
}

func copiedAnew(s *stored) {
	disproved(s)
	s.status.Locations[1].UpdateTime = s.Verification.Time.Add(time.Minute)
}

func encrypted(s *stored) { s.EncryptionRecipients = []string{"age1x"} }

func readBack(s *stored) {
	s.Verification = &snapshot.Verification{
		Level: snapshot.LevelChecksum, Passed: true, StoredOnly: true, Time: s.CreateTime.Add(time.Minute),
	}
}

func scheduled(s *stored) { s.Trigger = snapshot.TriggerScheduled }

func adopted(s *stored) { s.Trigger = snapshot.TriggerAdopted }

func saving(s *stored) {
	s.status.State = snapshot.StateSaving
	for i := range s.status.Locations {
		s.status.Locations[i].State = snapshot.StateSaving
	}
}

func onFallback(s *stored) {
	nowhere(s)
	s.book.FallbackNode = "node-1"
}

func alarmed(s *stored) { s.Alarms = []string{"NOSPACE 8e9e05c52164694d"} }

func onLocalAlone(s *stored) { s.status.Locations = s.status.Locations[:1] }

// judge judges a cluster with two backends.
func judge(records []*snapshot.Record, all bool) status.Cluster {
	return status.Judge(status.Known{
		Name: "prod", Places: []status.Place{{Name: "local", Free: -1}, {Name: "s3", Free: -1}}, Records: records, All: all, Now: now,
	})
}

func TestTheVerdictOnACluster(t *testing.T) {
	const hour = time.Hour
	for name, c := range map[string]struct {
		records []*snapshot.Record
		want    status.Verdict
		says    []string // of each finding, in order
	}{
		"saved and proven": {[]*snapshot.Record{saved("a", hour, proven)}, status.Safe, nil},
		"proven once":      {[]*snapshot.Record{saved("b", hour), saved("a", 50*hour, proven)}, status.Safe, nil},
		"a save under way": {[]*snapshot.Record{
			saved("b", 0, saving), saved("a", hour, proven),
		}, status.Safe, nil},
		"nothing at all": {nil, status.NotSafe, []string{"no snapshot that could be restored"}},
		"nothing but a save": {[]*snapshot.Record{saved("a", 0, saving)}, status.NotSafe,
			[]string{"no snapshot that could be restored; one is being saved"}},
		"never proven": {[]*snapshot.Record{saved("a", hour)}, status.Attention,
			[]string{"No restore was ever proven"}},
		"a failed save": {[]*snapshot.Record{saved("b", 0, nowhere), saved("a", hour, proven)}, status.NotSafe,
			[]string{"The last save failed: read the snapshot: etcd does not answer"}},
		"saved, and one copy found damaged": {[]*snapshot.Record{
			saved("b", 0, damagedOn("s3")), saved("a", hour, proven),
		}, status.Attention, []string{"A copy of the newest snapshot, b, is damaged: s3 is FAILED: wrong bytes", "1 copy is waiting"}},
		"saved, and found damaged": {[]*snapshot.Record{
			saved("b", 0, damagedOn("local", "s3")), saved("a", hour, proven),
		}, status.NotSafe, []string{"The newest snapshot, b, is damaged: local is FAILED: wrong bytes"}},
		"saved after it failed": {[]*snapshot.Record{
			saved("b", 0), saved("a", hour, nowhere), saved("c", 2*hour, proven),
		}, status.Safe, nil},
		"a failed copy": {[]*snapshot.Record{saved("b", 0, notOnS3), saved("a", hour, proven)},
			status.Attention, []string{"did not reach every backend: put it into s3: access denied",
				"1 copy is waiting to be brought to s3"}},
		"only a failed copy": {[]*snapshot.Record{saved("b", 0, notOnS3, proven)}, status.Attention, []string{
			"No snapshot is on all of its backends; the newest that can be restored is b", "did not reach", "waiting",
		}},
		"two copies wait": {[]*snapshot.Record{saved("c", 0, proven), saved("b", hour, notOnS3),
			saved("a", hour, notOnS3)}, status.Attention, []string{"2 copies are waiting"}},
		"a backend without any": {[]*snapshot.Record{saved("a", hour, proven, onLocalAlone)}, status.Attention,
			[]string{"s3 holds none"}},
		"on a fallback alone": {[]*snapshot.Record{saved("a", 0, onFallback)}, status.NotSafe, []string{
			"on the disk of node-1 alone", "The last save failed", "brought to local", "brought to s3",
		}},
		"the newest is no good": {[]*snapshot.Record{saved("b", hour, disproved), saved("a", 2*hour, proven)},
			status.NotSafe, []string{"b, did not pass its verification: a page is broken"}},
		"an older one is no good": {[]*snapshot.Record{saved("b", hour, proven), saved("a", 2*hour, disproved)},
			status.Attention, []string{"a did not pass its last verification"}},
		"a damaged copy was replaced": {[]*snapshot.Record{saved("b", hour, copiedAnew), saved("a", 2*hour, proven)},
			status.Attention, []string{"b did not pass its last verification, and none since was"}},
		"encrypted, and read back": {[]*snapshot.Record{saved("a", hour, encrypted, readBack)}, status.Safe,
			[]string{"They are encrypted"}},
		"encrypted, and never read": {[]*snapshot.Record{saved("a", hour, encrypted)}, status.Attention,
			[]string{"No restore was ever proven"}},
		"encrypted, and proven": {[]*snapshot.Record{saved("a", hour, encrypted, proven)}, status.Safe, nil},
		"the newest has an alarm": {[]*snapshot.Record{saved("a", hour, proven, alarmed)}, status.Attention,
			[]string{"NOSPACE 8e9e05c52164694d"}},
		"adopted alone": {[]*snapshot.Record{saved("a", 5*hour, adopted, proven)}, status.Safe, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := judge(c.records, true)
			if got.Verdict != c.want || len(got.Findings) != len(c.says) {
				t.Fatalf("%s, findings %q; want %s", got.Verdict, got.Findings, c.want)
			}
			for i, f := range got.Findings {
				if !strings.Contains(f.Text, c.says[i]) || len(f.Do) == 0 {
					t.Errorf("finding %d is %q, do %q; want %q", i, f.Text, f.Do, c.says[i])
				}
			}
		})
	}
}

func TestWhatIsSaidOfEachBackend(t *testing.T) {
	c := judge([]*snapshot.Record{
		saved("c", 0, saving), saved("b", time.Minute, notOnS3), saved("a", time.Hour, proven),
	}, false)
	local, s3 := c.Backends[0], c.Backends[1]
	if local.Last != "READY" || local.Newest.Name != "b" || local.Waiting != 0 {
		t.Errorf("local is %+v", local)
	}
	if s3.Last != "FAILED" || s3.Error != "access denied" || s3.Newest.Name != "a" || s3.Waiting != 1 ||
		!s3.Next.Equal(now.Add(time.Minute)) {
		t.Errorf("s3 is %+v", s3)
	}
	if c.Saving.Name != "c" || c.LastSave.Name != "b" || c.Newest.Name != "a" || c.Proven.Name != "a" || c.Examined != 3 ||
		c.All {
		t.Errorf("the cluster is %+v", c)
	}
}

func TestWhatWasNotExaminedAtIsNotDenied(t *testing.T) {
	c := judge([]*snapshot.Record{saved("a", 0)}, false)
	if len(c.Findings) != 1 || !strings.Contains(c.Findings[0].Text, "newest 1 snapshots") {
		t.Errorf("the findings are %q", c.Findings)
	}
}

// Nothing is said against a cluster that nobody has asked, and the command asks it.
func TestACatalogThatWasNotAskedIsNotToldAsOneThatCannotBeRead(t *testing.T) {
	c := status.Judge(status.Known{
		Name: "prod", Places: []status.Place{{Name: "s3", URL: "s3://b", Free: -1}}, Now: now, NotAsked: true,
		Err: errors.New("its turn did not come within 20s"), Certificates: []status.Certificate{{File: "c.pem", End: now.Add(-time.Hour)}},
	})
	if c.Verdict != status.Unknown || len(c.Findings) != 2 || len(c.Backends) != 1 || !slices.Equal(c.Findings[0].Do, []string{"status"}) ||
		c.Findings[0].Text != "The catalog was not asked, so nothing is known here: its turn did not come within 20s. This command asks it." ||
		!strings.Contains(c.Findings[1].Text, "c.pem") {
		t.Errorf("it is %+v", c)
	}
}

// The configuration still says where the snapshots are, and commands that can be pasted.
func TestACatalogThatCannotBeReadIsNoVerdict(t *testing.T) {
	const url = "s3://backups?endpoint=https%3A%2F%2Fs3.example&use_path_style=true"
	known := status.Known{
		Name: "prod", Store: status.Store{Prefix: "prod/"}, Places: []status.Place{
			{Name: "local", Kind: snapshot.BackendLocal, URI: "file:///srv/", URL: "file:///srv", Free: -1},
			{Name: "s3", Kind: snapshot.BackendS3, URI: "s3://backups/", URL: url, Free: -1},
		},
		Schedules: []status.Schedule{every("hourly", time.Hour)}, Err: errors.New("etcd has no leader"), Now: now,
	}
	c := status.Judge(known)
	if c.Verdict != status.Unknown || c.Newest != nil || !strings.Contains(c.Findings[0].Text, "etcd has no leader") ||
		c.Backends[1].Name != "s3" || c.Backends[1].URL != url || c.Backends[1].Snapshots != -1 {
		t.Errorf("it is %+v", c)
	}
	if len(c.Schedules) != 1 || !c.Schedules[0].Next.Equal(now.Add(time.Hour)) {
		t.Errorf("the schedules are %+v", c.Schedules)
	}
	const places = " --from file:///srv --from " + url
	for name, tc := range map[string]struct {
		change         func(*status.Known)
		lists, restore string
	}{
		"as usual":  {func(*status.Known) {}, "list --from " + url, "restore latest" + places + " --data-dir DIR --dry-run"},
		"no folder": {func(k *status.Known) { k.Store.Prefix = "" }, "list --from " + url + " --prefix ", "restore latest" + places + " --prefix  --data-dir DIR --dry-run"},
		"encrypted and signed": {func(k *status.Known) { k.Store = status.Store{Prefix: "x/", Encrypted: true, Signed: true} },
			"list --from " + url + " --prefix x/",
			"restore latest" + places + " --prefix x/ --identity FILE --signing-public-key-file PUBLIC_KEY --data-dir DIR --dry-run"},
		"a directory alone": {func(k *status.Known) { k.Places = k.Places[:1] }, "list --from file:///srv",
			"restore latest --from file:///srv --data-dir DIR --dry-run"},
	} {
		k := known
		k.Places = slices.Clone(known.Places)
		tc.change(&k)
		found := status.Judge(k).Findings
		if len(found) != 2 {
			t.Errorf("%s: the findings are %q", name, found)
			continue
		}
		for i, want := range []string{tc.lists, tc.restore} {
			if do := strings.Join(found[i].Do, " "); do != want {
				t.Errorf("%s: what to do is %q, want %q", name, do, want)
			}
		}
	}
}

// What is told to do against a want of proof is what the service, or a person with an identity, can do.
func TestOfEncryptedSnapshotsTheServiceProvesWhatItCanDecrypt(t *testing.T) {
	const (
		drill = "verify a --level drill"
		byKey = "verify a --from s3://backups --prefix x/ --identity FILE --signing-public-key-file PUBLIC_KEY --level drill"
	)
	decoded := func(s *stored) { readBack(s); s.Verification.StoredOnly = false }
	for name, tc := range map[string]struct {
		decrypts bool
		records  []*snapshot.Record
		want     status.Verdict
		do       string
	}{
		"no identity, never read":  {false, []*snapshot.Record{saved("a", time.Hour, encrypted)}, status.Attention, "verify a"},
		"no identity, read back":   {false, []*snapshot.Record{saved("a", time.Hour, encrypted, readBack)}, status.Safe, byKey},
		"identity, never read":     {true, []*snapshot.Record{saved("a", time.Hour, encrypted)}, status.Attention, drill},
		"identity, decrypted":      {true, []*snapshot.Record{saved("a", time.Hour, encrypted, decoded)}, status.Attention, drill},
		"identity since read back": {true, []*snapshot.Record{saved("a", time.Hour, encrypted, readBack)}, status.Attention, drill},
	} {
		c := status.Judge(status.Known{
			Name: "prod", Store: status.Store{Prefix: "x/", Decrypts: tc.decrypts, Signed: true}, Records: tc.records, All: true, Now: now,
			Places: []status.Place{{Name: "other", URL: "file:///other", Free: -1}, {Name: "s3", URL: "s3://backups", Free: -1}},
		})
		c.Findings = slices.DeleteFunc(c.Findings, func(f status.Finding) bool { return strings.HasPrefix(f.Text, "other holds none") })
		if len(c.Findings) != 1 || c.Findings[0].Verdict != tc.want || strings.Join(c.Findings[0].Do, " ") != tc.do {
			t.Errorf("%s: the findings are %q", name, c.Findings)
		}
	}
}

// A backend is held to the schedules that go there: one that is rarely chosen holds none of the newest snapshots.
func TestABackendOfARareScheduleMayHoldNoneOfTheNewest(t *testing.T) {
	hourly, monthly := every("hourly", time.Hour), every("monthly", 720*time.Hour)
	hourly.Backends, monthly.Backends = []string{"local"}, []string{"s3"}
	all := []status.Schedule{hourly, monthly}
	onLocal := saved("h", 10*time.Minute, by("hourly"), proven, onLocalAlone)
	for name, tc := range map[string]struct {
		schedules []status.Schedule
		records   []*snapshot.Record
		found     bool
	}{
		"none of its runs was examined":  {all, []*snapshot.Record{onLocal}, false},
		"one was, without a copy there":  {all, []*snapshot.Record{onLocal, saved("m", time.Hour, by("monthly"), onLocalAlone)}, true},
		"all schedules go there":         {[]status.Schedule{every("hourly", time.Hour)}, []*snapshot.Record{onLocal}, true},
		"a schedule that is gone":        {all, []*snapshot.Record{onLocal, saved("o", time.Hour, by("other"), onLocalAlone)}, false},
		"by hand, for the other backend": {all, []*snapshot.Record{onLocal, saved("o", time.Hour, onLocalAlone)}, false},
	} {
		c := status.Judge(status.Known{
			Name: "prod", Places: []status.Place{{Name: "local", Free: -1}, {Name: "s3", Free: -1}}, Schedules: tc.schedules,
			Ran: map[string]time.Time{"hourly": now}, Records: tc.records, Now: now,
		})
		i := slices.IndexFunc(c.Findings, func(f status.Finding) bool { return strings.HasPrefix(f.Text, "s3 holds none") })
		if (i >= 0) != tc.found || len(c.Findings) > 1 {
			t.Errorf("%s: the findings are %q", name, c.Findings)
			continue
		}
		if i >= 0 && strings.Join(c.Findings[i].Do, " ") != "reconcile --repair --backend s3" {
			t.Errorf("%s: what to do is %q", name, c.Findings[i].Do)
		}
	}
}

// every is a schedule that is due at each multiple of a duration.
func every(name string, d time.Duration) status.Schedule {
	next := func(after time.Time) time.Time { return after.Truncate(d).Add(d) }
	return status.Schedule{Name: name, Cron: "@every " + d.String(), Next: next}
}

// by makes a snapshot one of a schedule.
func by(schedule string) func(*stored) {
	return func(s *stored) { s.Trigger, s.Schedule = snapshot.TriggerScheduled, schedule }
}

// It is three o'clock. Each schedule is held to its own times, whatever the others have saved.
func TestEachScheduleIsJudgedByItself(t *testing.T) {
	const hour = time.Hour
	hourly, nightly := every("hourly", hour), every("nightly", 24*hour)
	recent := saved("h", 10*time.Minute, by("hourly"), proven)
	for name, c := range map[string]struct {
		schedules []status.Schedule
		ran       map[string]time.Time
		records   []*snapshot.Record
		want      status.Verdict
		says      []string
	}{
		"all is well": {[]status.Schedule{hourly, nightly}, map[string]time.Time{"hourly": now, "nightly": now.Add(-3 * hour)},
			[]*snapshot.Record{recent}, status.Safe, nil},
		"two nightly ones, of which the second is later": {[]status.Schedule{nightly, every("other", 24*hour)},
			map[string]time.Time{"nightly": now.Add(-3 * hour), "other": now.Add(-3 * hour)}, []*snapshot.Record{
				saved("b", 3*hour-5*time.Minute, by("other"), proven), saved("a", 3*hour, by("nightly"), proven),
				saved("y", 27*hour, by("nightly"), proven),
			}, status.Safe, nil},
		"a dead nightly one beside an hourly one": {[]status.Schedule{hourly, nightly},
			map[string]time.Time{"hourly": now, "nightly": now.Add(-27 * hour)}, []*snapshot.Record{recent}, status.Attention,
			[]string{"Schedule nightly (@every 24h0m0s) was due 3h ago"}},
		"it has just begun": {[]status.Schedule{hourly}, map[string]time.Time{"hourly": now.Add(-hour)},
			[]*snapshot.Record{saved("h", hour, by("hourly"), proven)}, status.Safe, nil},
		"it is being saved": {[]status.Schedule{nightly}, map[string]time.Time{"nightly": now.Add(-27 * hour)},
			[]*snapshot.Record{saved("n", 20*time.Minute, by("nightly"), saving), saved("h", hour, proven)}, status.Safe, nil},
		"all are dead": {[]status.Schedule{hourly}, map[string]time.Time{"hourly": now.Add(-5 * hour)},
			[]*snapshot.Record{saved("h", 5*hour, by("hourly"), proven)}, status.NotSafe, []string{"No schedule has stored anything"}},
		"the state of a schedule is not known": {[]status.Schedule{hourly}, nil, []*snapshot.Record{recent}, status.Safe, nil},
		"somebody's clock was wrong": {[]status.Schedule{hourly}, map[string]time.Time{"hourly": now.Add(99 * hour)},
			[]*snapshot.Record{recent}, status.Safe, nil},
	} {
		t.Run(name, func(t *testing.T) {
			leader := "node-1"
			got := status.Judge(status.Known{
				Name: "prod", Places: []status.Place{{Name: "local", Free: -1}, {Name: "s3", Free: -1}}, Schedules: c.schedules,
				Ran: c.ran, Records: c.records, All: true, Leader: &leader, Now: now,
			})
			if got.Verdict != c.want || len(got.Findings) != len(c.says) {
				t.Fatalf("%s, findings %q; want %s", got.Verdict, got.Findings, c.want)
			}
			for i, f := range got.Findings {
				if !strings.Contains(f.Text, c.says[i]) {
					t.Errorf("finding %d is %q; want %q", i, f.Text, c.says[i])
				}
			}
		})
	}
}

// Snapshots of older versions name their schedule in a label alone.
func TestTheLastRunOfAScheduleIsShown(t *testing.T) {
	old := saved("n", 3*time.Hour, scheduled, notOnS3)
	old.Labels = map[string]string{"schedule": "nightly"}
	got := status.Judge(status.Known{
		Name: "prod", Records: []*snapshot.Record{saved("h", 0, by("hourly")), old}, Now: now, All: true,
		Schedules: []status.Schedule{every("nightly", 24*time.Hour)}, Ran: map[string]time.Time{"nightly": now.Add(-3 * time.Hour)},
	}).Schedules[0]
	if got.Last == nil || got.Last.Name != "n" || got.Last.State() != snapshot.StatePartial || !got.Next.Equal(now.Add(21*time.Hour)) || got.Overdue {
		t.Errorf("the schedule is %+v", got)
	}
}

func TestWithoutALeaderNothingRunsByItself(t *testing.T) {
	nobody := ""
	c := status.Judge(status.Known{
		Name: "prod", Records: []*snapshot.Record{saved("a", 0, proven)}, All: true, Now: now, Leader: &nobody,
		Schedules: []status.Schedule{every("hourly", time.Hour)}, Ran: map[string]time.Time{"hourly": now},
	})
	if c.Verdict != status.Attention || !strings.Contains(c.Findings[0].Text, "No replica leads") {
		t.Errorf("it is %+v", c)
	}
	// Without a schedule, the leader reconciles, repairs, and follows the journal.
	for want, j := range map[string]*status.Journal{"or repair runs. One": nil, "or repair runs, and the journal does not go on.": {}} {
		c = status.Judge(status.Known{
			Name: "prod", Records: []*snapshot.Record{saved("a", 0, proven)}, All: true, Now: now, Leader: &nobody, Journal: j,
		})
		if c.Verdict != status.Attention || len(c.Findings) != 1 || !strings.Contains(c.Findings[0].Text, want) {
			t.Errorf("without a schedule, it is %+v", c)
		}
	}
}

// The newest snapshots may be among those whose records nobody can read.
func TestRecordsThatCannotBeReadNeedAttention(t *testing.T) {
	bad := []error{errors.New("key /a is damaged; etcdctl del /a"), errors.New("key /b is damaged")}
	for name, tc := range map[string]struct {
		records []*snapshot.Record
		want    status.Verdict
		says    string
	}{
		"others can":  {[]*snapshot.Record{saved("a", time.Hour, proven)}, status.Attention, "at least 2, "},
		"none can":    {nil, status.NotSafe, "no snapshot that could be restored among the 0 that could be read."},
		"by the list": {[]*snapshot.Record{saved("a", time.Hour, proven)}, status.Attention, "One of them: key /a is damaged; etcdctl del /a. This"},
	} {
		c := status.Judge(status.Known{
			Name: "prod", Places: []status.Place{{Name: "local", Free: -1}, {Name: "s3", Free: -1}}, Records: tc.records, Bad: bad, Now: now,
		})
		if c.Verdict != tc.want || !strings.Contains(c.Findings[0].Text, tc.says) ||
			!slices.ContainsFunc(c.Findings, func(f status.Finding) bool { return slices.Equal(f.Do, []string{"list"}) }) {
			t.Errorf("%s: %s, %q", name, c.Verdict, c.Findings)
		}
	}
}

func TestABackendSaysHowMuchItHoldsAndTakes(t *testing.T) {
	full := status.Known{
		Name: "prod", Places: []status.Place{{Name: "local", Free: 150}, {Name: "s3", Free: -1}},
		Records: []*snapshot.Record{saved("b", 0, proven), saved("a", time.Hour)}, All: true, Now: now,
	}
	for i := range full.Records {
		st := snapshot.Status{State: snapshot.StateReady, Locations: full.Records[i].Locations()}
		st.Locations[0].Size, st.Locations[1].Size = 100, 100
		full.Records[i] = snapshot.WithBookkeeping(snapshot.WithStatus(full.Records[i].Snapshot, st), full.Records[i].Bookkeeping())
	}
	c := status.Judge(full)
	if b := c.Backends[0]; b.Snapshots != 2 || b.Bytes != 200 || b.Free != 150 {
		t.Errorf("it is %+v", b)
	}
	if c.Verdict != status.Attention ||
		!strings.Contains(c.Findings[0].Text, "local has room for less than two more snapshots: 150 B are free, and the newest has ") {
		t.Errorf("the findings are %q", c.Findings)
	}
	full.All = false // then others must count
	if b := status.Judge(full).Backends[0]; b.Snapshots != -1 || b.Bytes != -1 {
		t.Errorf("uncounted, it is %+v", b)
	}
}

func TestWhoJoinsASaveLateSeesHowFarItIs(t *testing.T) {
	var s status.Saves
	see := func(ev snapshot.Event) {
		ev.Cluster, ev.Name = "prod", "a"
		s.Observe(t.Context(), ev)
	}
	see(snapshot.Event{Type: snapshot.EventStarted, Time: now})
	see(snapshot.Event{Type: snapshot.EventProgress, Done: 7, Total: 10})
	see(snapshot.Event{Type: snapshot.EventProgress, Backend: "s3", Done: 3})
	see(snapshot.Event{Type: snapshot.EventProgress, Backend: "local", Done: 8})
	half := snapshot.WithStatus(snapshot.Snapshot{Name: "a"}, snapshot.Status{State: snapshot.StateSaving, Locations: []snapshot.Location{
		{Backend: "local", State: snapshot.StateReady, Size: 9}, {Backend: "s3", State: snapshot.StateSaving},
	}})
	see(snapshot.Event{Type: snapshot.EventLocationDone, Backend: "local", Snapshot: half})
	if m := s.Of("prod"); m == nil || m.Read != 7 || m.Total != 10 || m.Written["s3"] != 3 || m.Written["local"] != 9 || !m.Since.Equal(now) {
		t.Errorf("it is %+v", m)
	}
	if told := s.Events(); len(told) != 3 || told[0].Type != snapshot.EventStarted || told[0].Done != 7 || told[2].Backend != "s3" {
		t.Errorf("a watcher is told %+v", told)
	}
	see(snapshot.Event{Type: snapshot.EventFinished})
	if m := s.Of("prod"); m != nil {
		t.Errorf("when it has ended, it is %+v", m)
	}
}

// A node that never led has saved nothing to its own directory, which is no finding; a shared backend without a copy is
// one.
func TestDirectoryOfANodeMayBeEmpty(t *testing.T) {
	for backend, want := range map[string]bool{"local@server-2": false, "s4": true} {
		v := status.Judge(status.Known{
			Name: "prod", Places: []status.Place{{Name: backend, Free: -1}, {Name: "s3", Free: -1}}, All: true, Now: now,
			Records: []*snapshot.Record{saved("a", time.Minute, proven)},
		})
		found := false
		for _, f := range v.Findings {
			found = found || strings.Contains(f.Text, backend+" holds none")
		}
		if found != want {
			t.Errorf("%s without a copy: %+v", backend, v.Findings)
		}
	}
}

// The newest verdict counts: a journal that led to a later snapshot is good from there on.
func TestAJournalThatDoesNotLeadToASnapshotNeedsAttention(t *testing.T) {
	record := func(name string, age time.Duration, v *snapshot.Verification) *snapshot.Record {
		rec := saved(name, age, proven)
		rec.JournalProof = v
		return rec
	}
	failed, passed := &snapshot.Verification{Error: "HashKV differs"}, &snapshot.Verification{Passed: true}
	for name, tc := range map[string]struct {
		records []*snapshot.Record
		found   bool
	}{
		"not checked":     {[]*snapshot.Record{record("b", time.Minute, nil)}, false},
		"passed":          {[]*snapshot.Record{record("b", time.Minute, passed), record("a", time.Hour, failed)}, false},
		"failed":          {[]*snapshot.Record{record("b", time.Minute, failed), record("a", time.Hour, passed)}, true},
		"the last failed": {[]*snapshot.Record{record("c", time.Second, nil), record("b", time.Minute, failed)}, true},
	} {
		c := status.Judge(status.Known{Name: "prod", Places: []status.Place{{Name: "local"}}, Records: tc.records, All: true, Now: now})
		found := slices.ContainsFunc(c.Findings, func(f status.Finding) bool {
			return f.Verdict == status.Attention && strings.Contains(f.Text, "does not lead to b") && strings.Contains(f.Text, "HashKV differs")
		})
		if found != tc.found {
			t.Errorf("%s: %+v", name, c.Findings)
		}
	}
}

func TestAJournalThatIsBehindNeedsAttention(t *testing.T) {
	judged := func(points ...snapshot.RecoveryPoint) []status.Finding {
		return status.Judge(status.Known{
			Name: "prod", Places: []status.Place{{Name: "local"}, {Name: "s3"}}, Records: []*snapshot.Record{saved("a", time.Minute, proven)},
			All: true, Now: now, Journal: &status.Journal{Following: true, Points: points},
		}).Findings
	}
	for _, f := range judged(snapshot.RecoveryPoint{Age: time.Second}, snapshot.RecoveryPoint{Backend: "s3", Age: time.Minute, Error: "it was slow"}) {
		if strings.Contains(f.Text, "journal") {
			t.Errorf("a minute is too long: %+v", f)
		}
	}
	found := judged(snapshot.RecoveryPoint{Age: time.Hour}, snapshot.RecoveryPoint{Backend: "s3", Age: 10 * time.Minute, Error: "access denied."},
		snapshot.RecoveryPoint{Backend: "local", Age: time.Second, Damaged: 2})
	texts := ""
	for _, f := range found {
		if f.Verdict == status.Attention && len(f.Do) == 1 && f.Do[0] == "window" {
			texts += f.Text + "\n"
		}
	}
	want := "The journal is 1h0m0s behind on the disk of the leading replica: its log says why etcd is not followed.\n" +
		"The journal is 10m0s behind on backend s3: access denied.\n" +
		"2 segments of the journal on backend local are damaged, or not trusted. The next repair replaces them, within 20 min, if " +
		"another backend has their revisions. The log of the replica that found them names them.\n"
	if texts != want {
		t.Errorf("it says\n%swant\n%s", texts, want)
	}
}

// The leader notes it in the catalog, so that the others have the same verdict.
func TestTheOtherReplicasTellWhereTheJournalIsBehind(t *testing.T) {
	points := []snapshot.RecoveryPoint{
		{Age: time.Second}, {Backend: "s3", Age: 10 * time.Minute, Error: "access denied."}, {Backend: "local", Age: time.Second, Damaged: 2},
	}
	leader, other, nobody := "node-1", "node-2", ""
	judged := func(j *status.Journal, leads *string) string {
		k := scrubbed(nil, saved("a", time.Minute, proven))
		k.Node, k.Leader, k.Journal = "node-3", leads, j
		return found(k)
	}
	told := func(points ...snapshot.JournalPoint) *status.Journal {
		return &status.Journal{Notes: snapshot.JournalNotes{Trouble: &snapshot.JournalTrouble{Node: leader, Points: points}}}
	}
	noted := told(
		snapshot.JournalPoint{Backend: "s3", Complete: now.Add(-10 * time.Minute), Error: "access denied."},
		snapshot.JournalPoint{Backend: "local", Damaged: 2},
	)
	want := judged(&status.Journal{Following: true, Points: points}, &leader)
	if strings.Count(want, "attention") != 2 || !strings.Contains(want, "10m0s behind on backend s3: access denied") {
		t.Fatalf("the leader says\n%s", want)
	}
	for name, leads := range map[string]*string{"it leads": &leader, "it is not known who leads": nil} {
		if got := judged(noted, leads); got != want {
			t.Errorf("%s: another replica says\n%s\nthe leader\n%s", name, got, want)
		}
	}
	if got := judged(noted, &nobody); !strings.Contains(got, want) {
		t.Errorf("nobody leads any more: it says\n%s", got)
	}
	if got := judged(noted, &other); got != "" {
		t.Errorf("another one leads: it says\n%s", got)
	}
	if got := judged(told(), &leader); got != "" {
		t.Errorf("all is well, and it says\n%s", got)
	}
}
