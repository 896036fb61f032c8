package oidc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc/oidctest"

	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/snapshot"
)

// world is an issuer behind a real port, made of the library's own helper for tests; it can be away, and change its
// keys.
type world struct {
	*Issuer
	url string

	mu    sync.Mutex
	keys  *oidctest.Server
	away  bool
	hangs chan struct{} // it answers when this is closed; nil for at once
	asked int
	clock time.Time
}

// ServeHTTP implements [http.Handler].
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if hangs := w.hangs; hangs != nil {
		w.mu.Unlock()
		<-hangs
		w.mu.Lock()
	}
	if w.away {
		http.Error(rw, "out of order", http.StatusBadGateway)
		return
	}
	w.keys.ServeHTTP(rw, r)
}

func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *world) pass(d time.Duration) { w.set(func() { w.clock = w.clock.Add(d) }) }

var signing = sync.OnceValue(func() []*rsa.PrivateKey {
	var all []*rsa.PrivateKey
	for range 3 {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		all = append(all, key)
	}
	return all
})

var keyNames = []string{"one", "two", "three"}

// publish makes keys those of the issuer.
func (w *world) publish(which ...int) {
	w.keys.PublicKeys = nil
	for _, i := range which {
		w.keys.PublicKeys = append(w.keys.PublicKeys,
			oidctest.PublicKey{PublicKey: signing()[i].Public(), KeyID: keyNames[i], Algorithm: "RS256"})
	}
}

func newWorld(t *testing.T, change func(*auth.Issuer)) *world {
	t.Helper()
	w := &world{keys: &oidctest.Server{}, clock: time.Now()}
	w.publish(0)
	srv := httptest.NewServer(w)
	t.Cleanup(srv.Close)
	w.url = srv.URL
	w.keys.SetIssuer(srv.URL)
	cfg := auth.Issuer{Name: "corp", URL: srv.URL, Audience: "snapshotd", NameClaim: "sub", GroupsClaim: "groups"}
	if change != nil {
		change(&cfg)
	}
	w.Issuer = New(cfg, slog.New(slog.DiscardHandler))
	w.now = func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.clock
	}
	return w
}

// claims are those of a good token, with changes; a nil value takes one away.
func (w *world) claims(changes map[string]any) string {
	all := map[string]any{"iss": w.url, "aud": "snapshotd", "sub": "alice", "exp": w.now().Add(time.Hour).Unix()}
	maps.Copy(all, changes)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	text, _ := json.Marshal(all) // of strings and numbers
	return string(text)
}

func (w *world) token(key int, changes map[string]any) string {
	return oidctest.SignIDToken(signing()[key], keyNames[key], "RS256", w.claims(changes))
}

// good checks that a token is good, and returns who it is about.
func (w *world) good(t *testing.T, token string) *auth.Identity {
	t.Helper()
	id, err := w.Verify(token)
	if err != nil {
		t.Fatalf("a good token is refused: %v", err)
	}
	return id
}

// bad checks that a token is refused, and for which reason if one is given.
func (w *world) bad(t *testing.T, what, token string, why ...string) {
	t.Helper()
	id, err := w.Verify(token)
	if id != nil || snapshot.ReasonOf(err) != snapshot.ReasonUnauthenticated {
		t.Errorf("%s: %v, %v", what, id, err)
	}
	for _, text := range why {
		if err != nil && !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %q", what, err, text)
		}
	}
	if err != nil && strings.Contains(err.Error(), w.url) {
		t.Errorf("%s: the error tells of the issuer: %v", what, err)
	}
}

func TestATokenOfTheIssuerSaysWhoCalls(t *testing.T) {
	w := newWorld(t, nil)
	token := w.token(0, map[string]any{"groups": []string{"admins", "staff"}})
	id := w.good(t, token)
	if id.Name != "corp:alice" || !slices.Equal(id.Groups, []string{"corp:admins", "corp:staff"}) ||
		id.Until.Unix() != w.now().Add(time.Hour).Unix() {
		t.Errorf("it is about %+v", id)
	}
	if !w.Issues(token) || w.Issues("sdt_a_b") || w.Issues("a.b.c") || w.Issues("") {
		t.Error("the issuer does not know its tokens by their form")
	}
}

func TestATokenThatIsNotTheIssuersIsRefused(t *testing.T) {
	w := newWorld(t, func(i *auth.Issuer) { i.Claims = map[string]string{"hd": "example.org"} })
	ok := map[string]any{"hd": "example.org"}
	with := func(name string, value any) map[string]any {
		m := maps.Clone(ok)
		m[name] = value
		return m
	}
	w.good(t, w.token(0, ok))
	good := strings.Split(w.token(0, ok), ".")
	raw := base64.RawURLEncoding
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const (
		foreign = "is not signed by its issuer, or is for another service"
		expired = "expired at"
		claim   = "has not the claim hd"
		name    = "the claim sub of the token is no name"
	)
	for what, tc := range map[string]struct{ token, why string }{
		"another key":           {oidctest.SignIDToken(signing()[1], "one", "RS256", w.claims(ok)), foreign},
		"an unknown key":        {w.token(2, ok), foreign},
		"another algorithm":     {oidctest.SignIDToken(ec, "one", "ES256", w.claims(ok)), foreign},
		"no signature":          {raw.EncodeToString([]byte(`{"alg":"none"}`)) + "." + good[1] + ".", foreign},
		"HMAC with the key":     {hmacWithPublicKey(t, w.claims(ok)), foreign},
		"changed claims":        {good[0] + "." + raw.EncodeToString([]byte(w.claims(with("sub", "root")))) + "." + good[2], foreign},
		"another audience":      {w.token(0, with("aud", "vault")), foreign},
		"no audience":           {w.token(0, with("aud", nil)), foreign},
		"another issuer":        {w.token(0, with("iss", "https://evil.example")), foreign},
		"an issuer with slash":  {w.token(0, with("iss", w.url+"/")), foreign},
		"expired":               {w.token(0, with("exp", w.now().Add(-time.Minute).Unix())), expired},
		"no expiry":             {w.token(0, with("exp", nil)), expired},
		"not yet valid":         {w.token(0, with("nbf", w.now().Add(time.Hour).Unix())), foreign},
		"a claim is missing":    {w.token(0, map[string]any{"hd": nil}), claim},
		"a claim is another":    {w.token(0, with("hd", "example.com")), claim},
		"a claim is a list":     {w.token(0, with("hd", []string{"example.org"})), claim},
		"no name":               {w.token(0, with("sub", nil)), name},
		"an empty name":         {w.token(0, with("sub", "")), name},
		"a name of several":     {w.token(0, with("sub", []string{"alice", "root"})), foreign},
		"a star as the name":    {w.token(0, with("sub", "*")), name},
		"a name with a newline": {w.token(0, with("sub", "alice\nrole=admin")), name},
		"not a token":           {"a.b.c", foreign},
		"nothing":               {"", foreign},
	} {
		w.bad(t, what, tc.token, tc.why)
	}
}

// hmacWithPublicKey signs with the public key as if it were a shared secret.
func hmacWithPublicKey(t *testing.T, claims string) string {
	t.Helper()
	return oidctest.SignIDToken(signing()[0].N.Bytes(), "one", "HS256", claims)
}

func TestAMailAddressCountsOnceItIsVerified(t *testing.T) {
	w := newWorld(t, func(i *auth.Issuer) { i.NameClaim = "email" })
	for verified, good := range map[any]bool{true: true, false: false, "true": false, nil: false} {
		token := w.token(0, map[string]any{"email": "alice@example.org", "email_verified": verified})
		if !good {
			w.bad(t, "not verified", token)
			continue
		}
		if id := w.good(t, token); id.Name != "corp:alice@example.org" {
			t.Errorf("it is about %s", id.Name)
		}
	}
}

func TestKeysAreRotated(t *testing.T) {
	w := newWorld(t, nil)
	w.good(t, w.token(0, nil))
	w.set(func() { w.publish(0, 1) })
	w.pass(pause)
	w.good(t, w.token(1, nil)) // a key that is not known is asked for
	w.good(t, w.token(0, nil))
	w.set(func() { w.publish(1) })
	w.good(t, w.token(0, nil)) // for a while
	w.pass(renewal + pause)
	w.bad(t, "a key that was taken back", w.token(0, nil))
	w.good(t, w.token(1, nil))
}

func TestKnownTokensAreGoodWhileTheIssuerIsAway(t *testing.T) {
	w := newWorld(t, nil)
	w.set(func() { w.away = true })
	w.bad(t, "before the issuer was ever there", w.token(0, nil))
	w.set(func() { w.away = false })
	w.pass(pause)
	w.good(t, w.token(0, nil))
	w.set(func() { w.away = true })
	for range 24 {
		w.pass(time.Hour)
		w.good(t, w.token(0, nil))
		w.bad(t, "another key meanwhile", w.token(1, nil))
	}
	w.set(func() { w.away = false; w.publish(1) })
	w.pass(renewal + pause)
	w.good(t, w.token(1, nil))
	w.bad(t, "the earlier key", w.token(0, nil))
}

// An issuer that takes the question and gives no answer is away as well, however many ask.
func TestKnownTokensAreGoodWhileTheIssuerHangs(t *testing.T) {
	w := newWorld(t, nil)
	w.patience = time.Millisecond
	w.good(t, w.token(0, nil))
	hangs := make(chan struct{})
	answer := sync.OnceFunc(func() { close(hangs) })
	defer answer()
	w.set(func() { w.hangs, w.asked = hangs, 0; w.publish(1) })
	w.pass(renewal)
	token := w.token(0, nil)
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			if _, err := w.Verify(token); err != nil {
				t.Errorf("a good token is refused: %v", err)
			}
		})
	}
	calls.Wait()
	w.set(func() {
		if w.asked > 1 {
			t.Errorf("the issuer was asked %d times", w.asked)
		}
		w.hangs = nil
	})
	q := w.question()
	if q == nil {
		t.Fatal("the question has ended before it was answered")
	}
	answer()
	<-q.ended
	w.good(t, w.token(1, nil))
	w.bad(t, "a key that was taken back", token)
}

func (w *world) question() *question {
	w.Issuer.mu.Lock()
	defer w.Issuer.mu.Unlock()
	return w.asking
}

// Anyone can make tokens with keys that nobody knows. They do not make the service ask each time.
func TestUnknownKeysDoNotFloodTheIssuer(t *testing.T) {
	w := newWorld(t, nil)
	w.good(t, w.token(0, nil))
	w.set(func() { w.asked = 0 })
	for range 200 {
		w.bad(t, "an unknown key", w.token(2, nil))
		w.bad(t, "a wrong signature", oidctest.SignIDToken(signing()[1], "one", "RS256", w.claims(nil)))
	}
	w.set(func() {
		if w.asked > 1 {
			t.Errorf("the issuer was asked %d times", w.asked)
		}
	})
}

func TestAnIssuerWithoutItsFileAcceptsNothing(t *testing.T) {
	w := newWorld(t, func(i *auth.Issuer) { i.CAFile = "/does/not/exist" })
	w.bad(t, "no file", w.token(0, nil))
}
