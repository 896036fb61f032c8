package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// maxEnded is how many sessions are remembered that were ended before their time.
const maxEnded = 10000

// Login is how people log in at an issuer with a browser.
type Login struct {
	ClientID    string   // the name of this service at the issuer
	SecretFile  string   // of the client; empty for a public one
	RedirectURL string   // of the console's callback, as browsers reach it
	Scopes      []string // beside openid
}

// LoginRequest ties the answer of an issuer to the browser that has begun a login.
type LoginRequest struct {
	State    string
	Nonce    string
	Verifier string // of PKCE
	Anew     bool   // the issuer is to ask which account is meant
}

// A LoginVerifier is a verifier of an issuer at which people can log in.
type LoginVerifier interface {
	Verifier
	// LoginURL returns where at the issuer a browser is to go.
	LoginURL(ctx context.Context, l LoginRequest) (string, error)
	// Redeem returns who has logged in, for the code with which the issuer has sent the browser back. The error is for the
	// log, and has no secret in it.
	Redeem(ctx context.Context, code string, l LoginRequest) (*Identity, error)
}

// LoginIssuer is an issuer at which people can log in.
type LoginIssuer struct {
	Issuer
	Verifier LoginVerifier
}

// Session is the proof of a login that a browser shows.
type Session struct {
	ID     string
	Issuer string // the fingerprint of its issuer
	Key    int    `json:"-"` // which of the keys of this process it was read with
	Identity
}

// Fingerprint tells the issuer from all others, and from itself with other settings.
func (i Issuer) Fingerprint() string {
	b, err := json.Marshal(i)
	if err != nil {
		return "" // strings can be encoded
	}
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:15])
}

// Logins returns the issuers at which people can log in, in their order.
func (a *Authority) Logins() []LoginIssuer {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.access == nil {
		return nil
	}
	var all []LoginIssuer
	for i, issuer := range a.access.Issuers {
		if v, ok := a.verifiers[i].(LoginVerifier); ok && issuer.Login != nil {
			all = append(all, LoginIssuer{issuer, v})
		}
	}
	return all
}

// Named returns those of a caller's groups that a rule names.
func (a *Authority) Named(groups []string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.access == nil {
		return nil
	}
	named := func(group string) bool {
		return slices.ContainsFunc(a.access.Rules, func(r Rule) bool { return anyMatch(r.Groups, group, ':') })
	}
	return slices.DeleteFunc(slices.Clone(groups), func(g string) bool { return !named(g) })
}

// EndSession ends a session before its time, also for the streams that it has open.
func (a *Authority) EndSession(s *Session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.cfg.Now()
	if a.ended == nil {
		a.ended = map[string]time.Time{}
	}
	if len(a.ended) >= maxEnded {
		maps.DeleteFunc(a.ended, func(_ string, until time.Time) bool { return !now.Before(until) })
	}
	if len(a.ended) >= maxEnded {
		delete(a.ended, a.soonest())
	}
	a.ended[s.ID] = s.Until
	a.tell()
}

// AcceptSessions says with which key sessions are read now. Those that were read with another one are over.
func (a *Authority) AcceptSessions(key int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.key != key {
		a.key = key
		a.tell()
	}
}

// soonest returns which of the ended sessions would have expired first. a.mu is held.
func (a *Authority) soonest() string {
	var first string
	for id, until := range a.ended {
		if first == "" || until.Before(a.ended[first]) {
			first = id
		}
	}
	return first
}

// bySession returns the principal of a session; nil when it is over: it was ended, has expired, or its issuer has other
// settings than at the login. a.mu is held.
func (a *Authority) bySession(s *Session) *Principal {
	if s == nil || s.Key != a.key || !a.cfg.Now().Before(s.Until) {
		return nil
	}
	if _, over := a.ended[s.ID]; over {
		return nil
	}
	same := func(i Issuer) bool { return i.Login != nil && i.Fingerprint() == s.Issuer }
	if !slices.ContainsFunc(a.access.Issuers, same) {
		return nil
	}
	return a.byIdentity(&s.Identity)
}
