package catalog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/catalog/conformance"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	catalogv1 "github.com/snapshotd/snapshotd/proto/snapshotd/catalog/v1"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// The catalog's etcd is the cluster's own: whoever has a client certificate for it can write anything anywhere.

const (
	prefix  = "/snapshotd/v1/default/"
	lockKey = prefix + "lock/save"
)

func recordKey(name string) string { return prefix + "snapshots/" + name + ".~" }

func indexKey(at time.Time, name string) string {
	return fmt.Sprintf("%sby-time/%016x/%s", prefix, ^uint64(at.UnixNano()), name)
}

// value returns a key's value and lease.
func value(t *testing.T, client *clientv3.Client, key string) (string, int64) {
	t.Helper()
	resp, err := client.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return "", 0
	}
	return string(resp.Kvs[0].Value), resp.Kvs[0].Lease
}

func leased(t *testing.T, client *clientv3.Client, seconds int64) clientv3.OpOption {
	t.Helper()
	resp, err := client.Grant(t.Context(), seconds)
	if err != nil {
		t.Fatal(err)
	}
	return clientv3.WithLease(resp.ID)
}

// locks are values and leases in the place of a lock that no replica has put there.
func locks(t *testing.T, client *clientv3.Client) map[string]func(key string) {
	lease := func(seconds int64) clientv3.OpOption { return leased(t, client, seconds) }
	return map[string]func(key string){
		"no lease":            func(key string) { put(t, client, key, "node-1/OWNER") },
		"no lease, no value":  func(key string) { put(t, client, key, "") },
		"no lease, rubbish":   func(key string) { put(t, client, key, "\x00\xff") },
		"a lease for a day":   func(key string) { put(t, client, key, "node-1/OWNER", lease(86_400)) },
		"a lease for ever":    func(key string) { put(t, client, key, "node-1/OWNER", lease(9_000_000_000)) },
		"an empty value":      func(key string) { put(t, client, key, "", lease(600)) },
		"bytes that are text": func(key string) { put(t, client, key, "a\nb", lease(600)) },
		"no text":             func(key string) { put(t, client, key, "\xff\xfe", lease(600)) },
		"a large value":       func(key string) { put(t, client, key, strings.Repeat("x", 100<<10), lease(600)) },
	}
}

func TestLockOfNoReplicaIsTakenOver(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	var log bytes.Buffer
	c := open(t, catalog.Config{Connect: connect(client), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for what, forge := range locks(t, client) {
		forge(lockKey)
		if owner, err := c.LockOwner(t.Context()); owner != "" || err != nil {
			t.Errorf("%s: the owner is %q, %v", what, owner, err)
		}
		begin := snapshot.NewSave(conformance.Record("a", 0).Snapshot, "", "node-1/OWNER", nil)
		if strings.HasPrefix(what, "no lease") {
			if err := c.Begin(t.Context(), begin, nil); !errors.Is(err, snapshot.ErrLocked) {
				t.Errorf("%s: a save begins without the lock: %v", what, err)
			}
		}
		log.Reset()
		lock, err := c.Lock(t.Context(), "me")
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if !strings.Contains(log.String(), lockKey) {
			t.Errorf("%s: the log does not name the key: %s", what, &log)
		}
		if owner, err := c.LockOwner(t.Context()); owner != "me" || err != nil {
			t.Errorf("%s: then the owner is %q, %v", what, owner, err)
		}
		if _, err := c.Lock(t.Context(), "other"); !errors.Is(err, snapshot.ErrLocked) {
			t.Errorf("%s: a second lock: %v", what, err)
		}
		revokeOthers(t, client, lockKey)
		select {
		case <-lock.Lost():
			t.Errorf("%s: the lock goes away with the lease before it", what)
		default:
		}
		if owner, err := c.LockOwner(t.Context()); owner != "me" || err != nil {
			t.Errorf("%s: after the end of the other lease the owner is %q, %v", what, owner, err)
		}
		lock.Unlock(t.Context())
		if owner, lease := value(t, client, lockKey); owner != "" || lease != 0 {
			t.Errorf("%s: after it, the lock is %q", what, owner)
		}
	}
}

// revokeOthers ends all leases but that of a key.
func revokeOthers(t *testing.T, client *clientv3.Client, key string) {
	t.Helper()
	_, ours := value(t, client, key)
	resp, err := client.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range resp.Leases {
		if int64(l.ID) != ours {
			if _, err := client.Revoke(t.Context(), l.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestOneOfManyTakesALockOfNoReplicaOver(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	for round := range 5 {
		put(t, client, lockKey, fmt.Sprint("node-1/", round))
		var wg sync.WaitGroup
		errs := make([]error, 20)
		held := make(chan func(context.Context), len(errs))
		for i := range errs {
			wg.Go(func() {
				lock, err := c.Lock(t.Context(), fmt.Sprint("taker ", i))
				if errs[i] = err; err == nil {
					held <- lock.Unlock
				}
			})
		}
		wg.Wait()
		close(held)
		for _, err := range errs {
			if err != nil && !errors.Is(err, snapshot.ErrLocked) {
				t.Error(err)
			}
		}
		if len(held) != 1 {
			t.Fatalf("%d takers hold the lock", len(held))
		}
		for unlock := range held {
			unlock(t.Context())
		}
	}
}

// unreadable is a lease service that does not tell how long a lease lasts.
type unreadable struct{ clientv3.Lease }

func (unreadable) TimeToLive(
	context.Context, clientv3.LeaseID, ...clientv3.LeaseOption,
) (*clientv3.LeaseTimeToLiveResponse, error) {
	return nil, errors.New("permission denied")
}

// How far a save is, is believed only on the lease of the lock, and as far as it can be.
func TestWhatNoReplicaHasToldIsLeftOut(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	var log bytes.Buffer
	c := open(t, catalog.Config{Connect: connect(client), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	const key, good = prefix + "lock/told", `{"snapshot":"a","read_bytes":1}`
	mine := leased(t, client, 15)
	put(t, client, key, good, mine)
	told := func(what string, want bool) {
		t.Helper()
		if p, err := c.Told(t.Context()); err != nil || (p != nil) != want {
			t.Errorf("%s: told was %+v, %v", what, p, err)
		}
	}
	told("without a lock", false)
	put(t, client, lockKey, "node-2/OWNER", mine)
	told("beside the lock", true)
	put(t, client, key, good, leased(t, client, 15))
	told("on another lease", false)
	put(t, client, key, good)
	told("without a lease", false)
	for _, bad := range []string{
		"rubbish", "", `{"snapshot":"a/b"}`, `{"snapshot":"a","read_bytes":-1}`, `{"snapshot":"a","written_bytes":{"s3":9223372036854775807}}`,
		`{"snapshot":"a","elapsed_ns":-1}`, `{"snapshot":"` + strings.Repeat("a", 70_000) + `"}`,
	} {
		put(t, client, key, bad, mine)
		told(fmt.Sprintf("%.50s", bad), false)
		told(fmt.Sprintf("%.50s, again", bad), false)
		if n := strings.Count(log.String(), key); n != 1 {
			t.Errorf("%.50s: the log names the key %d times", bad, n)
		}
		log.Reset()
	}
}

// A lock that a replica may hold is left alone, and the error says how long it can last and how it is removed by hand.
func TestLockThatAReplicaMayHoldStays(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	stays := func(seconds int64, parts ...string) {
		t.Helper()
		put(t, client, lockKey, "node-2/OWNER", leased(t, client, seconds))
		_, err := c.Lock(t.Context(), "me")
		if !errors.Is(err, snapshot.ErrLocked) {
			t.Fatalf("%d seconds: %v", seconds, err)
		}
		for _, part := range append(parts, "node-2/OWNER", "etcdctl del "+lockKey) {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%d seconds: the error %q does not say %q", seconds, err, part)
			}
		}
		if owner, err := c.LockOwner(t.Context()); owner != "node-2/OWNER" || err != nil {
			t.Errorf("%d seconds: the owner is %q, %v", seconds, owner, err)
		}
	}
	stays(15, "whose lease ends in")
	stays(3600, "whose lease ends in")
	client.Lease = unreadable{client.Lease}
	stays(86_400, "permission denied") // it cannot be decided
}

func TestLeaderOfNoReplicaIsDeposed(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client), LockTTL: time.Hour})
	for what, forge := range locks(t, client) {
		forge(prefix + "leader")
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		led := false
		_ = c.Lead(ctx, "me", func(ctx context.Context, term *catalog.Term) {
			if err := term.PutLastDue(ctx, "nightly", time.Now()); err != nil {
				t.Errorf("%s: the leader cannot write: %v", what, err)
			}
			led = true
			cancel()
		})
		if cancel(); !led {
			t.Errorf("%s: nobody leads", what)
		}
	}
}

// A lock or a leader whose key was removed or replaced, by hand for one, knows it: otherwise two replicas would lead.
func TestLockWhoseKeyIsChangedIsLost(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client), LockTTL: 3 * time.Second})
	for what, change := range map[string]func(key string){
		"removed":                func(key string) { _, _ = client.Delete(t.Context(), key) },
		"replaced":               func(key string) { put(t, client, key, "other") },
		"on another lease":       func(key string) { put(t, client, key, "me", leased(t, client, 60)) },
		"as it was, without one": func(key string) { put(t, client, key, "me") },
	} {
		lock, err := c.Lock(t.Context(), "me")
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		change(lockKey)
		select {
		case <-lock.Lost():
		case <-time.After(timeout):
			t.Errorf("%s: the lock is not lost", what)
		}
		left, _ := value(t, client, lockKey)
		lock.Unlock(t.Context())
		if now, _ := value(t, client, lockKey); now != left {
			t.Errorf("%s: giving the lock back made %q of %q", what, now, left)
		}
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		put(t, client, prefix+"leader", "")
		led := false
		_ = c.Lead(ctx, "me", func(leading context.Context, _ *catalog.Term) {
			if led {
				return
			}
			change(prefix + "leader")
			select {
			case <-leading.Done():
				led = true
			case <-time.After(timeout):
			}
			cancel()
		})
		if cancel(); !led {
			t.Errorf("%s: the leader leads on", what)
		}
		_, _ = client.Delete(t.Context(), lockKey)
		_, _ = client.Delete(t.Context(), prefix+"leader")
	}
}

// edited returns the stored value of a record after a change that no replica makes.
func edited(t *testing.T, client *clientv3.Client, name string, edit func(m *catalogv1.Record)) string {
	t.Helper()
	stored, _ := value(t, client, recordKey(name))
	var m catalogv1.Record
	if err := proto.Unmarshal([]byte(stored), &m); err != nil {
		t.Fatal(err)
	}
	edit(&m)
	doc, err := proto.MarshalOptions{Deterministic: true}.Marshal(&m)
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

// inside are parts of a stored record.
type inside struct {
	record   *catalogv1.Record
	snapshot *snapshotdv1.Snapshot
	location *snapshotdv1.Location
}

// adopted makes the record of a save that of another program's file.
func adopted(file string) func(in inside) {
	return func(in inside) {
		in.snapshot.Trigger, in.record.File = snapshotdv1.Snapshot_TRIGGER_ADOPTED, file
	}
}

// badValues returns values that are no record of a snapshot, by their mistakes.
func badValues(t *testing.T, client *clientv3.Client, name string) map[string]string {
	whole, _ := value(t, client, recordKey(name))
	const most = 1<<63 - 1
	values := map[string]string{
		"nothing": "", "rubbish": "rubbish", "a page of HTML": "<html><body>login</body></html>",
		"cut in half": whole[:len(whole)/2], "without its last byte": whole[:len(whole)-1],
		"huge":               whole + strings.Repeat("\x00", 1<<20),
		"huge unknown field": whole + "\xfa\x3f\x80\x80\x40" + strings.Repeat("x", 1<<20),
	}
	for what, edit := range map[string]func(in inside){
		"no snapshot":                 func(in inside) { in.record.Snapshot = nil },
		"no name":                     func(in inside) { in.snapshot.Name = "" },
		"another name":                func(in inside) { in.snapshot.Name = "other" },
		"a path as a name":            func(in inside) { in.snapshot.Name = "../" + name },
		"a state of the future":       func(in inside) { in.snapshot.State = 6 },
		"a negative state":            func(in inside) { in.snapshot.State = -1 },
		"a trigger of the future":     func(in inside) { in.snapshot.Trigger = 4 },
		"a compression of the future": func(in inside) { in.snapshot.Compression = 9 },
		"a location's future state":   func(in inside) { in.location.State = 6 },
		"a location that is PARTIAL":  func(in inside) { in.location.State = 3 },
		"a location without backend":  func(in inside) { in.location.Backend = "" },
		"two locations on a backend": func(in inside) {
			in.snapshot.Locations = append(in.snapshot.Locations, in.location)
		},
		"a negative size":          func(in inside) { in.location.SizeBytes = -1 },
		"a size near the end":      func(in inside) { in.location.SizeBytes = most },
		"a database near the end":  func(in inside) { in.snapshot.DbSizeBytes = most - 1 },
		"a negative database":      func(in inside) { in.snapshot.DbSizeBytes = -5 },
		"an object near the end":   func(in inside) { in.snapshot.StoredSizeBytes = most },
		"a revision near the end":  func(in inside) { in.snapshot.Revision = most },
		"a negative revision":      func(in inside) { in.snapshot.Revision = -1 },
		"as many keys as there is": func(in inside) { in.snapshot.TotalKeys = most },
		"a year after 9999": func(in inside) {
			in.snapshot.CreateTime = &timestamppb.Timestamp{Seconds: 253402300800}
		},
		"a time near the end": func(in inside) {
			in.location.UpdateTime = &timestamppb.Timestamp{Seconds: most}
		},
		"nanoseconds of a minute": func(in inside) {
			in.record.ProvenTime = &timestamppb.Timestamp{Seconds: 1, Nanos: 2_000_000_000}
		},
		"a seen time before all": func(in inside) {
			in.record.Seen["local"] = &timestamppb.Timestamp{Seconds: -most}
		},
		"a repair in no time": func(in inside) {
			in.record.Repairs[0].NextTime = &timestamppb.Timestamp{Seconds: most}
		},
		"a verdict in no time": func(in inside) {
			in.snapshot.Verification.Time = &timestamppb.Timestamp{Seconds: most}
		},
		"an endless save": func(in inside) {
			in.snapshot.Duration = &durationpb.Duration{Seconds: most}
		},
		"negative attempts": func(in inside) {
			in.record.Repairs[0].Attempts = -1 << 63
		},
		"a negative generation": func(in inside) { in.record.Generation = -1 },
		"the last generation":   func(in inside) { in.record.Generation = most },
		"10,000 locations": func(in inside) {
			for i := range 10_000 {
				in.snapshot.Locations = append(in.snapshot.Locations, &snapshotdv1.Location{Backend: fmt.Sprint("b", i)})
			}
		},
		"an adopted save":            func(in inside) { in.snapshot.Trigger = snapshotdv1.Snapshot_TRIGGER_ADOPTED },
		"adopted, a path as file":    adopted("../other/" + name),
		"adopted, another's data":    adopted(name + "-2.db"),
		"adopted, a manifest":        adopted(name + ".json"),
		"adopted, another's archive": adopted("etcd-snapshot-n-1700000000.zip"),
		"labels too large": func(in inside) {
			in.snapshot.Labels = map[string]string{"x": strings.Repeat("x", 300<<10)}
		},
	} {
		values[what] = edited(t, client, name, func(m *catalogv1.Record) {
			m.Repairs = append(m.Repairs, &catalogv1.Repair{Backend: "local"})
			if m.Seen == nil {
				m.Seen = map[string]*timestamppb.Timestamp{}
			}
			if m.GetSnapshot().GetVerification() == nil {
				m.Snapshot.Verification = &snapshotdv1.Verification{}
			}
			edit(inside{m, m.GetSnapshot(), m.GetSnapshot().GetLocations()[0]})
		})
	}
	return values
}

func TestOneBadRecordIsAnErrorAndTheRestGoesOn(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	create(t, c, 4)
	const name = "s0001"
	key := recordKey(name)
	for what, bad := range badValues(t, client, name) {
		put, err := client.Put(t.Context(), key, bad)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		wantBad := func(err error) {
			t.Helper()
			wantUnavailable(t, err, key, "etcdctl del "+key)
			if got, ok := snapshot.BadRecordName(err); !ok || got != name {
				t.Errorf("%s: %v is of the record %q", what, err, got)
			}
		}
		_, err = c.Get(t.Context(), name)
		wantBad(err)
		if future := strings.Contains(what, "future"); future != strings.Contains(err.Error(), "newer snapshotd") {
			t.Errorf("%s: %v", what, err)
		}
		r := conformance.Record(name, 0)
		r.Version = put.Header.Revision
		wantBad(c.Update(t.Context(), r))
		wantBad(c.Remove(t.Context(), r))
		if _, err = c.ByRequestID(t.Context(), "request/of "+name); !errors.Is(err, snapshot.ErrNotFound) {
			t.Errorf("%s: by its request: %v", what, err)
		}
		var got []string
		for r, err := range c.Scan(t.Context()) {
			if err != nil {
				wantBad(err)
				got = append(got, "bad")
				continue
			}
			got = append(got, r.Name)
		}
		if want := []string{"s0000", "bad", "s0002", "s0003"}; !slices.Equal(got, want) {
			t.Errorf("%s: scan yields %q, want %q", what, got, want)
		}
		page, err := c.List(t.Context(), snapshot.Query{PageSize: 10})
		if err != nil || len(page.Records) != 3 || len(page.Unreadable) != 1 {
			t.Fatalf("%s: %d records are listed, %v, %v", what, len(page.Records), page.Unreadable, err)
		}
		wantBad(page.Unreadable[0])
		if stored, _ := value(t, client, key); stored != bad {
			t.Errorf("%s: the value was changed", what)
		}
	}
}

// Numbers, times and enumerations at the limits that a record may have are read as they are.
func TestRecordAtTheLimitsIsRead(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	create(t, c, 1)
	last := time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)
	put(t, client, recordKey("s0000"), edited(t, client, "s0000", func(m *catalogv1.Record) {
		s := m.GetSnapshot()
		s.DbSizeBytes, s.StoredSizeBytes, s.TotalKeys, s.Revision = 1<<50, 1<<50, 1<<50, 1<<62
		s.CreateTime = timestamppb.New(last)
		m.Seen["local"] = timestamppb.New(time.Time{})
		m.Repairs[0].Attempts = 1 << 31
		s.Locations[0].SizeBytes = 0
		s.Locations[1].Kind, s.Verification.Level, s.Verification.State = 9, 9, 9
	}))
	r, err := c.Get(t.Context(), "s0000")
	if err != nil {
		t.Fatal(err)
	}
	if r.Revision != 1<<62 || r.DBSize != 1<<50 || !r.CreateTime.Equal(last) || r.Verification.Passed {
		t.Errorf("read as %+v", r)
	}
	r.Node = "changed"
	if err := c.Update(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got := names(t, c, 10); !slices.Equal(got, []string{"s0000"}) {
		t.Errorf("listed are %q", got)
	}
	stored, _ := value(t, client, recordKey("s0000"))
	var m catalogv1.Record
	if err := proto.Unmarshal([]byte(stored), &m); err != nil {
		t.Fatal(err)
	}
	s := m.GetSnapshot()
	if s.GetLocations()[1].GetKind() != 9 || s.GetVerification().GetLevel() != 9 || s.GetVerification().GetState() != 9 {
		t.Errorf("numbers of a newer version became %v and %v", s.GetLocations()[1], s.GetVerification())
	}
}

// A record that no replica could read is not written.
func TestRecordBeyondTheLimitsIsNotWritten(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	for what, edit := range map[string]func(*snapshot.Record){
		"size":   func(r *snapshot.Record) { r.StoredSize = 1<<63 - 1 },
		"time":   func(r *snapshot.Record) { r.CreateTime = time.Unix(1<<60, 0) },
		"labels": func(r *snapshot.Record) { r.Labels = map[string]string{"x": strings.Repeat("x", 1<<20)} },
		"name":   func(r *snapshot.Record) { r.Name = "a\nb" },
	} {
		r := conformance.Record("a", 0)
		edit(r)
		if err := c.Create(t.Context(), r); !errors.Is(err, snapshot.ErrBadRecord) {
			t.Errorf("%s: %v", what, err)
		}
		save := snapshot.NewSave(r.Snapshot, "", "", nil)
		if err := c.Begin(t.Context(), save, nil); !errors.Is(err, snapshot.ErrBadRecord) {
			t.Errorf("%s: begin: %v", what, err)
		}
	}
	if got := names(t, c, 10); len(got) > 0 {
		t.Errorf("there are %q", got)
	}
}

// names lists all names, in pages.
func names(t *testing.T, c *catalog.Catalog, size int) (all []string) {
	t.Helper()
	q := snapshot.Query{PageSize: size}
	for {
		p, err := c.List(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range p.Records {
			all = append(all, r.Name)
		}
		if q.PageToken = p.NextPageToken; q.PageToken == "" {
			return all
		}
	}
}

func scanned(t *testing.T, c *catalog.Catalog) (good []string, bad []error) {
	t.Helper()
	for r, err := range c.Scan(t.Context()) {
		switch {
		case errors.Is(err, snapshot.ErrBadRecord):
			bad = append(bad, err)
		case err != nil:
			t.Fatal(err)
		default:
			good = append(good, r.Name)
		}
	}
	return good, bad
}

// Keys that no record has are told of without a name, so that nobody takes them for a snapshot.
func TestKeysThatNoRecordHas(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	create(t, c, 2)
	whole, _ := value(t, client, recordKey("s0000"))
	keys := map[string]string{ // by the part below snapshots/: the name
		"": "", ".~": "", "s0000": "", "s0000.~x": "", "s0000.~/": "", "~": "",
		"a/b.~": "a/b", "-a.~": "-a", "a\nb.~": "a\nb",
		"\xff\xfe.~": "\xff\xfe", "$(reboot).~": "$(reboot)", strings.Repeat("n", 2000) + ".~": strings.Repeat("n", 2000),
	}
	for key := range keys {
		put(t, client, prefix+"snapshots/"+key, whole)
	}
	good, bad := scanned(t, c)
	if !slices.Equal(good, []string{"s0000", "s0001"}) || len(bad) != len(keys) {
		t.Errorf("%q are good, and %d bad", good, len(bad))
	}
	for _, err := range bad {
		b, _ := errors.AsType[*snapshot.BadRecord](err)
		if want := keys[strings.TrimPrefix(b.Key, prefix+"snapshots/")]; b.Name != want {
			t.Errorf("the key %q has the name %q, want %q", b.Key, b.Name, want)
		}
		for _, part := range []string{"\n", "\xff", "del " + prefix + "snapshots/$("} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("the command in the error cannot be pasted: %q", err)
			}
		}
	}
}

// Records as large as etcd takes them do not fill the memory of a replica.
func TestLargeRecordsAreReadFewAtATime(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	catalog.SetMaxAnswer(c, 64<<10)
	create(t, c, 60)
	for i, size := range map[int]int{3: 20 << 10, 4: 60 << 10, 5: 100 << 10, 6: 1 << 20, 40: 1 << 20, 59: 70 << 10} {
		put(t, client, recordKey(fmt.Sprintf("s%04d", i)), strings.Repeat("x", size))
	}
	good, bad := scanned(t, c)
	if len(good) != 54 || len(bad) != 6 {
		t.Errorf("%d records are read, and %d not", len(good), len(bad))
	}
	for _, size := range []int{1, 7, 100} {
		if got := names(t, c, size); !slices.Equal(got, good) {
			t.Errorf("pages of %d list %q", size, got)
		}
	}
	p, err := c.List(t.Context(), snapshot.Query{PageSize: 100})
	if err != nil || len(p.Unreadable) != 6 {
		t.Errorf("%v, %v", p.Unreadable, err)
	}
}

func TestGarbageInTheIndexByTime(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	create(t, c, 5)
	want := []string{"s0000", "s0001", "s0002", "s0003", "s0004"}
	created := conformance.Record("x", 0).CreateTime
	foreign := []string{ // no keys of the index's form: they may be of another version
		"", "x", "/", "zzzz", "0/s0000", "0000000000000000/s0000", "7fffffffffffffff/s0001", "ffffffffffffffff/",
		"ffffffffffffffff/a\nb", "FFFFFFFFFFFFFFFF/s0001", "8000000000000000", "~", "8000000000000001/../../x",
	}
	for _, key := range foreign {
		put(t, client, prefix+"by-time/"+key, "rubbish")
	}
	strays := []string{
		indexKey(created.Add(time.Hour), "s0003"), indexKey(time.Unix(0, 0), "s0000"), indexKey(created, "s0001"),
		indexKey(created, "gone"), prefix + "by-time/8000000000000000/s0002",
	}
	for _, key := range strays {
		put(t, client, key, "")
	}
	for _, size := range []int{1, 2, 5, 100} {
		if got := names(t, c, size); !slices.Equal(got, want) {
			t.Errorf("pages of %d list %q, want %q", size, got, want)
		}
	}
	for _, key := range strays {
		if resp, err := client.Get(t.Context(), key); err != nil || resp.Count > 0 {
			t.Errorf("%q, which no record has made, is still there (%v)", key, err)
		}
	}
	for _, key := range foreign {
		if v, _ := value(t, client, prefix+"by-time/"+key); v != "rubbish" {
			t.Errorf("%q, which may be of another version, is gone", key)
		}
	}
	for i, name := range want {
		r, err := c.Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Get(t.Context(), indexKey(r.CreateTime, name)); err != nil {
			t.Errorf("record %d has lost its key: %v", i, err)
		}
	}
}

// Many keys in the way cost a request for each 500 of them, also when the page is small.
func TestListPassesManyStrays(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	create(t, c, 2)
	for i := range 30 {
		var ops []clientv3.Op
		for n := range 100 {
			ops = append(ops, clientv3.OpPut(indexKey(time.Now(), fmt.Sprintf("gone-%d-%d", i, n)), ""))
		}
		if _, err := client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	counting := &counted{KV: client.KV}
	client.KV = counting
	if got := names(t, c, 1); !slices.Equal(got, []string{"s0000", "s0001"}) {
		t.Errorf("listed are %q", got)
	}
	if counting.gets > 100 {
		t.Errorf("%d requests for 3,000 keys", counting.gets)
	}
}

// All clusters are listed for one answer: the index of one with few snapshots is read with one request, once that is known.
func TestAShortIndexIsReadAtOnce(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	create(t, c, 3)
	counting := &counted{KV: client.KV}
	client.KV = counting
	newest := names(t, c, 10)
	counting.gets = 0
	if got := names(t, c, 10); !slices.Equal(got, newest) || len(got) != 3 || counting.gets != 1 {
		t.Errorf("listed are %q, with %d requests for the index", got, counting.gets)
	}
	counting.gets = 0
	if got := names(t, c, 1); !slices.Equal(got, newest) || counting.gets > 5 {
		t.Errorf("page by page, listed are %q, with %d requests for the index", got, counting.gets)
	}
	var ops []clientv3.Op
	for i := range 600 {
		ops = append(ops, clientv3.OpPut(indexKey(time.Now(), fmt.Sprintf("gone-%d", i)), ""))
	}
	for some := range slices.Chunk(ops, 100) {
		if _, err := client.Txn(t.Context()).Then(some...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // it has become long, and then the keys that no record has made are gone
		if got := names(t, c, 10); !slices.Equal(got, newest) {
			t.Errorf("when it has become long, listed are %q", got)
		}
	}
}

type counted struct {
	clientv3.KV
	gets int
}

func (c *counted) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	c.gets++
	return c.KV.Get(ctx, key, opts...)
}

// A snapshot whose key in the index by time was removed is listed again after the next scan.
func TestScanCompletesTheIndexByTime(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	create(t, c, 250)
	want := names(t, c, 100)
	if _, err := client.Delete(t.Context(), prefix+"by-time/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	put(t, client, recordKey("s0007"), "rubbish")
	if good, bad := scanned(t, c); len(good) != 249 || len(bad) != 1 {
		t.Errorf("%d records, and %v", len(good), bad)
	}
	want = slices.DeleteFunc(want, func(name string) bool { return name == "s0007" })
	if got := names(t, c, 100); !slices.Equal(got, want) {
		t.Errorf("%d are listed, want %d", len(got), len(want))
	}
}

func TestGarbageInTheIndexByRequest(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	create(t, c, 2)
	put(t, client, recordKey("garbage"), "rubbish")
	for what, to := range map[string]string{
		"nothing": "", "no record": "gone", "a garbage record": "garbage", "a record of another request": "s0001",
		"no name": "a\nb", "a path": "../leader", "a large value": strings.Repeat("x", 100<<10), "bytes": "\xff\x00",
	} {
		id := "id of " + what
		key := prefix + "requests/" + strings.ReplaceAll(id, " ", "%20")
		put(t, client, key, to)
		if _, err := c.ByRequestID(t.Context(), id); !errors.Is(err, snapshot.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", what, err)
		}
		save := snapshot.NewSave(conformance.Record("save-of-"+strings.ReplaceAll(what, " ", "-"), 0).Snapshot, id, "", nil)
		if err := c.Begin(t.Context(), save, nil); err != nil {
			t.Errorf("%s: the request cannot be made: %v", what, err)
			continue
		}
		if got, err := c.ByRequestID(t.Context(), id); err != nil || got.Name != save.Name {
			t.Errorf("%s: then it leads to %+v, %v", what, got, err)
		}
	}
	// What leads to a record of its own still does, and a second save of it does not begin.
	again := snapshot.NewSave(conformance.Record("again", 0).Snapshot, "request/of s0001", "", nil)
	if err := c.Begin(t.Context(), again, nil); !errors.Is(err, snapshot.ErrConflict) {
		t.Errorf("a request with a record: %v, want ErrConflict", err)
	}
}

func TestBadStoreIsAnErrorOfItsBackend(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	if err := c.PutStore(t.Context(), "good", snapshot.Store{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	for what, v := range map[string]string{
		"nothing": "", "rubbish": "rubbish", "huge": "\x0a\x80\x80\x08" + strings.Repeat("x", 128<<10),
	} {
		key := prefix + "stores/local"
		put(t, client, key, v)
		_, err := c.Store(t.Context(), "local")
		wantUnavailable(t, err, key, "etcdctl del "+key)
		if _, err := c.Store(t.Context(), "good"); err != nil {
			t.Errorf("%s: the other one: %v", what, err)
		}
	}
}

// What a schedule has left in a time that cannot be does not keep it from running.
func TestScheduleAfterAnAbsurdTime(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	for _, v := range []string{
		"", "rubbish", "0001-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "1970-01-01T00:00:00Z", strings.Repeat("2", 1<<20),
	} {
		put(t, client, prefix+"schedules/nightly", v)
		ctx, end := context.WithCancel(t.Context())
		_ = c.Lead(ctx, "me", func(ctx context.Context, term *catalog.Term) {
			if due, err := term.LastDue(ctx, "nightly"); err != nil || !due.IsZero() {
				t.Errorf("%.40q: due at %v, %v", v, due, err)
			}
			end()
		})
	}
}
