package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	// timeout bounds what a call waits for the issuer while nothing is known, and for a key that is not known.
	timeout = 10 * time.Second
	// patience is what calls wait, once, for keys that are being asked for again. Then the known ones are used meanwhile.
	patience = 2 * time.Second
	// renewal is after how long the keys are asked for again, so that one that the issuer has taken back is not good any
	// more.
	renewal = 10 * time.Minute
	// maxToken is far above the size of a token.
	maxToken = 16 << 10
)

// Issuer knows the tokens of one issuer. It asks for the issuer's keys when the first token comes, and keeps them:
// while the issuer does not answer, the keys that are known are used.
type Issuer struct {
	cfg     auth.Issuer
	client  *http.Client // remembers the answers
	direct  *http.Client // does not; for codes, which are good once
	now     func() time.Time
	failure error // why it cannot be asked at all; nil when it can

	patience time.Duration

	mu      sync.Mutex // not held while the issuer is asked
	known   *described // nil until the issuer has answered
	renewed time.Time
	asking  *question // nil while it is not asked
}

// question is one to the issuer, for all calls that come meanwhile.
type question struct {
	late  context.Context // done when nobody is to wait for it any longer
	ended chan struct{}
	err   error // why there is no answer, once it has ended
}

// described is what the issuer says of itself, and by which its tokens are verified.
type described struct {
	provider *oidc.Provider
	tokens   *oidc.IDTokenVerifier // of bearer tokens
	logins   *oidc.IDTokenVerifier // of those by which it tells who has logged in; nil when nobody can
}

var _ auth.Verifier = (*Issuer)(nil)

// New returns an issuer. It asks nobody. With a file that cannot be read, no token is good, and the log says so.
func New(cfg auth.Issuer, log *slog.Logger) *Issuer {
	i := &Issuer{cfg: cfg, now: time.Now, patience: patience}
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		roots := x509.NewCertPool()
		if err == nil && !roots.AppendCertsFromPEM(pem) {
			err = fmt.Errorf("%s holds no certificate", cfg.CAFile)
		}
		tr.TLSClientConfig.RootCAs, i.failure = roots, err
	}
	if i.failure != nil {
		log.Error("tokens of an issuer cannot be verified", "issuer", cfg.Name, "error", i.failure)
	}
	i.client = &http.Client{Transport: newMemory(tr, func() time.Time { return i.now() }, log), Timeout: timeout}
	i.direct = &http.Client{Transport: tr, Timeout: timeout, CheckRedirect: noRedirects}
	return i
}

// Issues implements [auth.Verifier].
func (i *Issuer) Issues(token string) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(token) > maxToken {
		return false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return false
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	return json.Unmarshal(payload, &claims) == nil && claims.Issuer == i.cfg.URL
}

// Verify implements [auth.Verifier].
func (i *Issuer) Verify(token string) (*auth.Identity, error) {
	known, err := i.ask(context.Background())
	if err != nil {
		return nil, refused("the token cannot be verified: its issuer does not answer", "try again when it is back")
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout) // for a key that is not known
	defer cancel()
	t, err := known.tokens.Verify(ctx, token)
	if e, ok := errors.AsType[*oidc.TokenExpiredError](err); ok {
		return nil, refused(fmt.Sprintf("the token expired at %s", e.Expiry.UTC().Format(time.RFC3339)), "get another one")
	}
	if err != nil {
		// The library's text can quote the token's content, which nobody has vouched for.
		return nil, refused("the token is not signed by its issuer, or is for another service", "get another one for the "+
			"audience of this service")
	}
	return i.identity(t)
}

// ask returns what the issuer says of itself, and asks for it when that is due. What is known is used while the issuer
// does not answer.
func (i *Issuer) ask(ctx context.Context) (*described, error) {
	if i.failure != nil {
		return nil, i.failure
	}
	known, q := i.due() //nolint:contextcheck // the question is one of all calls
	if q == nil {
		return known, nil
	}
	err := errNoAnswer
	select {
	case <-q.ended:
		err = q.err
	case <-q.late.Done():
	case <-ctx.Done():
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.known != nil {
		return i.known, nil
	}
	return nil, err
}

// due returns what is known, and the question to the issuer when it is due; nil when it is not.
func (i *Issuer) due() (*described, *question) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.known != nil && i.now().Sub(i.renewed) < renewal {
		return i.known, nil
	}
	if i.asking == nil {
		wait := i.patience
		if i.known == nil {
			wait = timeout
		}
		late, cancel := context.WithTimeout(context.Background(), wait)
		i.asking = &question{late: late, ended: make(chan struct{})}
		go i.renew(i.asking, cancel)
	}
	return i.known, i.asking
}

// renew asks the issuer. What was known stays until the keys are there, too.
func (i *Issuer) renew(q *question, cancel context.CancelFunc) {
	defer cancel()
	defer close(q.ended)
	fresh, err := i.describe(oidc.ClientContext(context.Background(), i.client)) // the client bounds each request
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asking, q.err = nil, err
	if err == nil {
		i.known, i.renewed = fresh, i.now()
	}
}

// unsigned has the form of a token, and no key has signed it.
const unsigned = "eyJhbGciOiJSUzI1NiJ9.e30.AAAA"

// describe returns what the issuer says of itself. Its verifiers have the keys already.
func (i *Issuer) describe(ctx context.Context) (*described, error) {
	p, err := oidc.NewProvider(ctx, i.cfg.URL)
	if err != nil {
		return nil, err
	}
	// All verifiers of a provider have the same keys, and the library fetches them when it needs one.
	_, err = p.Verifier(&oidc.Config{SupportedSigningAlgs: []string{oidc.RS256}}).Verify(ctx, unsigned)
	if err != nil && strings.Contains(err.Error(), "fetching keys") {
		return nil, err
	}
	verifier := func(audience string) *oidc.IDTokenVerifier {
		return p.Verifier(&oidc.Config{ClientID: audience, Now: func() time.Time { return i.now() }})
	}
	d := &described{provider: p, tokens: verifier(i.cfg.Audience)}
	if i.cfg.Login != nil {
		d.logins = verifier(i.cfg.Login.ClientID)
	}
	return d, nil
}

// identity returns who a verified token is about.
func (i *Issuer) identity(t *oidc.IDToken) (*auth.Identity, error) {
	var claims map[string]any
	if err := t.Claims(&claims); err != nil {
		return nil, refused("the claims of the token cannot be read", "get another one")
	}
	for name, want := range i.cfg.Claims {
		if text(claims[name]) != want {
			lacks := fmt.Sprintf("the token has not the claim %s that this service asks for", name)
			return nil, refused(lacks, "get another one")
		}
	}
	name := text(claims[i.cfg.NameClaim])
	if name == "" || strings.ContainsAny(name, " \t\r\n*") {
		return nil, refused(fmt.Sprintf("the claim %s of the token is no name", i.cfg.NameClaim), "get another one")
	}
	if i.cfg.NameClaim == "email" && claims["email_verified"] != true {
		return nil, refused("the issuer has not verified the mail address of the token", "verify it there")
	}
	id := &auth.Identity{Name: i.cfg.Name + ":" + name, Until: t.Expiry}
	switch groups := claims[i.cfg.GroupsClaim].(type) {
	case string:
		id.Groups = []string{i.cfg.Name + ":" + groups}
	case []any:
		for _, g := range groups {
			if g, ok := g.(string); ok {
				id.Groups = append(id.Groups, i.cfg.Name+":"+g)
			}
		}
	}
	return id, nil
}

// text returns the value of a claim as the configuration has it.
func text(claim any) string {
	switch v := claim.(type) {
	case string:
		return v
	case bool, float64:
		return fmt.Sprint(v)
	}
	return ""
}

func refused(why, hint string) error {
	return snapshot.ReasonUnauthenticated.New("%s", why).Advise("%s", hint)
}
