package server_test

import (
	"context"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/snapshotd/snapshotd/internal/testenv"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	consoleURL = "https://console.test" // as browsers reach the service, of which nobody knows the port beforehand
	cookieName = "__Host-snapshotd-session"
	pending    = "__Host-snapshotd-login"
)

// visitor is somebody with a browser.
type visitor struct {
	*http.Client
	t *testing.T
}

// opens returns a browser without cookies.
func (g *guardedServer) opens(t *testing.T) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{
		TLSClientConfig: g.tls(person{}),
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if strings.HasPrefix(addr, "console.test:") {
				addr = g.HTTPAddr()
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}
	tr.TLSClientConfig.ServerName = "127.0.0.1"
	t.Cleanup(tr.CloseIdleConnections)
	return &visitor{Client: &http.Client{Transport: tr, Jar: jar}, t: t}
}

// ask sends a request as a browser does, and returns the answer and its body. It follows no redirects.
func (v *visitor) ask(method, path string, headers ...string) (answer, string) {
	v.t.Helper()
	if strings.HasPrefix(path, "/") {
		path = consoleURL + path
	}
	req, err := http.NewRequestWithContext(v.t.Context(), method, path, http.NoBody)
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("Accept", browser)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	once := *v.Client
	once.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return do(v.t, &once, req)
}

// follow goes where an answer leads, until one leads nowhere.
func (v *visitor) follow(path string) (answer, string) {
	v.t.Helper()
	for range 10 {
		resp, body := v.ask("GET", path)
		to := resp.header.Get("Location")
		if to == "" {
			return resp, body
		}
		path = to
	}
	v.t.Fatal("the redirects have no end")
	panic("unreachable")
}

// callback begins a login and returns where the issuer sends the browser back to.
func (v *visitor) callback() *url.URL {
	v.t.Helper()
	resp, body := v.ask("GET", "/console/login")
	if resp.code != http.StatusSeeOther {
		v.t.Fatalf("the login begins with %d %s", resp.code, body)
	}
	resp, body = v.ask("GET", resp.header.Get("Location"))
	u, err := url.Parse(resp.header.Get("Location"))
	if err != nil || resp.code != http.StatusFound {
		v.t.Fatalf("the issuer answers %d %s: %v", resp.code, body, err)
	}
	return u
}

func (v *visitor) cookies() []*http.Cookie {
	u, err := url.Parse(consoleURL)
	if err != nil {
		v.t.Fatal(err)
	}
	return v.Jar.Cookies(u)
}

func (v *visitor) cookie(name string) string {
	for _, c := range v.cookies() {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// put gives the browser a cookie.
func (v *visitor) put(name, value string) {
	u, err := url.Parse(consoleURL)
	if err != nil {
		v.t.Fatal(err)
	}
	v.Jar.SetCookies(u, []*http.Cookie{{Name: name, Value: value, Path: "/", Secure: true}})
}

// isIn checks whether a browser has a session.
func (v *visitor) isIn(what string, in bool) {
	v.t.Helper()
	resp, body := v.ask("GET", "/v1/snapshots")
	if (resp.code == http.StatusOK) != in || !in && resp.code != http.StatusUnauthorized {
		v.t.Errorf("%s, the API answers %d %s", what, resp.code, body)
	}
}

// TestPeopleLogInToTheConsole and see as much as their roles allow, until they log out.
func TestPeopleLogInToTheConsole(t *testing.T) {
	g := guardedService(t)
	g.issuer.LogIn("operator", nil)
	v := g.opens(t)
	resp, body := v.ask("GET", "/")
	if resp.code != http.StatusUnauthorized || !strings.Contains(body, `href="/console/login?issuer=corp"`) ||
		strings.Contains(body, "prod") || strings.Contains(body, "modulepreload") ||
		!strings.HasPrefix(resp.header.Get("Content-Security-Policy"), "default-src 'none'; style-src 'self'") {
		t.Errorf("a stranger gets %d %v\n%s", resp.code, resp.header, body)
	}
	if resp, _ := v.ask("GET", "/console/console.css"); resp.code != http.StatusOK {
		t.Errorf("the style of that page is %d", resp.code)
	}
	v.isIn("before the login", false)
	if resp, body = v.follow("/console/login?issuer=corp"); resp.code != http.StatusOK ||
		!strings.Contains(body, "/console/main.js") {
		t.Fatalf("the login ends with %d %s", resp.code, body)
	}
	v.isIn("after the login", true)
	if v.cookie(pending) != "" {
		t.Error("the cookie of the login is left")
	}
	if _, body := v.ask("GET", "/v1/whoami"); !strings.Contains(body, `"kind":"oidc"`) ||
		!strings.Contains(body, `"corp:operator"`) {
		t.Errorf("the service says %s", body)
	}
	if _, body := v.ask("GET", "/console/service"); !strings.Contains(body, `"session":true`) ||
		!strings.Contains(body, `"token":true`) {
		t.Errorf("the page is told %s", body)
	}
	ours := []string{"X-Snapshotd-Console", "1", "Origin", consoleURL, "Sec-Fetch-Site", "same-origin"}
	if resp, body := v.ask("POST", "/v1/clusters/prod/snapshots:save", ours...); resp.code != http.StatusOK {
		t.Errorf("a save is %d %s", resp.code, body)
	}
	if last := records(t, g.audit); last[len(last)-1]["principal"] != "corp:operator" {
		t.Errorf("the record is %v", last)
	}
	if resp, body := v.ask("DELETE", "/v1/clusters/prod/snapshots/a", ours...); resp.code != http.StatusForbidden ||
		!strings.Contains(body, "ROLE_MISSING") {
		t.Errorf("a delete is %d %s", resp.code, body)
	}
	copied := v.cookie(cookieName)
	if resp, body := v.ask("POST", "/console/logout", ours...); resp.code != http.StatusNoContent {
		t.Fatalf("the logout is %d %s", resp.code, body)
	}
	if v.cookie(cookieName) != "" {
		t.Error("the cookie of the session is left")
	}
	v.isIn("after the logout", false)
	v.put(cookieName, copied)
	v.isIn("after the logout, with a copy of the cookie,", false)
	for _, secret := range []string{copied, testenv.IssuerSecret, "callback?"} {
		if found := g.log.with(secret); len(found) > 0 {
			t.Errorf("the log has a secret: %s", found)
		}
	}
}

// TestTheCookiesOfTheConsole: other sites cannot set, read or send them, and they go with the token.
func TestTheCookiesOfTheConsole(t *testing.T) {
	g := guardedService(t)
	v := g.opens(t)
	resp, _ := v.ask("GET", "/console/login")
	until := time.Now().Add(5 * time.Minute)
	g.issuer.LogIn("viewer", map[string]any{"exp": until.Unix()})
	all := resp.header.Values("Set-Cookie")
	resp, _ = v.ask("GET", v.callback().String())
	all = append(all, resp.header.Values("Set-Cookie")...)
	var names []string
	for _, line := range all {
		c, err := http.ParseSetCookie(line)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, c.Name)
		if !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.SameSite != http.SameSiteLaxMode ||
			!strings.HasPrefix(c.Name, "__Host-") || c.MaxAge == 0 {
			t.Errorf("the cookie is %s", line)
		}
		if left := time.Duration(c.MaxAge) * time.Second; c.Name == cookieName && left > time.Until(until)+time.Second {
			t.Errorf("the session outlives its token: %s", line)
		}
	}
	if !slices.Equal(names, []string{pending, pending, cookieName}) {
		t.Errorf("the cookies are %q", names)
	}
	me, body := v.ask("GET", "/v1/whoami")
	if me.code != http.StatusOK || !strings.Contains(body, until.UTC().Format("2006-01-02T15:04:05Z")) {
		t.Errorf("the session is of %s", body)
	}
}

// TestASessionIsNoLongerThanHalfADay, however long a token is good.
func TestASessionIsNoLongerThanHalfADay(t *testing.T) {
	g := guardedService(t)
	g.issuer.LogIn("viewer", map[string]any{"exp": time.Now().Add(30 * 24 * time.Hour).Unix()})
	v := g.opens(t)
	resp, _ := v.ask("GET", v.callback().String())
	for _, line := range resp.header.Values("Set-Cookie") {
		if c, err := http.ParseSetCookie(line); err != nil || c.MaxAge > 12*60*60 {
			t.Errorf("the cookie is %s, %v", line, err)
		}
	}
}

// TestALoginThatIsNotTheBrowsersOwnIsRefused, and one that the issuer does not vouch for.
func TestALoginThatIsNotTheBrowsersOwnIsRefused(t *testing.T) {
	g := guardedService(t)
	change := func(u *url.URL, name, value string) string {
		q := u.Query()
		q.Set(name, value)
		u.RawQuery = q.Encode()
		return u.String()
	}
	claim := func(name string, value any) func(*visitor) string {
		return func(v *visitor) string {
			g.issuer.LogIn("admin", map[string]any{name: value})
			return v.callback().String()
		}
	}
	for what, attempt := range map[string]func(v *visitor) string{
		"another state": func(v *visitor) string { return change(v.callback(), "state", rand.Text()) },
		"no state":      func(v *visitor) string { return change(v.callback(), "state", "") },
		"the answer to a login of another browser": func(*visitor) string { return g.opens(t).callback().String() },
		"the answer to a login that was begun anew": func(v *visitor) string {
			old := v.callback()
			v.callback()
			return old.String()
		},
		"a code of another browser": func(v *visitor) string {
			return change(v.callback(), "code", g.opens(t).callback().Query().Get("code"))
		},
		"a code that was made up":   func(v *visitor) string { return change(v.callback(), "code", rand.Text()) },
		"no code":                   func(v *visitor) string { return change(v.callback(), "code", "") },
		"the answer of another one": func(v *visitor) string { return change(v.callback(), "iss", "https://evil.example") },
		"the answer a second time": func(v *visitor) string {
			back := v.callback().String()
			flow := v.cookie(pending)
			v.ask("GET", back)
			v.put(cookieName, "gone")
			v.put(pending, flow)
			return back
		},
		"a token with another nonce":      claim("nonce", "x"),
		"a token without a nonce":         claim("nonce", nil),
		"a token for another client":      claim("aud", "snapshotd"),
		"a token of another party":        claim("azp", "another"),
		"a token of another issuer":       claim("iss", "https://evil.example"),
		"a token that has expired":        claim("exp", time.Now().Add(-time.Minute).Unix()),
		"a token whose name is a pattern": claim("sub", "*"),
		"a person whom the issuer does not know": func(v *visitor) string {
			g.issuer.LogIn("", nil)
			return v.callback().String()
		},
	} {
		t.Run(what, func(t *testing.T) {
			g.issuer.LogIn("admin", nil)
			v := g.opens(t)
			before := g.count(server.RefusedUnauthenticated)
			resp, body := v.ask("GET", attempt(v))
			if resp.code < 400 || !strings.Contains(body, `href="/console/login?issuer=corp"`) ||
				strings.Contains(body, "evil") {
				t.Errorf("the answer is %d %s", resp.code, body)
			}
			if g.count(server.RefusedUnauthenticated) == before {
				t.Error("it is not counted")
			}
			v.isIn("after it", false)
		})
	}
}

// TestALoginLeadsNowhereElse: the target of a link does not matter.
func TestALoginLeadsNowhereElse(t *testing.T) {
	g := guardedService(t)
	g.issuer.LogIn("viewer", nil)
	const evil = "https%3A%2F%2Fevil.example%2F"
	v := g.opens(t)
	for _, query := range []string{
		"?next=" + evil, "?redirect_uri=" + evil, "?return_to=" + evil, "?issuer=corp&url=" + evil, "?rd=//evil.example",
		"?next=/%5Cevil.example",
	} {
		resp, _ := v.ask("GET", "/console/login"+query)
		to, err := url.Parse(resp.header.Get("Location"))
		if err != nil || !strings.HasPrefix(to.String(), g.issuer.URL+"/auth?") ||
			to.Query().Get("redirect_uri") != consoleURL+"/console/callback" {
			t.Errorf("%s leads to %s, %v", query, to, err)
		}
		back := v.callback()
		resp, _ = v.ask("GET", back.String()+"&"+query[1:])
		if to := resp.header.Get("Location"); to != "/" {
			t.Errorf("the answer with %s leads to %q", query, to)
		}
	}
	if resp, _ := v.ask("GET", "/console/login?issuer=evil"); resp.code != http.StatusNotFound {
		t.Errorf("an issuer that there is not is %d", resp.code)
	}
}

// TestASessionIsOfNoUseToPagesOfOtherSites: their requests carry the cookie, and it does not count.
func TestASessionIsOfNoUseToPagesOfOtherSites(t *testing.T) {
	g := guardedService(t)
	g.issuer.LogIn("admin", nil)
	v := g.opens(t)
	v.follow("/console/login")
	v.isIn("after the login", true)
	for _, site := range []string{"cross-site", "same-site"} {
		for _, path := range []string{
			"/v1/snapshots", "/v1/events", "/console/service", "/console/main.js", "/metrics",
			"/console/download?cluster=prod&name=a",
		} {
			if resp, body := v.ask("GET", path, "Sec-Fetch-Site", site); resp.code != http.StatusUnauthorized {
				t.Errorf("%s from a page of %s is %d %s", path, site, resp.code, body)
			}
		}
		// A link to the page works: there are no facts in it.
		if resp, _ := v.ask("GET", "/", "Sec-Fetch-Site", site); resp.code != http.StatusOK {
			t.Errorf("the page by a link of %s is %d", site, resp.code)
		}
	}
	// Browsers that send none of the headers by which they say where a request comes from.
	for path, method := range map[string]string{
		"/v1/clusters/prod/snapshots/a": "DELETE", "/v1/clusters/prod/snapshots:save": "POST", "/console/logout": "POST",
	} {
		before := g.asked.Load()
		if resp, body := v.ask(method, path); path != "/console/logout" && resp.code != http.StatusUnauthorized {
			t.Errorf("%s %s without the header of the console is %d %s", method, path, resp.code, body)
		}
		if g.asked.Load() != before {
			t.Errorf("%s %s was done", method, path)
		}
	}
	for _, headers := range [][]string{
		{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site", "X-Snapshotd-Console", "1"},
		{"Origin", consoleURL},
	} {
		if resp, body := v.ask("POST", "/console/logout", headers...); resp.code != http.StatusForbidden {
			t.Errorf("a logout with %q is %d %s", headers, resp.code, body)
		}
	}
}

// TestRulesThatCannotBeAppliedEndNoSession: neither with the key nor with the rules that they have.
func TestRulesThatCannotBeAppliedEndNoSession(t *testing.T) {
	g := guardedService(t)
	g.issuer.LogIn("viewer", nil)
	v := g.opens(t)
	v.follow("/console/login")
	v.isIn("after the login", true)
	access := *g.access
	access.SessionKey, access.TokensFile = filepath.Join(t.TempDir(), "key"), filepath.Join(t.TempDir(), "tokens")
	write(t, access.SessionKey, []byte(rand.Text()+rand.Text()))
	write(t, access.TokensFile, []byte("rubbish"))
	if err := g.SetAccess(&access); err == nil {
		t.Fatal("a damaged file of tokens is taken")
	}
	v.isIn("after rules that could not be applied", true)
	if err := os.Remove(access.TokensFile); err != nil {
		t.Fatal(err)
	}
	access.TokensFile = g.access.TokensFile
	if err := g.SetAccess(&access); err != nil {
		t.Fatal(err)
	}
	v.isIn("after the key has changed", false)
}

// TestAnswersStayOutOfCaches, and their addresses away from other sites: those with facts, and those of the login. The
// parts of the page are asked for anew each time.
func TestAnswersStayOutOfCaches(t *testing.T) {
	g := guardedService(t)
	g.issuer.LogIn("viewer", nil)
	v := g.opens(t)
	check := func(who string, paths ...string) {
		t.Helper()
		for _, path := range paths {
			resp, _ := v.ask("GET", path)
			for name, want := range map[string]string{
				"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
				"Cross-Origin-Resource-Policy": "same-origin",
			} {
				if got := resp.header.Values(name); len(got) != 1 || got[0] != want {
					t.Errorf("%s as %s has %s %q", path, who, name, got)
				}
			}
		}
	}
	check("nobody", "/", "/v1/snapshots", "/console/service", "/console/callback?code=x&state=y", "/console/login")
	v.follow("/console/login")
	check("a viewer", "/v1/snapshots", "/v1/whoami", "/v1/nothing", "/console/service", "/metrics")
	check("nobody", "/healthz", "/nothing")
	if resp, _ := v.ask("GET", "/console/main.js"); resp.header.Get("Cache-Control") != "no-cache" {
		t.Errorf("a part of the page has %v", resp.header)
	}
	resp, _ := v.ask("POST", "/console/logout", "X-Snapshotd-Console", "1")
	if resp.header.Get("Cache-Control") != "no-store" {
		t.Errorf("the logout has %v", resp.header)
	}
}

// TestASessionIsSealed: nobody but the service makes one, and one that was changed is none.
func TestASessionIsSealed(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	write(t, key, []byte(rand.Text()+rand.Text()))
	shared := func(cfg *server.Config) { cfg.Access.SessionKey = key }
	a, b, alone := guardedWith(t, shared), guardedWith(t, shared), guardedService(t)
	// Replicas have one configuration.
	for _, g := range []*guardedServer{b, alone} {
		access := *a.access
		if g == alone {
			access.SessionKey = ""
		}
		if err := g.SetAccess(&access); err != nil {
			t.Fatal(err)
		}
	}
	a.issuer.LogIn("admin", nil)
	v := a.opens(t)
	v.follow("/console/login")
	v.isIn("at the replica of the login", true)
	session := v.cookie(cookieName)
	try := func(g *guardedServer, what, name, value string, in bool) {
		t.Helper()
		v := g.opens(t)
		v.put(name, value)
		v.isIn(what, in)
	}
	try(b, "at a replica with the same key", cookieName, session, true)
	try(alone, "at one with a key of its own", cookieName, session, false)
	try(a, "under the name without TLS", "snapshotd-session", session, false)
	try(a, "in capitals", cookieName, strings.ToUpper(session), false)
	try(a, "cut off", cookieName, session[:len(session)-4], false)
	for _, i := range []int{0, 20, len(session) / 2, len(session) - 2} {
		changed := []byte(session)
		changed[i] ^= 1
		try(a, "with another letter", cookieName, string(changed), false)
	}
	begun := a.opens(t)
	begun.ask("GET", "/console/login")
	try(a, "with the cookie of a login", cookieName, begun.cookie(pending), false)
	write(t, key, []byte("short"))
	try(a, "with a file that holds no key", cookieName, session, true)
	if err := a.SetAccess(a.access); err == nil || !strings.Contains(err.Error(), "openssl rand") {
		t.Errorf("a short key is taken: %v", err)
	}
	try(a, "after a key that cannot be used", cookieName, session, true)
	write(t, key, []byte(rand.Text()+rand.Text()))
	try(a, "after the key has changed", cookieName, session, false)
}

// TestTheRulesHoldForSessionsThatAreOpen, and for their streams.
func TestTheRulesHoldForSessionsThatAreOpen(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	write(t, key, []byte(rand.Text()+rand.Text()))
	g := guardedWith(t, func(cfg *server.Config) { cfg.Access.SessionKey = key },
		quiet(&guardedServer{}, "prod", hiddenName)...)
	logIn := func() *visitor {
		g.issuer.LogIn("alice", map[string]any{"groups": []string{"admins", "unknown"}})
		v := g.opens(t)
		if resp, body := v.follow("/console/login"); resp.code != http.StatusOK {
			t.Fatalf("the login ends with %d %s", resp.code, body)
		}
		return v
	}
	events := func(v *visitor) io.ReadCloser {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, consoleURL+"/v1/events", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := v.Do(req)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("events: %v, %v", resp, err)
		}
		return resp.Body
	}
	ends := func(body io.ReadCloser, what, reason string) {
		t.Helper()
		over := make(chan string, 1)
		go func() {
			text, _ := io.ReadAll(body)
			_ = body.Close()
			over <- string(text)
		}()
		if text := wait(t, over, "the end of the stream after "+what); !strings.Contains(text, reason) {
			t.Errorf("after %s, the stream ends with %s", what, text)
		}
	}
	without := func(change func(*auth.Access)) {
		t.Helper()
		access := *g.access
		access.Rules, access.Issuers = slices.Clone(access.Rules), slices.Clone(access.Issuers)
		change(&access)
		if err := g.SetAccess(&access); err != nil {
			t.Fatal(err)
		}
	}
	for what, c := range map[string]struct {
		change func(v *visitor)
		reason string
		code   int
	}{
		"the rules have changed": {func(*visitor) {
			without(func(a *auth.Access) { a.Rules = a.Rules[:2] })
		}, "ROLE_MISSING", http.StatusForbidden},
		"the issuer has other settings": {func(*visitor) {
			without(func(a *auth.Access) { a.Issuers[0].Claims = map[string]string{"hd": "example.org"} })
		}, "UNAUTHENTICATED", http.StatusUnauthorized},
		"nobody can log in any more": {func(*visitor) {
			without(func(a *auth.Access) { a.Issuers[0].Login = nil })
		}, "UNAUTHENTICATED", http.StatusUnauthorized},
		"the key has changed": {func(v *visitor) {
			write(t, key, []byte(rand.Text()+rand.Text()))
			v.ask("GET", "/v1/snapshots")
		}, "UNAUTHENTICATED", http.StatusUnauthorized},
		"a logout": {func(v *visitor) { v.ask("POST", "/console/logout", "X-Snapshotd-Console", "1") },
			"UNAUTHENTICATED", http.StatusUnauthorized},
	} {
		t.Run(what, func(t *testing.T) {
			without(func(*auth.Access) {})
			v := logIn()
			stream := events(v)
			c.change(v)
			ends(stream, what, c.reason)
			if resp, body := v.ask("GET", "/v1/snapshots"); resp.code != c.code {
				t.Errorf("the API answers %d %s", resp.code, body)
			}
		})
	}
}

// TestAPersonWithoutARoleIsToldSo, and can log in as somebody else.
func TestAPersonWithoutARoleIsToldSo(t *testing.T) {
	g := guardedService(t)
	g.issuer.LogIn("stranger", nil)
	v := g.opens(t)
	resp, body := v.follow("/console/login")
	if resp.code != http.StatusForbidden || !strings.Contains(body, "corp:stranger") || strings.Contains(body, "prod") ||
		!strings.Contains(body, `href="/console/login?issuer=corp"`) {
		t.Errorf("a stranger gets %d %s", resp.code, body)
	}
	if resp, _ := v.ask("GET", "/console/login"); !strings.Contains(resp.header.Get("Location"), "prompt=select_account") {
		t.Errorf("the issuer does not ask for another account: %s", resp.header.Get("Location"))
	}
	_, err := g.as(t, person{name: "session", cookies: v.cookies()}).WhoAmI(t.Context(), &snapshotdv1.WhoAmIRequest{})
	checkError(t, err, codes.Unauthenticated, snapshot.ReasonUnauthenticated) // gRPC knows no cookies
}

// TestNobodyLogsInWhereNoIssuerIsForThat: the paths are not there.
func TestNobodyLogsInWhereNoIssuerIsForThat(t *testing.T) {
	for what, change := range map[string]func(*auth.Access){
		"no login":                 func(a *auth.Access) { a.Issuers[0].Login = nil },
		"a console that is closed": func(a *auth.Access) { a.Console = auth.Nobody },
	} {
		g := guardedWith(t, func(cfg *server.Config) { change(cfg.Access) })
		v := g.opens(t)
		for path, method := range map[string]string{"/console/login": "GET", "/console/callback": "GET",
			"/console/logout": "POST"} {
			if resp, body := v.ask(method, path); resp.code != http.StatusNotFound {
				t.Errorf("with %s, %s is %d %s", what, path, resp.code, body)
			}
		}
		if resp, body := v.ask("GET", "/"); resp.code == http.StatusOK || strings.Contains(body, "console/login") {
			t.Errorf("with %s, the page is %d %s", what, resp.code, body)
		}
	}
}

// TestFewLoginsAskTheIssuerAtATime: anyone can begin a login and make up its answer, which the issuer has to judge.
func TestFewLoginsAskTheIssuerAtATime(t *testing.T) {
	const most = 8
	g := guardedService(t)
	g.issuer.LogIn("viewer", nil)
	release := g.issuer.Hold()
	t.Cleanup(release)
	codes := make(chan int, most)
	for range most {
		v := g.opens(t)
		back := v.callback().String()
		go func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, back, http.NoBody)
			if err != nil {
				codes <- 0
				return
			}
			resp, err := v.Transport.RoundTrip(withCookies(req, v.cookies()))
			if err != nil {
				codes <- 0
				return
			}
			_ = resp.Body.Close()
			codes <- resp.StatusCode
		}()
	}
	for end := time.Now().Add(waitTimeout); g.issuer.Asked() < most; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the issuer was asked %d times", g.issuer.Asked())
		}
	}
	v := g.opens(t)
	if resp, body := v.ask("GET", v.callback().String()); resp.code != http.StatusServiceUnavailable ||
		strings.Contains(body, "viewer") {
		t.Errorf("one more is %d %s", resp.code, body)
	}
	release()
	for range most {
		if code := wait(t, codes, "the end of a login"); code != http.StatusSeeOther {
			t.Errorf("a login that waited ends with %d", code)
		}
	}
	v.follow("/console/login")
	v.isIn("after it", true)
}

func withCookies(req *http.Request, cookies []*http.Cookie) *http.Request {
	for _, c := range cookies {
		req.AddCookie(c)
	}
	return req
}
