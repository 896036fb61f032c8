package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// pollInterval is how often the files are looked at while nobody calls, for the streams that are open.
const pollInterval = time.Second

// maxChains is how many certificates are remembered as verified.
const maxChains = 4096

// Config of an [Authority].
type Config struct {
	Access  *Access               // nil: every caller that the ports let in may do everything
	CRLFile string                // optional; revoked client certificates
	Roots   func() *x509.CertPool // the CAs of client certificates as they are now; nil when there are none
	Log     *slog.Logger          // changes of the files
	Now     func() time.Time      // optional; the clock

	NewVerifier func(Issuer) Verifier // of the issuers of Access
}

// Authority tells who a caller is. It follows its files: what it says holds for the next call, whatever the connection.
type Authority struct {
	cfg Config

	mu     sync.Mutex
	access *Access
	tokens map[string]*Token // by id

	verifiers []Verifier // of access.Issuers, in their order

	revoked revocations
	pool    *x509.CertPool
	seen    map[string]fs.FileInfo // the files as they were last read
	chains  map[[sha256.Size]byte]*verdict
	changed chan struct{}        // closed at the next change
	ended   map[string]time.Time // sessions that were ended, by id, with when they would have expired
	key     int                  // with which sessions are read
}

// verdict is what was found about a chain of certificates.
type verdict struct {
	until time.Time
	err   error
}

// New reads the files and returns an authority.
func New(cfg Config) (*Authority, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Roots == nil {
		cfg.Roots = func() *x509.CertPool { return nil }
	}
	a := &Authority{cfg: cfg, seen: map[string]fs.FileInfo{}, changed: make(chan struct{})}
	a.chains = map[[sha256.Size]byte]*verdict{}
	a.pool = cfg.Roots()
	a.look(cfg.CRLFile)
	var err error
	if a.revoked, err = a.readRevoked(); err != nil {
		return nil, err
	}
	if err := a.SetAccess(cfg.Access); err != nil {
		return nil, err
	}
	return a, nil
}

// SetAccess replaces the rules, for calls and streams that are open as well.
func (a *Authority) SetAccess(access *Access) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	tokens := map[string]*Token{}
	if access != nil && access.TokensFile != "" {
		seen := stateOf(access.TokensFile)
		all, err := ReadTokens(access.TokensFile)
		if err != nil {
			return err // and the next call looks at the file again: if it is gone, so are the tokens of the earlier rules
		}
		a.seen[access.TokensFile] = seen
		tokens = byID(all)
	}
	a.verifiers = a.verifiersOf(access)
	a.access, a.tokens = access, tokens
	a.tell()
	return nil
}

// verifiersOf returns the verifiers of the issuers. Those that have not changed stay, with the keys that they know.
// a.mu is held.
func (a *Authority) verifiersOf(access *Access) []Verifier {
	if access == nil {
		return nil
	}
	all := make([]Verifier, len(access.Issuers))
	for i, now := range access.Issuers {
		if a.access != nil {
			same := func(before Issuer) bool { return reflect.DeepEqual(before, now) }
			if j := slices.IndexFunc(a.access.Issuers, same); j >= 0 {
				all[i] = a.verifiers[j]
				continue
			}
		}
		all[i] = a.cfg.NewVerifier(now)
	}
	return all
}

// Access returns the rules in effect; nil when there are none.
func (a *Authority) Access() *Access {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.access
}

// NeedsCertificate reports whether a caller without a certificate of the CA can be refused when it connects.
func (a *Authority) NeedsCertificate() bool {
	access := a.Access()
	return access == nil || access.asksForCertificates()
}

// Changed returns a channel that is closed when something changes that an answer of Authenticate may depend on.
func (a *Authority) Changed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

// Run looks at the files until ctx is done, for streams that are open while no other call is made.
func (a *Authority) Run(ctx context.Context) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.refresh()
		case <-ctx.Done():
			return
		}
	}
}

// Caller is what is known of a caller before it is known who it is.
type Caller struct {
	Certificates []*x509.Certificate // that it has shown and that it has the key of, its own first
	Token        string              // the bearer token that it has shown; empty when there is none
	Malformed    bool                // it has shown something that is no bearer token
	Session      *Session            // of a browser; nil when it shows none
	User         *User               // of this machine that the kernel tells of, over a socket; nil over other connections
	Local        bool                // it is on this machine
}

// User is a user of this machine.
type User struct {
	UID  uint32
	Name string // empty when there is none for the number
}

// Authenticate returns who a caller is, with its roles, or an error that says nothing about the service. A token that
// is shown decides: one that is wrong is not made up for by a certificate.
func (a *Authority) Authenticate(c Caller) (*Principal, error) {
	a.refresh()
	if access := a.Access(); access != nil && len(access.Issuers) > 0 && !c.Malformed && isIssued(c.Token) {
		id, err := a.identify(c.Token) // which may ask the issuer
		if err != nil {
			return nil, err
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.byIdentity(id), nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.access == nil:
		return a.withoutRules(c)
	case c.Malformed:
		return nil, unauthenticated("the authorization header holds no bearer token",
			"send it once, as Authorization: Bearer TOKEN")
	case c.Token != "":
		return a.byToken(c.Token)
	}
	if p := a.bySession(c.Session); p != nil {
		return p, nil
	}
	switch {
	case len(c.Certificates) > 0:
		return a.byCertificate(c.Certificates)
	case c.User != nil:
		return a.byUser(c.User), nil
	}
	return a.byNothing(c)
}

// byNothing returns the principal of a caller that shows nothing, or nothing that counts.
func (a *Authority) byNothing(c Caller) (*Principal, error) {
	p, err := a.local()
	switch {
	case c.Local && err == nil:
		return p, nil
	case c.Session != nil:
		return nil, unauthenticated("the session has ended", "log in again")
	case c.Local:
		return nil, err
	}
	return nil, unauthenticated("neither a client certificate nor a token was shown",
		"the command line has --cert and --key, and --token-file")
}

func unauthenticated(text, hint string) error {
	return snapshot.ReasonUnauthenticated.New("%s", text).Advise("%s", hint)
}

// withoutRules returns the principal of a caller when no rules are configured: whoever the ports let in may do
// everything.
func (a *Authority) withoutRules(c Caller) (*Principal, error) {
	all := []grant{{role: Admin}}
	switch {
	case len(c.Certificates) > 0:
		p, err := a.byCertificate(c.Certificates)
		if err == nil {
			p.grants = all
		}
		return p, err
	case c.User != nil:
		p := a.byUser(c.User)
		p.grants = all
		return p, nil
	case a.pool != nil:
		return nil, unauthenticated("no client certificate was shown", "the command line has --cert and --key")
	case c.Local:
		return &Principal{Kind: KindLocal, grants: all}, nil
	}
	return &Principal{Kind: KindAnyone, grants: all}, nil
}

func (a *Authority) byToken(secret string) (*Principal, error) {
	t := find(a.tokens, secret)
	if t == nil {
		return nil, unauthenticated("the token is unknown or was revoked", "snapshotd token create makes another one")
	}
	if t.expired(a.cfg.Now()) {
		// Its owner has the secret, and may know.
		return nil, unauthenticated(fmt.Sprintf("the token %s expired at %s", t.ID, t.Expires.Format(time.RFC3339)),
			"snapshotd token create makes another one")
	}
	return &Principal{
		Kind: KindToken, Name: t.Name, ID: t.ID, Until: t.Expires,
		grants: a.grants(func(r *Rule) bool { return anyMatch(r.Tokens, t.Name, 0) }),
	}, nil
}

// byUser returns the principal of a user of this machine. Rules name users by their names or numbers; those about all
// callers of this machine are about them, too.
func (a *Authority) byUser(u *User) *Principal {
	uid := strconv.FormatUint(uint64(u.UID), 10)
	p := &Principal{Kind: KindUser, Name: cmp.Or(u.Name, uid)}
	p.grants = a.grants(func(r *Rule) bool {
		return r.Local || anyMatch(r.Users, p.Name, 0) || slices.Contains(r.Users, uid)
	})
	return p
}

func (a *Authority) local() (*Principal, error) {
	p := &Principal{Kind: KindLocal, grants: a.grants(func(r *Rule) bool { return r.Local })}
	if len(p.grants) == 0 {
		return nil, unauthenticated("neither a client certificate nor a token was shown, and no rule is about callers of "+
			"this machine", "the command line has --cert and --key, and --token-file")
	}
	return p, nil
}

func (a *Authority) byCertificate(chain []*x509.Certificate) (*Principal, error) {
	v := a.verify(chain)
	if v.err != nil {
		return nil, v.err
	}
	leaf := chain[0]
	if !a.cfg.Now().Before(v.until) {
		return nil, unauthenticated(fmt.Sprintf("the client certificate expired at %s", v.until.Format(time.RFC3339)),
			"renew it")
	}
	return &Principal{
		Kind: KindCertificate, Name: nameOf(leaf), Until: v.until,
		grants: a.grants(func(r *Rule) bool { return r.fitsCertificate(leaf) }),
	}, nil
}

// nameOf returns the name under which a certificate's owner is known.
func nameOf(cert *x509.Certificate) string {
	switch id := spiffeID(cert); {
	case id != "":
		return id
	case len(cert.Subject.Names) > 0:
		return cert.Subject.String()
	case len(cert.DNSNames) > 0:
		return cert.DNSNames[0]
	}
	return "serial " + cert.SerialNumber.String()
}

func (a *Authority) grants(fits func(*Rule) bool) []grant {
	if a.access == nil {
		return nil
	}
	var all []grant
	for i := range a.access.Rules {
		if r := &a.access.Rules[i]; fits(r) {
			all = append(all, grant{role: r.Role, clusters: r.Clusters})
		}
	}
	return all
}

// verify checks a chain against the CAs and the revocations as they are now. The handshake has done the first when the
// connection began, which may be long ago.
func (a *Authority) verify(chain []*x509.Certificate) *verdict {
	sum := sha256.New()
	for _, cert := range chain {
		_, _ = sum.Write(cert.Raw) // a hash never fails
	}
	key := [sha256.Size]byte(sum.Sum(nil))
	if v, ok := a.chains[key]; ok {
		return v
	}
	if len(a.chains) >= maxChains {
		clear(a.chains)
	}
	v := a.verifyAnew(chain)
	a.chains[key] = v
	return v
}

func (a *Authority) verifyAnew(chain []*x509.Certificate) *verdict {
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	roots := a.pool
	if roots == nil {
		roots = x509.NewCertPool() // none is trusted any more
	}
	chains, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: a.cfg.Now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return &verdict{err: unauthenticated("the client certificate is not one of the CA, or has expired", "renew it")}
	}
	best := &verdict{err: unauthenticated("the client certificate was revoked", "use another one")}
	for _, c := range chains {
		if a.revoked.has(c) {
			continue
		}
		if until := validUntil(c); best.err != nil || until.After(best.until) {
			best = &verdict{until: until}
		}
	}
	return best
}

// validUntil returns when the first certificate of a chain expires.
func validUntil(chain []*x509.Certificate) time.Time {
	until := chain[0].NotAfter
	for _, cert := range chain[1:] {
		if cert.NotAfter.Before(until) {
			until = cert.NotAfter
		}
	}
	return until
}

// refresh reads what has changed on disk.
func (a *Authority) refresh() {
	pool := a.cfg.Roots()
	a.mu.Lock()
	defer a.mu.Unlock()
	changed := pool != a.pool
	a.pool = pool
	if a.access != nil && a.look(a.access.TokensFile) {
		changed = a.readTokens() || changed
	}
	if a.look(a.cfg.CRLFile) {
		revoked, err := a.readRevoked()
		if err != nil {
			a.cfg.Log.Error("revoked client certificates have changed and cannot be read; the earlier list stays", "error", err)
		} else {
			a.revoked, changed = revoked, true
			a.cfg.Log.Info("revoked client certificates were read again", "file", a.cfg.CRLFile, "revoked", len(revoked))
		}
	}
	if changed {
		a.tell()
	}
}

// readTokens reads the tokens again, and reports whether they have changed. A file that is gone takes all tokens with
// it; one that is damaged leaves the earlier ones.
func (a *Authority) readTokens() bool {
	file := a.access.TokensFile
	tokens, err := ReadTokens(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		a.cfg.Log.Error("file of tokens is gone; no token is accepted until it is back", "error", err)
	case err != nil:
		a.cfg.Log.Error("tokens have changed and cannot be read; the earlier ones stay", "error", err)
		return false
	default:
		a.cfg.Log.Info("tokens were read again", "file", file, "tokens", len(tokens))
	}
	a.tokens = byID(tokens)
	return true
}

func (a *Authority) readRevoked() (revocations, error) {
	revoked, renew, err := readRevocations(a.cfg.CRLFile)
	if err == nil && !renew.IsZero() && a.cfg.Now().After(renew) {
		a.cfg.Log.Warn("list of revoked client certificates should have been renewed; it is used as it is",
			"file", a.cfg.CRLFile, "next_update", renew)
	}
	return revoked, err
}

func byID(tokens []Token) map[string]*Token {
	all := make(map[string]*Token, len(tokens))
	for i := range tokens {
		all[tokens[i].ID] = &tokens[i]
	}
	return all
}

// look reports whether a file is another one than it was.
func (a *Authority) look(file string) bool {
	if file == "" {
		return false
	}
	now := stateOf(file)
	before, known := a.seen[file]
	a.seen[file] = now
	if !known || before == nil || now == nil {
		return !known || (before == nil) != (now == nil)
	}
	return !os.SameFile(before, now) || !before.ModTime().Equal(now.ModTime()) || before.Size() != now.Size()
}

// stateOf returns a file as it is; nil when it is not there.
func stateOf(file string) fs.FileInfo {
	now, err := os.Stat(file)
	if err != nil {
		return nil
	}
	return now
}

// tell makes what was remembered forgotten, and wakes those that wait for a change.
func (a *Authority) tell() {
	clear(a.chains)
	close(a.changed)
	a.changed = make(chan struct{})
}
