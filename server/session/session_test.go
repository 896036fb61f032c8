package session_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/server/console"
	"github.com/snapshotd/snapshotd/server/session"
)

// issuer is one at which alice logs in, whatever the code.
type issuer struct{ until time.Time }

func (i issuer) Issues(string) bool { return false }

func (i issuer) Verify(string) (*auth.Identity, error) {
	return nil, errors.New("it has issued no token")
}

func (i issuer) LoginURL(_ context.Context, l auth.LoginRequest) (string, error) {
	return "https://login.example.org/auth?state=" + l.State, nil
}

func (i issuer) Redeem(context.Context, string, auth.LoginRequest) (*auth.Identity, error) {
	return &auth.Identity{Name: "corp:alice", Until: i.until}, nil
}

// replica is a process that knows sessions, by a clock that the test moves.
type replica struct {
	*session.Sessions
	authority *auth.Authority
}

// replicas returns two replicas with the same rules.
func replicas(t *testing.T, key string, now *time.Time) (a, b replica) {
	t.Helper()
	access := &auth.Access{SessionKey: key, Issuers: []auth.Issuer{{
		Name: "corp", URL: "https://login.example.org",
		Login: &auth.Login{ClientID: "console", RedirectURL: "https://snapshotd.example.org/console/callback"},
	}}, Rules: []auth.Rule{{Role: auth.Viewer, Identities: []string{"corp:alice"}}}}
	clock := func() time.Time { return *now }
	of := func() replica {
		authority, err := auth.New(auth.Config{
			Access: access, Now: clock,
			NewVerifier: func(auth.Issuer) auth.Verifier { return issuer{until: now.Add(30 * 24 * time.Hour)} },
		})
		if err != nil {
			t.Fatal(err)
		}
		s := session.New(session.Config{Authority: authority, Log: slog.New(slog.DiscardHandler), Now: clock})
		use, err := s.ReadKey(access)
		if err != nil {
			t.Fatal(err)
		}
		use()
		return replica{s, authority}
	}
	return of(), of()
}

func request(method, path string, cookies []*http.Cookie) *http.Request {
	r := httptest.NewRequest(method, path, http.NoBody)
	r.Header.Set(console.Header, "1")
	for _, c := range cookies {
		r.AddCookie(c)
	}
	return r
}

// logIn returns the cookies of a browser that has logged in.
func (r replica) logIn(t *testing.T) []*http.Cookie {
	t.Helper()
	w := httptest.NewRecorder()
	r.Login(w, request("GET", session.LoginPath, nil))
	to, err := url.Parse(w.Header().Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	back := httptest.NewRecorder()
	r.Callback(back, request("GET", session.CallbackPath+"?code=x&state="+to.Query().Get("state"), w.Result().Cookies()))
	if back.Code != http.StatusSeeOther {
		t.Fatalf("the login ends with %d %s", back.Code, back.Body)
	}
	return back.Result().Cookies()
}

// knows reports whether the cookies are those of a session that goes on.
func (r replica) knows(cookies []*http.Cookie) bool {
	p, err := r.authority.Authenticate(auth.Caller{Session: r.Of(request("GET", "/v1/snapshots", cookies))})
	return err == nil && p.Name == "corp:alice"
}

// TestACopyOfACookieOutlivesALogoutByAnHourAtMost: the replica of the logout knows of it, and others do not. A session
// that they would accept is short for that reason.
func TestACopyOfACookieOutlivesALogoutByAnHourAtMost(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(rand.Text()+rand.Text()), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	a, b := replicas(t, key, &now)
	cookies := a.logIn(t)
	if !a.knows(cookies) || !b.knows(cookies) {
		t.Fatal("the replicas do not share the session")
	}
	a.Logout(httptest.NewRecorder(), request("POST", session.LogoutPath, cookies))
	if a.knows(cookies) {
		t.Error("the replica of the logout accepts a copy of the cookie")
	}
	now = now.Add(time.Hour)
	if b.knows(cookies) {
		t.Error("another replica accepts a copy of the cookie an hour after the login")
	}
}

// TestALogoutEndsASessionEverywhereWhereTheKeyIsTheProcesssOwn: no other process accepts the cookie, and none after a
// restart.
func TestALogoutEndsASessionEverywhereWhereTheKeyIsTheProcesssOwn(t *testing.T) {
	now := time.Now()
	a, b := replicas(t, "", &now)
	cookies := a.logIn(t)
	now = now.Add(12*time.Hour - time.Second)
	if !a.knows(cookies) || b.knows(cookies) {
		t.Errorf("after half a day, the replica of the login knows the session: %v; the other one: %v", a.knows(cookies),
			b.knows(cookies))
	}
	a.Logout(httptest.NewRecorder(), request("POST", session.LogoutPath, cookies))
	if a.knows(cookies) {
		t.Error("a copy of the cookie is accepted after the logout")
	}
	cookies = a.logIn(t)
	now = now.Add(12 * time.Hour)
	if a.knows(cookies) {
		t.Error("a session is longer than half a day")
	}
}
