package auth_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/testenv/testca"
	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/snapshot"
)

func newCA(t *testing.T) *testca.CA {
	t.Helper()
	return testca.New(t, "CA")
}

// client signs a client certificate.
func client(t *testing.T, c *testca.CA, template x509.Certificate) []*x509.Certificate {
	t.Helper()
	return []*x509.Certificate{c.Sign(t, template).Cert}
}

// revoke writes a list of revoked serial numbers.
func revoke(t *testing.T, c *testca.CA, file string, serials ...int64) {
	t.Helper()
	write(t, file, c.Revoke(t, serials...))
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	testca.Replace(t, file, data)
}

func uri(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func authority(t *testing.T, cfg auth.Config) *auth.Authority {
	t.Helper()
	a, err := auth.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Short names for a long table.
type (
	rule = auth.Rule
	cert = x509.Certificate
)

func TestACertificateHasTheRolesOfTheRulesThatFitIt(t *testing.T) {
	c := newCA(t)
	name := func(cn string, o ...string) x509.Certificate {
		return x509.Certificate{Subject: pkix.Name{CommonName: cn, Organization: o}}
	}
	spiffe := func(ids ...string) (cert x509.Certificate) {
		for _, id := range ids {
			cert.URIs = append(cert.URIs, uri(t, id))
		}
		return cert
	}
	for what, test := range map[string]struct {
		rule auth.Rule
		cert x509.Certificate
		fits bool
	}{
		"a subject":                     {rule{Subjects: []string{"CN=ops"}}, name("ops"), true},
		"a part of a subject":           {rule{Subjects: []string{"CN=ops"}}, name("ops-1"), false},
		"a pattern":                     {rule{Subjects: []string{"CN=ops-*"}}, name("ops-1", "x"), true},
		"nothing for the star":          {rule{Subjects: []string{"CN=ops-*"}}, name("ops-"), false},
		"a letter in another case":      {rule{Subjects: []string{"CN=ops"}}, name("Ops"), false},
		"both attributes":               {rule{Subjects: []string{"CN=*,O=ex"}}, name("a", "ex"), true},
		"one of two attributes":         {rule{Subjects: []string{"CN=*,O=ex"}}, name("a", "other"), false},
		"one of its organizations":      {rule{Subjects: []string{"O=b"}}, name("x", "a", "b"), true},
		"an attribute within a value":   {rule{Subjects: []string{"CN=ops-*,O=ex"}}, name("ops-x,O=ex"), false},
		"a value of another attribute":  {rule{Subjects: []string{"O=ops"}}, name("ops"), false},
		"an escaped comma":              {rule{Subjects: []string{`CN=a\,b`}}, name("a,b"), true},
		"a DNS name":                    {rule{DNSNames: []string{"*.ops.ex"}}, cert{DNSNames: []string{"a.ops.ex"}}, true},
		"more labels than stars":        {rule{DNSNames: []string{"*.ex"}}, cert{DNSNames: []string{"a.b.ex"}}, false},
		"more labels for two stars":     {rule{DNSNames: []string{"**.ex"}}, cert{DNSNames: []string{"a.b.ex"}}, true},
		"a DNS name in capitals":        {rule{DNSNames: []string{"a.ex"}}, cert{DNSNames: []string{"A.EX"}}, true},
		"a mail address":                {rule{Emails: []string{"*@ex"}}, cert{EmailAddresses: []string{"a@ex"}}, true},
		"an address with a domain more": {rule{Emails: []string{"*@ex"}}, cert{EmailAddresses: []string{"a@evil@ex"}}, false},
		"a SPIFFE id":                   {rule{SPIFFEIDs: []string{"spiffe://ex/ns/ops/*"}}, spiffe("spiffe://ex/ns/ops/a"), true},
		"a longer id":                   {rule{SPIFFEIDs: []string{"spiffe://ex/ns/*"}}, spiffe("spiffe://ex/ns/ops/a"), false},
		"a longer id for two stars":     {rule{SPIFFEIDs: []string{"spiffe://ex/**"}}, spiffe("spiffe://ex/ns/ops/a"), true},
		"an id of another domain":       {rule{SPIFFEIDs: []string{"spiffe://ex/*"}}, spiffe("spiffe://ex.evil/a"), false},
		"two ids":                       {rule{SPIFFEIDs: []string{"spiffe://ex/*"}}, spiffe("spiffe://ex/a", "spiffe://ex/b"), false},
		"an id with dots":               {rule{SPIFFEIDs: []string{"spiffe://ex/ops/**"}}, spiffe("spiffe://ex/ops/../a"), false},
		"an escaped id":                 {rule{SPIFFEIDs: []string{"spiffe://ex/**"}}, spiffe("spiffe://ex/a%2fb"), false},
		"an id with a query":            {rule{SPIFFEIDs: []string{"spiffe://ex/**"}}, spiffe("spiffe://ex/a?b"), false},
		"a rule for others":             {rule{Local: true, Tokens: []string{"**"}}, name("a"), false},
	} {
		test.rule.Role = auth.Operator
		if wrong := test.rule.Check(); len(wrong) > 0 {
			t.Errorf("%s: the rule is wrong: %v", what, wrong)
		}
		a := authority(t, auth.Config{Access: &auth.Access{Rules: []auth.Rule{test.rule}}, Roots: c.Pool})
		p, err := a.Authenticate(auth.Caller{Certificates: client(t, c, test.cert), Local: true})
		if err != nil || (p.Role("prod") == auth.Operator) != test.fits {
			t.Errorf("%s: %v has role %v, %v", what, p, p.Role("prod"), err)
		}
	}
}

func TestTheGreatestRoleOfAClusterCounts(t *testing.T) {
	a := authority(t, auth.Config{Access: &auth.Access{Rules: []auth.Rule{
		{Role: auth.Viewer, Local: true}, {Role: auth.Admin, Local: true, Clusters: []string{"dev-*"}},
		{Role: auth.Operator, Local: true, Clusters: []string{"prod", "dev-1"}},
	}}})
	p, err := a.Authenticate(auth.Caller{Local: true})
	if err != nil {
		t.Fatal(err)
	}
	for cluster, want := range map[string]auth.Role{
		"dev-1": auth.Admin, "prod": auth.Operator, "prod2": auth.Viewer, "dev-": auth.Viewer,
	} {
		if got := p.Role(cluster); got != want {
			t.Errorf("on %s the role is %s, want %s", cluster, got, want)
		}
	}
}

// addToken makes a token and returns its secret.
func addToken(t *testing.T, file, name string, expires time.Time) (id, secret string) {
	t.Helper()
	tok, secret := auth.NewToken(name, time.Now(), expires)
	err := auth.ChangeTokens(file, func(all []auth.Token) ([]auth.Token, error) { return append(all, tok), nil })
	if err != nil {
		t.Fatal(err)
	}
	return tok.ID, secret
}

func TestATokenIsGoodUntilItIsRevokedOrExpires(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	now := time.Now()
	id, secret := addToken(t, file, "ci-1", now.Add(time.Hour))
	a := authority(t, auth.Config{Now: func() time.Time { return now }, Access: &auth.Access{
		TokensFile: file, Rules: []auth.Rule{{Role: auth.Operator, Tokens: []string{"ci-*"}}},
	}})
	try := func(token string) error { _, err := a.Authenticate(auth.Caller{Token: token}); return err }
	p, err := a.Authenticate(auth.Caller{Token: secret})
	if err != nil || p.String() != "token ci-1" || p.ID != id || p.Role("prod") != auth.Operator {
		t.Fatalf("%+v, %v", p, err)
	}
	for _, wrong := range []string{
		"x", "sdt__", "sdt_" + id, "sdt_" + id + "_", secret[:len(secret)-1], secret + "A", strings.ToUpper(secret),
		"sdt_000000000000" + secret[len("sdt_"+id):], " " + secret,
	} {
		if err := try(wrong); snapshot.ReasonOf(err) != snapshot.ReasonUnauthenticated {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	_, other := addToken(t, file, "nobody", time.Time{}) // the file is read again
	if p, err := a.Authenticate(auth.Caller{Token: other}); err != nil || p.Role("prod") != auth.None {
		t.Errorf("a token without a rule: %v, %v", p, err)
	}
	now = now.Add(time.Hour)
	if err := try(secret); snapshot.ReasonOf(err) != snapshot.ReasonUnauthenticated ||
		!strings.Contains(err.Error(), "expired") {
		t.Errorf("after its time: %v", err)
	}
	now = now.Add(-time.Minute)
	changed := a.Changed()
	err = auth.ChangeTokens(file, func(all []auth.Token) ([]auth.Token, error) { return all[1:], nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := try(secret); snapshot.ReasonOf(err) != snapshot.ReasonUnauthenticated {
		t.Errorf("after it was revoked: %v", err)
	}
	select {
	case <-changed:
	default:
		t.Error("those who wait for a change are not told")
	}
	write(t, file, []byte("{"))
	if err := try(other); err != nil {
		t.Errorf("with a damaged file: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := try(other); snapshot.ReasonOf(err) != snapshot.ReasonUnauthenticated {
		t.Errorf("without the file: %v", err)
	}
}

// Rules that cannot be applied, because the file of tokens is gone, do not keep its tokens good.
func TestTokensAreGoneWithTheirFileAlsoWhenRulesAreNotApplied(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	_, secret := addToken(t, file, "ci", time.Time{})
	access := auth.Access{TokensFile: file, Rules: []auth.Rule{{Role: auth.Operator, Tokens: []string{"*"}}}}
	a := authority(t, auth.Config{Access: &access})
	if _, err := a.Authenticate(auth.Caller{Token: secret}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := a.SetAccess(&access); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("rules without their file: %v", err)
		}
		if _, err := a.Authenticate(auth.Caller{Token: secret}); snapshot.ReasonOf(err) != snapshot.ReasonUnauthenticated {
			t.Errorf("a token without its file: %v", err)
		}
	}
	_, secret = addToken(t, file, "ci", time.Time{})
	if err := a.SetAccess(&access); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Authenticate(auth.Caller{Token: secret}); err != nil {
		t.Errorf("when the file is back: %v", err)
	}
}

func TestATokenThatIsShownDecides(t *testing.T) {
	c := newCA(t)
	file := filepath.Join(t.TempDir(), "tokens")
	addToken(t, file, "ci", time.Time{})
	a := authority(t, auth.Config{Roots: c.Pool, Access: &auth.Access{TokensFile: file, Rules: []auth.Rule{
		{Role: auth.Admin, Subjects: []string{"CN=*"}, Local: true},
	}}})
	cert := client(t, c, x509.Certificate{Subject: pkix.Name{CommonName: "a"}})
	for why, caller := range map[string]auth.Caller{
		"unknown or was revoked": {Token: "wrong"}, "no bearer token": {Malformed: true},
	} {
		caller.Certificates, caller.Local = cert, true
		if p, err := a.Authenticate(caller); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%+v is %v, %v, want %q", caller, p, err, why)
		}
	}
}

func TestACertificateIsCheckedAtEveryCall(t *testing.T) {
	c, stranger := newCA(t), newCA(t)
	now, pool := time.Now(), c.Pool()
	crl := filepath.Join(t.TempDir(), "crl")
	revoke(t, c, crl, 7)
	a := authority(t, auth.Config{
		CRLFile: crl, Now: func() time.Time { return now }, Roots: func() *x509.CertPool { return pool },
		Access: &auth.Access{Rules: []auth.Rule{{Role: auth.Viewer, Subjects: []string{"CN=*"}}}},
	})
	cert := func(c *testca.CA, serial int64) []*x509.Certificate {
		return client(t, c, x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "a"}})
	}
	good, other := cert(c, 8), cert(c, 9)
	check := func(what string, chain []*x509.Certificate, want bool) {
		t.Helper()
		if _, err := a.Authenticate(auth.Caller{Certificates: chain}); (err == nil) != want {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("a good one", good, true)
	check("a revoked one", cert(c, 7), false)
	check("one of another CA", cert(stranger, 8), false)
	revoke(t, c, crl, 7, 8)
	check("one that was revoked meanwhile", good, false)
	check("another one", other, true)
	write(t, crl, []byte("no list"))
	check("a revoked one, with a damaged list", good, false)
	now = now.Add(2 * time.Hour)
	check("an expired one", other, false)
	now = now.Add(-2 * time.Hour)
	check("it again, with the clock put right", other, true)
	pool = stranger.Pool()
	check("one of a CA that is not trusted any more", other, false)
	pool = nil
	check("one when there is no CA any more", other, false)
}

func TestWithoutRulesThePortsDecide(t *testing.T) {
	c := newCA(t)
	cert := client(t, c, x509.Certificate{Subject: pkix.Name{CommonName: "a"}})
	open, closed := authority(t, auth.Config{}), authority(t, auth.Config{Roots: c.Pool})
	for _, test := range []struct {
		a      *auth.Authority
		caller auth.Caller
		want   string
	}{
		{open, auth.Caller{Local: true}, "local"},
		{open, auth.Caller{}, "anyone"},
		{open, auth.Caller{Token: "of a proxy"}, "anyone"},
		{closed, auth.Caller{Certificates: cert}, "certificate CN=a"},
		{closed, auth.Caller{Local: true}, ""},
	} {
		p, err := test.a.Authenticate(test.caller)
		if test.want == "" {
			if snapshot.ReasonOf(err) != snapshot.ReasonUnauthenticated {
				t.Errorf("%+v: %v", test.caller, err)
			}
			continue
		}
		if err != nil || p.String() != test.want || p.Role("any") != auth.Admin {
			t.Errorf("%+v is %v, %v", test.caller, p, err)
		}
	}
}

func TestAFileOfTokensIsStrict(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	for what, text := range map[string]string{
		"empty": "", "no JSON": "x", "another key": `{"token":[]}`, "two values": `{"tokens":[]}{}`,
		"no name":     `{"tokens":[{"id":"a","sha256":"` + sum + `"}]}`,
		"no checksum": `{"tokens":[{"id":"a","name":"b","sha256":""}]}`,
		"one id twice": `{"tokens":[{"id":"a","name":"b","sha256":"` + sum + `"},` +
			`{"id":"a","name":"c","sha256":"` + sum + `"}]}`,
	} {
		file := filepath.Join(t.TempDir(), "tokens")
		write(t, file, []byte(text))
		if _, err := auth.ReadTokens(file); err == nil {
			t.Errorf("%s is taken", what)
		}
		err := auth.ChangeTokens(file, func(all []auth.Token) ([]auth.Token, error) { return all, nil })
		if got, rerr := os.ReadFile(file); err == nil || rerr != nil || string(got) != text {
			t.Errorf("%s was overwritten: %v", what, err)
		}
	}
}

func TestTheFileOfTokensIsItsOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "tokens")
	_, secret := addToken(t, file, "ci", time.Time{})
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	content, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(content), secret[len(secret)-20:]) {
		t.Errorf("the secret is in the file: %v", err)
	}
	refused := errors.New("refused")
	err = auth.ChangeTokens(file, func([]auth.Token) ([]auth.Token, error) { return nil, refused })
	if !errors.Is(err, refused) {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v is left, %v", left, err)
	}
}
