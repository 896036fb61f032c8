package auth

import (
	"strings"
	"time"
)

// Issuer is an issuer of OpenID Connect whose tokens are accepted.
type Issuer struct {
	Name        string            // begins the names of its callers and groups in rules and records
	URL         string            // as its tokens name it
	Audience    string            // for which they must be
	NameClaim   string            // has the caller's name
	GroupsClaim string            // has the caller's groups; may be empty
	Claims      map[string]string // that a token must have, with these values
	CAFile      string            // of the issuer's certificate; those of the system when it is empty
	Login       *Login            // how people log in with a browser; nil when they cannot
}

// Identity is who a token of an issuer is about.
type Identity struct {
	Name   string    // with the issuer's: corp:alice@example.org
	Groups []string  // the same: corp:etcd-admins
	Until  time.Time // when the token expires
}

// A Verifier knows the tokens of one issuer.
type Verifier interface {
	// Issues reports whether a token says that it is one of the issuer. That is not verified.
	Issues(token string) bool
	// Verify returns who a token is about. The error is one for the caller: it says nothing about the service.
	Verify(token string) (*Identity, error)
}

// isIssued reports whether a token has the form of those of issuers: three parts of base64 with dots between them. The
// service's own have no dots.
func isIssued(token string) bool {
	return strings.Count(token, ".") == 2 && !strings.HasPrefix(token, tokenPrefix+"_")
}

// identify returns who a token of an issuer is about.
func (a *Authority) identify(token string) (*Identity, error) {
	a.mu.Lock()
	verifiers := a.verifiers
	a.mu.Unlock()
	for _, v := range verifiers {
		if v.Issues(token) {
			return v.Verify(token)
		}
	}
	return nil, unauthenticated("the token is of no issuer that is accepted",
		"access.oidc in the service's configuration names those that are")
}

// byIdentity returns the principal of an identity.
func (a *Authority) byIdentity(id *Identity) *Principal {
	p := &Principal{Kind: KindOIDC, Name: id.Name, Until: id.Until}
	p.grants = a.grants(func(r *Rule) bool {
		if anyMatch(r.Identities, id.Name, ':') {
			return true
		}
		for _, g := range id.Groups {
			if anyMatch(r.Groups, g, ':') {
				return true
			}
		}
		return false
	})
	return p
}
