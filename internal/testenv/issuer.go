package testenv

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc/oidctest"
)

// The client of an [Issuer].
const (
	IssuerClient = "snapshotd-console"
	IssuerSecret = "PLANTEDCLIENTSECRET"
)

// Issuer is an issuer of OpenID Connect in this process, behind a real port: the library's own helper for tests, with
// the two endpoints of a login. It asks nobody for a password: who logs in is the one that User names.
type Issuer struct {
	URL string

	key  *rsa.PrivateKey
	base oidctest.Server

	mu     sync.Mutex
	user   string
	more   map[string]any // claims of the next ID tokens
	codes  map[string]url.Values
	tokens int           // how often the token endpoint was asked
	held   chan struct{} // closed when the token endpoint may answer; nil when it answers at once
}

// issuerKey is the key of all issuers of this process: to make one takes longer than most tests of one.
var issuerKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// NewIssuer starts an issuer.
func NewIssuer(t *testing.T) *Issuer {
	t.Helper()
	key, err := issuerKey()
	if err != nil {
		t.Fatal(err)
	}
	i := &Issuer{key: key, codes: map[string]url.Values{}}
	i.base.PublicKeys = []oidctest.PublicKey{{PublicKey: key.Public(), KeyID: "one", Algorithm: "RS256"}}
	mux := http.NewServeMux()
	mux.Handle("/", &i.base)
	mux.HandleFunc("GET /auth", i.authorize)
	mux.HandleFunc("POST /token", i.redeem)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	i.URL = srv.URL
	i.base.SetIssuer(srv.URL)
	return i
}

// LogIn sets who logs in next, with more claims of the ID token; a nil value takes a claim away.
func (i *Issuer) LogIn(user string, more map[string]any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.user, i.more = user, more
}

// Hold keeps the token endpoint from answering until release is called.
func (i *Issuer) Hold() (release func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.held = make(chan struct{})
	return sync.OnceFunc(func() { close(i.held) })
}

// Asked returns how often the token endpoint was asked.
func (i *Issuer) Asked() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.tokens
}

// Token returns a token about somebody for an audience, with more claims.
func (i *Issuer) Token(audience, name string, more map[string]any) string {
	claims := map[string]any{"iss": i.URL, "aud": audience, "sub": name, "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(claims, more)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	text, err := json.Marshal(claims)
	if err != nil {
		panic(err) // a test has it wrong
	}
	return oidctest.SignIDToken(i.key, "one", "RS256", string(text))
}

// authorize is where a browser comes to, and is sent back from with a code.
func (i *Issuer) authorize(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	q := r.URL.Query()
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || q.Get("response_type") != "code" || q.Get("client_id") != IssuerClient ||
		q.Get("code_challenge_method") != "S256" || q.Get("state") == "" || q.Get("nonce") == "" {
		http.Error(w, "this is no request for a code: "+r.URL.RawQuery, http.StatusBadRequest)
		return
	}
	answer := url.Values{"state": {q.Get("state")}, "iss": {i.URL}}
	if i.user == "" {
		answer.Set("error", "access_denied")
	} else {
		code := rand.Text()
		q.Set("user", i.user)
		i.codes[code] = q
		answer.Set("code", code)
	}
	back.RawQuery = answer.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

// redeem answers with an ID token for a code, once.
func (i *Issuer) redeem(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.tokens++
	held := i.held
	i.mu.Unlock()
	if held != nil {
		<-held
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	client, secret, basic := r.BasicAuth()
	q, known := i.codes[r.PostFormValue("code")]
	delete(i.codes, r.PostFormValue("code"))
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if !known || !basic || client != IssuerClient || secret != IssuerSecret ||
		q.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) ||
		q.Get("redirect_uri") != r.PostFormValue("redirect_uri") {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error":"invalid_grant"}`)) // the client is gone
		return
	}
	claims := map[string]any{"nonce": q.Get("nonce")}
	maps.Copy(claims, i.more)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{ // the client is gone
		"access_token": rand.Text(), "token_type": "Bearer", "expires_in": 300,
		"id_token": i.Token(IssuerClient, q.Get("user"), claims),
	})
}
