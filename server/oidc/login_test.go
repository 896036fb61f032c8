package oidc

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/server/auth"
)

// loginWorld is an issuer that describes itself as a test wants, and notes the requests at its token endpoint.
type loginWorld struct {
	*world
	says  map[string]any
	asked []*http.Request // of the token endpoint, with their forms
	reply http.HandlerFunc
}

func newLoginWorld(t *testing.T, login auth.Login) *loginWorld {
	t.Helper()
	w := &loginWorld{says: map[string]any{}}
	w.world = newWorld(t, func(i *auth.Issuer) { i.Login = &login })
	mux := http.NewServeMux()
	mux.Handle("/", w.world)
	mux.HandleFunc("GET /.well-known/openid-configuration", func(rw http.ResponseWriter, _ *http.Request) {
		doc := map[string]any{
			"issuer": w.url, "authorization_endpoint": w.url + "/auth", "token_endpoint": w.url + "/token",
			"jwks_uri": w.url + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"},
		}
		for k, v := range w.says {
			doc[k] = v
		}
		rw.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(rw).Encode(doc) // to a client that waits for it
	})
	mux.HandleFunc("POST /token", func(rw http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm() // what cannot be read is missing
		w.asked = append(w.asked, r)
		w.reply(rw, r)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	w.url = srv.URL
	w.keys.SetIssuer(srv.URL)
	cfg := w.cfg
	cfg.URL = srv.URL
	now := w.now
	w.Issuer = New(cfg, slog.New(slog.DiscardHandler))
	w.now = now
	w.reply = w.answer(nil)
	return w
}

// answer answers with an ID token, with changes of its claims.
func (w *loginWorld) answer(changes map[string]any) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) {
		claims := map[string]any{"aud": "console", "nonce": "n"}
		for k, v := range changes {
			claims[k] = v
		}
		rw.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(rw).Encode(map[string]any{ // to a client that waits for it
			"access_token": "a", "token_type": "Bearer", "id_token": w.token(0, claims),
		})
	}
}

var request = auth.LoginRequest{State: "s", Nonce: "n", Verifier: strings.Repeat("v", 52)}

func TestALoginIsOneOfTheCodeFlowWithPKCE(t *testing.T) {
	w := newLoginWorld(t, auth.Login{ClientID: "console", RedirectURL: "https://c.example/console/callback"})
	text, err := w.LoginURL(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	for name, want := range map[string]string{
		"response_type": "code", "client_id": "console", "redirect_uri": "https://c.example/console/callback", "state": "s",
		"nonce": "n", "code_challenge_method": "S256", "scope": "openid profile email", "prompt": "",
	} {
		if q.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, q.Get(name), want)
		}
	}
	if len(q.Get("code_challenge")) != 43 || strings.Contains(text, request.Verifier) {
		t.Errorf("the challenge is %q", q.Get("code_challenge"))
	}
	id, err := w.Redeem(t.Context(), "c", request)
	if err != nil || id.Name != "corp:alice" {
		t.Fatalf("the login is of %+v, %v", id, err)
	}
	form := w.asked[0].PostForm
	if form.Get("code") != "c" || form.Get("code_verifier") != request.Verifier || form.Get("client_id") != "console" ||
		form.Get("redirect_uri") != "https://c.example/console/callback" || form.Has("client_secret") ||
		w.asked[0].Header.Get("Authorization") != "" {
		t.Errorf("a public client sends %v %v", form, w.asked[0].Header)
	}
}

func TestAClientShowsItsSecretAsTheIssuerWantsIt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for says, inForm := range map[string]bool{"": false, "client_secret_basic": false, "client_secret_post": true} {
		w := newLoginWorld(t, auth.Login{ClientID: "console", SecretFile: file, Scopes: []string{"openid", "groups"}})
		if says != "" {
			w.says["token_endpoint_auth_methods_supported"] = []string{says}
		}
		if _, err := w.Redeem(t.Context(), "c", request); err != nil {
			t.Fatal(err)
		}
		_, basic, _ := w.asked[0].BasicAuth()
		form := w.asked[0].PostForm.Get("client_secret")
		if len(w.asked) != 1 || (form == "hush") != inForm || (basic == "hush") == inForm {
			t.Errorf("with %q: %q in the form, %q in the header, %d requests", says, form, basic, len(w.asked))
		}
		if to, _ := w.LoginURL(t.Context(), request); !strings.Contains(to, "scope=openid+groups&") {
			t.Errorf("the scopes are in %s", to)
		}
		if err := os.WriteFile(file, []byte("other"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.reply = func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "application/json")
			rw.WriteHeader(http.StatusUnauthorized)
			_, _ = rw.Write([]byte(`{"error":"invalid_client","error_description":"PLANTED"}`))
		}
		_, err := w.Redeem(t.Context(), "c", request)
		if err == nil || !strings.Contains(err.Error(), "invalid_client") || strings.Contains(err.Error(), "PLANTED") ||
			strings.Contains(err.Error(), "other") {
			t.Errorf("a wrong secret: %v", err)
		}
		if _, basic, _ := w.asked[1].BasicAuth(); !inForm && basic != "other" {
			t.Errorf("a secret that was replaced is %q", basic)
		}
		if err := os.WriteFile(file, []byte("hush\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestACodeIsSentToTheIssuerAlone: whatever the issuer's description or its answer says.
func TestACodeIsSentToTheIssuerAlone(t *testing.T) {
	w := newLoginWorld(t, auth.Login{ClientID: "console"})
	var elsewhere int
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	t.Cleanup(other.Close)
	for _, code := range []int{http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		w.reply = func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, other.URL, code) }
		if id, err := w.Redeem(t.Context(), "c", request); err == nil || elsewhere > 0 {
			t.Errorf("after %d: %v, %v; the other host was asked %d times", code, id, err, elsewhere)
		}
	}
	for _, endpoint := range []string{"authorization_endpoint", "token_endpoint"} {
		for _, at := range []string{"http://login.example/x", "javascript:alert(1)", "//login.example", "", "file:///x"} {
			w := newLoginWorld(t, auth.Login{ClientID: "console"})
			w.says[endpoint] = at
			if to, err := w.LoginURL(t.Context(), request); err == nil {
				t.Errorf("with %s %q, a browser is sent to %s", endpoint, at, to)
			}
			if id, err := w.Redeem(t.Context(), "c", request); err == nil || len(w.asked) > 0 {
				t.Errorf("with %s %q: %v, %v", endpoint, at, id, err)
			}
		}
	}
}

func TestWhatIsNoAnswerToALogin(t *testing.T) {
	w := newLoginWorld(t, auth.Login{ClientID: "console"})
	claim := func(name string, value any) http.HandlerFunc { return w.answer(map[string]any{name: value}) }
	body := func(text string) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "application/json")
			_, _ = rw.Write([]byte(text))
		}
	}
	for what, reply := range map[string]http.HandlerFunc{
		"another nonce": claim("nonce", "m"), "no nonce": claim("nonce", nil),
		"the audience of bearer tokens": claim("aud", "snapshotd"),
		"another party":                 claim("azp", "x"), "several audiences for another": w.answer(map[string]any{
			"aud": []string{"console", "x"}, "azp": "x",
		}),
		"no ID token": body(`{"access_token":"a","token_type":"Bearer"}`),
		"a number":    body(`{"access_token":"a","id_token":5}`),
		"a huge one":  body(`{"access_token":"a","id_token":"` + strings.Repeat("a", 20<<10) + `"}`),
		"HTML":        body("<html>"), "nothing": body(""),
	} {
		w.reply = reply
		if id, err := w.Redeem(t.Context(), "c", request); err == nil {
			t.Errorf("%s: it is %+v", what, id)
		}
	}
	w.reply = w.answer(map[string]any{"aud": []string{"console", "x"}, "azp": "console", "groups": []string{"a"}})
	if id, err := w.Redeem(t.Context(), "c", request); err != nil || !slices.Equal(id.Groups, []string{"corp:a"}) {
		t.Errorf("several audiences: %+v, %v", id, err)
	}
}
