package catalog_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
)

// documentedRole does what the commands of docs/security.md do, by which somebody makes a user with the least role, and
// returns the user's name. A command that it does not know fails the test: the page must not say more than is tried.
func documentedRole(t *testing.T, etcd *clientv3.Client, password string) (user string) {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join(testenv.Root(), "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(doc), "\n```sh role\n")
	commands, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatal("docs/security.md has no commands for the role")
	}
	for line := range strings.Lines(commands) {
		args := strings.Fields(line)
		if len(args) < 4 || args[0] != "etcdctl" {
			t.Fatalf("docs/security.md has the line %q", line)
		}
		switch what, args := strings.Join(args[1:3], " "), args[3:]; {
		case what == "role add" && len(args) == 1:
			_, err = etcd.RoleAdd(t.Context(), args[0])
		case what == "role grant-permission" && len(args) == 4 && args[3] == "--prefix":
			kind, known := authpb.Permission_Type_value[strings.ToUpper(args[1])]
			if !known {
				t.Fatalf("docs/security.md grants %q", args[1])
			}
			_, err = etcd.RoleGrantPermission(t.Context(), args[0], args[2], clientv3.GetPrefixRangeEnd(args[2]),
				clientv3.PermissionType(kind))
		case what == "user add" && len(args) > 1 && args[1] == "--new-user-password":
			user = args[0]
			_, err = etcd.UserAdd(t.Context(), user, password)
		case what == "user grant-role" && len(args) == 2:
			_, err = etcd.UserGrantRole(t.Context(), args[0], args[1])
		default:
			t.Fatalf("docs/security.md has the command %q, which this test does not know", line)
		}
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	return user
}

// TestPermissionsThatTheUserNeeds does all that a catalog does as a user with the role of docs/security.md, and nothing
// else: the suite of the port, the check before a start, and the leader's part.
func TestPermissionsThatTheUserNeeds(t *testing.T) {
	t.Parallel()
	server := embedded.StartEtcd(t)
	first := server.Client(t) // before there are users
	const password = "secret"
	user := documentedRole(t, first, password)
	_, err := first.UserAdd(t.Context(), "root", password)
	if err == nil {
		_, err = first.UserGrantRole(t.Context(), "root", "root")
	}
	if err == nil {
		_, err = first.AuthEnable(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	as := func(name string) *clientv3.Client {
		client, err := clientv3.New(clientv3.Config{
			Endpoints: server.Endpoints(), Username: name, Password: password, Logger: zap.NewNop(),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		return client
	}
	client := as(user)
	t.Run("suite", func(t *testing.T) { conforms(t, client, as("root")) })

	c := open(t, catalog.Config{Connect: connect(client), LockTTL: time.Second})
	c.Check(t.Context(), func(action string, err error) {
		if err != nil {
			t.Errorf("%s: %v", action, err)
		}
	})
	anyName := func(string) bool { return true }
	none, err := c.Timeline(t.Context(), anyName)
	if err := errors.Join(err, c.PutTimeline(t.Context(), none, "one")); err != nil {
		t.Error(err)
	}
	if noted, err := c.Timeline(t.Context(), anyName); err != nil || noted.Name != "one" {
		t.Errorf("the timeline is %q, %v", noted.Name, err)
	}
	leads(t, c)

	denied := open(t, catalog.Config{Connect: connect(client), Prefix: "/elsewhere/"})
	_, err = denied.Get(t.Context(), "a")
	wantUnavailable(t, err, "permission denied", "etcdctl role grant-permission ROLE --prefix=true readwrite /elsewhere/")
	for _, key := range []string{"/registry/secrets/default/a", "/snapshotd/v2/a", "/snapshotd/v1"} {
		_, err := client.Get(t.Context(), key)
		_, perr := client.Put(t.Context(), key, "x")
		if err == nil || perr == nil {
			t.Errorf("the user may read or write %s: %v, %v", key, err, perr)
		}
	}
}

// leads lets a catalog lead, and write as a leader does.
func leads(t *testing.T, c *catalog.Catalog) {
	t.Helper()
	ctx, end := context.WithTimeout(t.Context(), time.Minute)
	defer end()
	led := false
	_ = c.Lead(ctx, "node-1", func(ctx context.Context, term *catalog.Term) {
		led = true
		_, err := term.Asked(ctx)
		if err := errors.Join(err, term.PutLastDue(ctx, "nightly", time.Now())); err != nil {
			t.Error(err)
		}
		if due, err := term.LastDue(ctx, "nightly"); err != nil || due.IsZero() {
			t.Errorf("the schedule ran last at %v, %v", due, err)
		}
		if err := term.GiveWay(ctx); err != nil {
			t.Error(err)
		}
		end()
	})
	if !led {
		t.Error("it does not come to lead")
	}
}
