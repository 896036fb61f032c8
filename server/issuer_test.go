package server_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"maps"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc/oidctest"

	"github.com/snapshotd/snapshotd/server/auth"
)

// issuer is an issuer of OpenID Connect in this process: the library's own helper for tests, behind a real port. It
// describes itself, and has one key.
type issuer struct {
	url string
	key *rsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s := &oidctest.Server{PublicKeys: []oidctest.PublicKey{{PublicKey: key.Public(), KeyID: "one", Algorithm: "RS256"}}}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	s.SetIssuer(srv.URL)
	return &issuer{url: srv.URL, key: key}
}

// accepted is the issuer as the rules accept it.
func (i *issuer) accepted() auth.Issuer {
	return auth.Issuer{Name: "corp", URL: i.url, Audience: "snapshotd", NameClaim: "sub", GroupsClaim: "groups"}
}

// token returns a token about somebody, with more claims.
func (i *issuer) token(t *testing.T, name string, more map[string]any) string {
	t.Helper()
	claims := map[string]any{"iss": i.url, "aud": "snapshotd", "sub": name, "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(claims, more)
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return oidctest.SignIDToken(i.key, "one", "RS256", string(text))
}

// withIdentity returns a person with a token of the issuer.
func (g *guardedServer) withIdentity(t *testing.T, name string) person {
	t.Helper()
	return person{name: "oidc " + name, token: g.issuer.token(t, name, nil)}
}
