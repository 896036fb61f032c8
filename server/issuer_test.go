package server_test

import (
	"path/filepath"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/server/auth"
)

// accepted is an issuer as the rules accept it, with people who log in at it.
func accepted(t *testing.T, i *testenv.Issuer) auth.Issuer {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, []byte(testenv.IssuerSecret+"\n"))
	return auth.Issuer{
		Name: "corp", URL: i.URL, Audience: "snapshotd", NameClaim: "sub", GroupsClaim: "groups",
		Login: &auth.Login{ClientID: testenv.IssuerClient, SecretFile: secret, RedirectURL: consoleURL + "/console/callback"},
	}
}

// withIdentity returns a person with a token of the issuer.
func (g *guardedServer) withIdentity(_ *testing.T, name string) person {
	return person{name: "oidc " + name, token: g.issuer.Token("snapshotd", name, nil)}
}

// withSession returns a person whose browser has logged in at the issuer.
func (g *guardedServer) withSession(t *testing.T, name string) person {
	t.Helper()
	g.issuer.LogIn(name, nil)
	v := g.opens(t)
	v.follow("/console/login") // which ends with an error for those without a role
	return person{name: "session " + name, cookies: v.cookies()}
}
