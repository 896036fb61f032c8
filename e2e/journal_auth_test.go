//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// rootPassword is that of the user as whom the load and the service log in while authentication is on.
const rootPassword = "not a secret"

// authState is the users and roles of a cluster, from a change of them on: etcd's counter, and whether they are asked for.
type authState struct {
	revision    uint64
	enabled     bool
	sent, acked time.Time // the change
}

func (s authState) same(other authState) bool {
	return s.revision == other.revision && s.enabled == other.enabled
}

// addRoot makes the user that may do everything.
func (o *watched) addRoot() {
	o.t.Helper()
	client := o.etcd.Client(o.t)
	_, err := client.UserAdd(o.t.Context(), "root", rootPassword)
	if err == nil {
		_, err = client.UserGrantRole(o.t.Context(), "root", "root")
	}
	if err != nil {
		o.t.Fatal(err)
	}
	o.etcd.LogIn("root", rootPassword)
	o.client = o.etcd.Client(o.t)
	o.changed(time.Now())
}

// logIn gives the service the user.
func (o *watched) logIn() {
	o.t.Helper()
	doc, err := os.ReadFile(o.file)
	if err != nil {
		o.t.Fatal(err)
	}
	replaceFile(o.t, o.file, strings.Replace(string(doc), "]}\n", fmt.Sprintf("], user: root, password: %s}\n", rootPassword), 1))
}

// switchAuth turns authentication on, or off.
func (o *watched) switchAuth() {
	on := o.auth[len(o.auth)-1].enabled
	o.changeAuth(func(ctx context.Context) error {
		if on {
			_, err := o.client.AuthDisable(ctx)
			return err
		}
		_, err := o.client.AuthEnable(ctx)
		return err
	})
}

// changeUsers adds a user or a role.
func (o *watched) changeUsers() {
	name := fmt.Sprint("name-", len(o.auth))
	if o.chance.IntN(2) == 0 {
		o.changeAuth(func(ctx context.Context) error {
			_, err := o.client.UserAdd(ctx, name, "secret")
			return err
		})
		return
	}
	o.changeAuth(func(ctx context.Context) error {
		_, err := o.client.RoleAdd(ctx, name)
		return err
	})
	o.changeAuth(func(ctx context.Context) error {
		_, err := o.client.RoleGrantPermission(ctx, name, "/registry/", "/registry0", clientv3.PermissionType(clientv3.PermRead))
		return err
	})
}

// changeAuth makes a change of users and roles, and notes what it has made of them.
func (o *watched) changeAuth(change func(ctx context.Context) error) {
	o.t.Helper()
	sent := time.Now()
	o.etcd.Eventually(o.t, "etcd takes a change of users or roles", func(ctx context.Context) error {
		err := change(ctx)
		if errors.Is(err, rpctypes.ErrUserAlreadyExist) || errors.Is(err, rpctypes.ErrRoleAlreadyExist) || errors.Is(err, rpctypes.ErrAuthNotEnabled) {
			return nil // an attempt before was not answered
		}
		return err
	})
	o.changed(sent)
}

// changed notes the state since a change.
func (o *watched) changed(sent time.Time) {
	o.t.Helper()
	o.etcd.Eventually(o.t, "etcd says what its users and roles are like", func(ctx context.Context) error {
		resp, err := o.client.AuthStatus(ctx)
		if err == nil {
			o.auth = append(o.auth, authState{resp.AuthRevision, resp.Enabled, sent, time.Now()})
		}
		return err
	})
}

// authBetween returns the states that the users and roles may have had in a stretch of time.
func (o *watched) authBetween(from, to time.Time) (all []authState) {
	for i, s := range o.auth {
		if s.sent.Before(to) && (i+1 == len(o.auth) || o.auth[i+1].acked.After(from)) {
			all = append(all, s)
		}
	}
	return all
}

var snapshotLine = regexp.MustCompile(`(?m)^snapshot +\S+-(\d{10})\b`)

// compareAuth checks that users and roles are those of the snapshot with which the restore began, and that the plan says
// that they have changed since only when they have.
func (o *watched) compareAuth(what string, at time.Time, plan string, got authState) {
	o.t.Helper()
	name := snapshotLine.FindStringSubmatch(plan)
	if name == nil {
		o.t.Fatalf("%s: the plan names no snapshot\n%s", what, plan)
	}
	seconds, err := strconv.ParseInt(name[1], 10, 64)
	if err != nil {
		o.t.Fatal(err)
	}
	begun := time.Unix(seconds, 0) // the save, and etcd was read a little later
	if all := o.authBetween(begun, begun.Add(settles)); !slices.ContainsFunc(all, got.same) {
		o.wrong("%s: etcd's counter of users and roles is %d, and authentication is on: %t; when the snapshot was taken, it was one of %+v",
			what, got.revision, got.enabled, all)
	}
	if got.enabled {
		o.found.secured++
	}
	if !strings.Contains(plan, "HAVE CHANGED") {
		return
	}
	o.found.behind++
	later := o.authBetween(begun, at.Add(settles))
	if !slices.ContainsFunc(later, func(s authState) bool { return !s.same(got) }) {
		o.wrong("%s: the plan says that users or roles have changed since the snapshot, and they have not\n%s", what, plan)
	}
}
