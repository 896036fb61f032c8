package cli_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/etcd/member"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
)

// The plan says what is restored, what is estimated and what is not given; its command for a member restores the same.
func TestRestoreOfARevisionByItsPlan(t *testing.T) {
	h := embedded.NewHistory(t, 4)
	h.Change(t, 100)
	c := h.Client(t)
	lease, err := c.Grant(t.Context(), 100)
	if err == nil {
		_, err = c.Put(t.Context(), "held", "", clientv3.WithLease(lease.ID))
	}
	revision := h.Revision()
	if err == nil {
		_, err = c.Revoke(t.Context(), lease.ID) // so that its time to live is lost
	}
	if err != nil {
		t.Fatal(err)
	}
	h.Change(t, 50)
	dir, parent := t.TempDir(), t.TempDir()
	db := filepath.Join(parent, "db")
	h.Save(t, db)
	data, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	if err := os.Mkdir(filepath.Join(dir, "default"), 0o700); err != nil {
		t.Fatal(err)
	}
	file, before := filepath.Join(dir, "default", "backup.db"), time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	if err := os.WriteFile(file, append(data, sum[:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, before, before); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(parent, "data")
	args := []string{"restore", "latest", "--from", "file://" + dir, "--data-dir", target, "--revision", fmt.Sprint(revision), "--ended-lease-ttl", "2000s"}
	plan := run(t.Context(), nil, append(args, "--dry-run")...)
	for _, want := range []string{
		fmt.Sprintf("range      it can be taken back to any revision from 1 to %d\n", h.Revision()),
		fmt.Sprintf("revision   %d, ", revision), "leases     ", "ESTIMATED", "not given  users, roles and alarms",
		fmt.Sprintf("snapshotd restore backup --revision %d --ended-lease-ttl 33m20s --from ", revision),
	} {
		if plan.code != 0 || !strings.Contains(plan.stdout, want) {
			t.Errorf("exit code %d, no %q in\n%s%s", plan.code, want, plan.stdout, plan.stderr)
		}
	}
	first := run(t.Context(), nil, append(slices.Clone(args[:len(args)-4]), "--revision", "1", "--dry-run")...)
	for _, want := range []string{"revision   1, no keys; ", "leases     none of that revision; "} {
		if first.code != 0 || !strings.Contains(first.stdout, want) {
			t.Errorf("exit code %d, no %q in\n%s%s", first.code, want, first.stdout, first.stderr)
		}
	}
	by := run(t.Context(), nil, "restore", "--at", "2026-07-02", "--from", "file://"+dir, "--data-dir", target, "--dry-run")
	if by.code != 0 || !strings.Contains(by.stdout, "the time of a snapshot is the second in which its save began; etcd was read a moment later\n") {
		t.Errorf("exit code %d, the plan does not say how exact its time is:\n%s%s", by.code, by.stdout, by.stderr)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) != 1 {
		t.Errorf("the plan has left %v, %v", left, err)
	}
	if r := run(t.Context(), nil, append(args, "-o", "json")...); r.code != 0 || !strings.Contains(r.stderr, "ESTIMATED") || !strings.HasPrefix(r.stdout, "{") {
		t.Fatalf("exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	e := embedded.StartEtcd(t, func(c *member.Config) { c.Dir = target })
	got, want := e.At(t, revision), h.At(t, revision)
	if ttls, _ := e.Leases(t); ttls[int64(lease.ID)] != 2000 {
		t.Errorf("the lease that ended has %d seconds to live", ttls[int64(lease.ID)])
	}
	if e.Revision() != revision || got.Hash != want.Hash || len(got.Keys) != len(want.Keys) {
		t.Errorf("it begins with %d and has %+v and %d keys, want %d, %+v and %d",
			e.Revision(), got.Hash, len(got.Keys), revision, want.Hash, len(want.Keys))
	}
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"backup --revision 0", 2, "the first one is 1"},
		{"backup --revision -1", 2, "the first one is 1"},
		{"--revision 5 --at 1h", 2, "leave out one"},
		{"backup --estimate", 2, "it goes with --at"},
		{"backup --revision 5 --ended-lease-ttl 1ms", 2, "--ended-lease-ttl"},
		{"backup --revision 99999 --ended-lease-ttl 2d", 6, "backup holds the revisions"},
		{"", 2, "--revision N"},
		{"--revision 99999", 6, "revision 99999 cannot be restored"},
		{"backup --revision 99999", 6, fmt.Sprintf("backup holds the revisions 1 to %d", h.Revision())},
		{"backup --at 2001-01-01", 6, "the revision at 2001-01-01T00:00:00Z is not known"},
	} {
		r := run(t.Context(), nil, append([]string{"restore", "--from", "file://" + dir, "--data-dir", target + "2"}, strings.Fields(tc.args)...)...)
		if r.code != tc.code || !strings.Contains(r.stderr, tc.want) {
			t.Errorf("%s: exit code %d: %s", tc.args, r.code, r.stderr)
		}
	}
}
