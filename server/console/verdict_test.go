package console_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/server/console"
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

func onLocalAlone(s *stored) { s.status.Locations = s.status.Locations[:1] }

// hours are scheduled snapshots an hour apart, the newest of some age.
func hours(age time.Duration) []*snapshot.Record {
	var all []*snapshot.Record
	for i := range 5 {
		all = append(all, saved("h", age+time.Duration(i)*time.Hour, scheduled, proven))
	}
	return all
}

func TestTheVerdictOnACluster(t *testing.T) {
	const hour = time.Hour
	for name, c := range map[string]struct {
		records []*snapshot.Record
		want    console.Verdict
		says    []string // of each finding, in order
	}{
		"saved and proven": {[]*snapshot.Record{saved("a", hour, proven)}, console.Safe, nil},
		"proven once":      {[]*snapshot.Record{saved("b", hour), saved("a", 50*hour, proven)}, console.Safe, nil},
		"a save under way": {[]*snapshot.Record{
			saved("b", 0, saving), saved("a", hour, proven),
		}, console.Safe, nil},
		"nothing at all": {nil, console.Danger, []string{"no snapshot that could be restored"}},
		"nothing but a save": {[]*snapshot.Record{saved("a", 0, saving)}, console.Danger,
			[]string{"no snapshot that could be restored; one is being saved"}},
		"never proven": {[]*snapshot.Record{saved("a", hour)}, console.Attention,
			[]string{"No restore was ever proven"}},
		"a failed save": {[]*snapshot.Record{saved("b", 0, nowhere), saved("a", hour, proven)}, console.Danger,
			[]string{"The last save failed: read the snapshot: etcd does not answer"}},
		"saved after it failed": {[]*snapshot.Record{
			saved("b", 0), saved("a", hour, nowhere), saved("c", 2*hour, proven),
		}, console.Safe, nil},
		"a failed copy": {[]*snapshot.Record{saved("b", 0, notOnS3), saved("a", hour, proven)},
			console.Attention, []string{"did not reach every backend: put it into s3: access denied",
				"1 copy is waiting to be brought to s3"}},
		"only a failed copy": {[]*snapshot.Record{saved("b", 0, notOnS3, proven)}, console.Attention, []string{
			"No snapshot is on all of its backends; the newest that can be restored is b", "did not reach", "waiting",
		}},
		"two copies wait": {[]*snapshot.Record{saved("c", 0, proven), saved("b", hour, notOnS3),
			saved("a", hour, notOnS3)}, console.Attention, []string{"2 copies are waiting"}},
		"a backend without any": {[]*snapshot.Record{saved("a", hour, proven, onLocalAlone)}, console.Attention,
			[]string{"s3 holds none"}},
		"on a fallback alone": {[]*snapshot.Record{saved("a", 0, onFallback)}, console.Danger, []string{
			"on the disk of node-1 alone", "The last save failed", "brought to local", "brought to s3",
		}},
		"the newest is no good": {[]*snapshot.Record{saved("b", hour, disproved), saved("a", 2*hour, proven)},
			console.Danger, []string{"b, did not pass its verification: a page is broken"}},
		"an older one is no good": {[]*snapshot.Record{saved("b", hour, proven), saved("a", 2*hour, disproved)},
			console.Attention, []string{"a did not pass its last verification"}},
		"a damaged copy was replaced": {[]*snapshot.Record{saved("b", hour, copiedAnew), saved("a", 2*hour, proven)},
			console.Attention, []string{"b did not pass its last verification, and none since was"}},
		"a schedule that goes on": {hours(hour + time.Minute), console.Safe, nil},
		"a schedule that has stopped": {hours(5 * hour), console.Attention,
			[]string{"No scheduled save for 5h; the ones before began about every 60m"}},
		"encrypted, and read back": {[]*snapshot.Record{saved("a", hour, encrypted, readBack)}, console.Safe,
			[]string{"They are encrypted"}},
		"encrypted, and never read": {[]*snapshot.Record{saved("a", hour, encrypted)}, console.Attention,
			[]string{"No restore was ever proven"}},
		"encrypted, and proven": {[]*snapshot.Record{saved("a", hour, encrypted, proven)}, console.Safe, nil},
		"adopted alone":         {[]*snapshot.Record{saved("a", 5*hour, adopted, proven)}, console.Safe, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := console.VerdictOn("prod", []string{"local", "s3"}, c.records, true, now)
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
	c := console.VerdictOn("prod", []string{"local", "s3"}, []*snapshot.Record{
		saved("c", 0, saving), saved("b", time.Minute, notOnS3), saved("a", time.Hour, proven),
	}, false, now)
	local, s3 := c.Backends[0], c.Backends[1]
	if local.Last != "READY" || local.Newest.Name != "b" || local.Newest.URI != "file:///backups/prod/b.db.zst" ||
		local.Waiting != 0 {
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
	c := console.VerdictOn("prod", []string{"local", "s3"}, []*snapshot.Record{saved("a", 0)}, false, now)
	if len(c.Findings) != 1 || !strings.Contains(c.Findings[0].Text, "newest 1 snapshots") {
		t.Errorf("the findings are %q", c.Findings)
	}
}

func TestTheMarkChangesWithEveryRecord(t *testing.T) {
	rec := saved("a", 0)
	mark := func(records ...*snapshot.Record) string {
		return console.VerdictOn("prod", []string{"local", "s3"}, records, true, now).Mark
	}
	before := mark(rec, saved("b", 0))
	if again := mark(rec, saved("b", 0)); again != before {
		t.Errorf("%s has become %s", before, again)
	}
	if less := mark(rec); less == before {
		t.Error("one that is gone is not seen")
	}
	rec.Version++
	if changed := mark(rec, saved("b", 0)); changed == before {
		t.Error("one that has changed is not seen")
	}
}

func TestACatalogThatCannotBeReadIsNoVerdict(t *testing.T) {
	c := console.Unreadable("prod", []string{"local"}, errors.New("etcd has no leader"))
	if c.Verdict != console.Unknown || c.Newest != nil || !strings.Contains(c.Findings[0].Text, "etcd has no leader") ||
		c.Backends[0].Name != "local" {
		t.Errorf("it is %+v", c)
	}
}

// A node that never led has saved nothing to its own directory, which is no finding; a shared backend without a copy is one.
func TestDirectoryOfANodeMayBeEmpty(t *testing.T) {
	for backend, want := range map[string]bool{"local@server-2": false, "s4": true} {
		v := console.VerdictOn("prod", []string{backend, "s3"}, []*snapshot.Record{saved("a", time.Minute, proven)}, true, now)
		found := false
		for _, f := range v.Findings {
			found = found || strings.Contains(f.Text, backend+" holds none")
		}
		if found != want {
			t.Errorf("%s without a copy: %+v", backend, v.Findings)
		}
func TestAlarmsInsideTheNewestSnapshotNeedAttention(t *testing.T) {
	alarmed := func(s *stored) { s.Alarms = []string{"NOSPACE 8e9e05c52164694d"} }
	c := console.VerdictOn("prod", []string{"local", "s3"}, []*snapshot.Record{saved("a", time.Minute, proven, alarmed)}, true, now)
	if c.Verdict != console.Attention || len(c.Findings) != 1 || !strings.Contains(c.Findings[0].Text, "NOSPACE 8e9e05c52164694d") ||
		!strings.Contains(c.Findings[0].Text, "refuses writes") {
		t.Errorf("%+v", c)
	}
}
