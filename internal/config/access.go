package config

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/snapshotd/snapshotd/internal/loopback"
	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/server/socket"
)

// callbackPath is the path of the console to which an issuer sends browsers back.
const callbackPath = "/console/callback"

// Access says who may do what. Without it, every caller that the ports let in may do everything.
type Access struct {
	TokensFile string       `yaml:"tokens_file,omitempty"`
	OIDC       []Issuer     `yaml:"oidc,omitempty"`
	SessionKey string       `yaml:"session_key_file,omitempty"` // that all replicas share, for the sessions of the console
	Rules      []AccessRule `yaml:"rules"`
	Health     string       `yaml:"health"` // open, viewer, operator, admin or closed; the same of the next ones
	Reflection string       `yaml:"reflection"`
	Metrics    string       `yaml:"metrics"` // its role is needed on all clusters
	Console    string       `yaml:"console"`
}

// Issuer is an issuer of OpenID Connect whose tokens are accepted.
type Issuer struct {
	Name        string            `yaml:"name"` // begins the names of its callers and groups
	URL         string            `yaml:"url"`
	Audience    string            `yaml:"audience"`
	NameClaim   string            `yaml:"name_claim"`
	GroupsClaim string            `yaml:"groups_claim"`
	Claims      map[string]string `yaml:"claims,omitempty"` // that tokens must have
	CAFile      string            `yaml:"ca_file,omitempty"`
	Login       *Login            `yaml:"login,omitempty"` // without it, nobody logs in to the console there
}

// Login is how people log in to the console at an issuer.
type Login struct {
	ClientID     string   `yaml:"client_id"`
	ClientSecret string   `yaml:"client_secret_file,omitempty"` // without it, the client is a public one
	RedirectURL  string   `yaml:"redirect_url"`
	Scopes       []string `yaml:"scopes,omitempty"` // beside openid; profile and email by default
}

// AccessRule gives a role to the callers that any of its patterns fits.
type AccessRule struct {
	Role       string   `yaml:"role"`
	Clusters   []string `yaml:"clusters,omitempty"` // all when there are none
	Subjects   []string `yaml:"subjects,omitempty"`
	DNSNames   []string `yaml:"dns_names,omitempty"`
	Emails     []string `yaml:"emails,omitempty"`
	SPIFFEIDs  []string `yaml:"spiffe_ids,omitempty"`
	Tokens     []string `yaml:"tokens,omitempty"`
	Identities []string `yaml:"identities,omitempty"`
	Groups     []string `yaml:"groups,omitempty"`
	Users      []string `yaml:"users,omitempty"`
	Local      bool     `yaml:"local,omitempty"`
}

// fillIn sets the pages that were not set. Metrics name all clusters, and so they are not open.
func (a *Access) fillIn(set func(key string) bool) {
	orDefault(&a.Health, "open", set("health"))
	orDefault(&a.Reflection, "viewer", set("reflection"))
	orDefault(&a.Metrics, "viewer", set("metrics"))
	orDefault(&a.Console, "viewer", set("console"))
	for i := range a.OIDC {
		orDefault(&a.OIDC[i].NameClaim, "sub", set(fmt.Sprintf("oidc[%d].name_claim", i)))
		orDefault(&a.OIDC[i].GroupsClaim, "groups", set(fmt.Sprintf("oidc[%d].groups_claim", i)))
	}
}

// Auth returns the rules as the service takes them; nil when there are none. They were validated.
func (a *Access) Auth() *auth.Access {
	if a == nil {
		return nil
	}
	need := func(name string) auth.Role {
		role, err := auth.ParseNeed(name)
		if err != nil {
			return auth.Nobody
		}
		return role
	}
	access := &auth.Access{
		TokensFile: a.TokensFile, Health: need(a.Health), Reflection: need(a.Reflection), Metrics: need(a.Metrics),
		Console: need(a.Console), SessionKey: a.SessionKey,
	}
	for _, i := range a.OIDC {
		access.Issuers = append(access.Issuers, i.auth())
	}
	for _, r := range a.Rules {
		access.Rules = append(access.Rules, r.auth())
	}
	return access
}

func (i *Issuer) auth() auth.Issuer {
	issuer := auth.Issuer{
		Name: i.Name, URL: i.URL, Audience: i.Audience, NameClaim: i.NameClaim, GroupsClaim: i.GroupsClaim,
		Claims: i.Claims, CAFile: i.CAFile,
	}
	if l := i.Login; l != nil {
		issuer.Login = &auth.Login{
			ClientID: l.ClientID, SecretFile: l.ClientSecret, RedirectURL: l.RedirectURL, Scopes: l.Scopes,
		}
	}
	return issuer
}

func (r *AccessRule) auth() auth.Rule {
	role, _ := auth.ParseRole(r.Role) // None, which allows nothing, for one that is wrong
	return auth.Rule{
		Role: role, Clusters: r.Clusters, Subjects: r.Subjects, DNSNames: r.DNSNames, Emails: r.Emails,
		SPIFFEIDs: r.SPIFFEIDs, Tokens: r.Tokens, Users: r.Users, Local: r.Local,
		Identities: r.Identities, Groups: r.Groups,
	}
}

func (v validator) access() {
	a := v.Access
	if a == nil {
		if v.given("access") {
			v.problem("access", "is empty: nobody could do anything; give rules, or remove it")
		}
		return
	}
	if len(a.Rules) == 0 {
		v.problem("access.rules", "is empty: nobody could do anything; give rules, or remove access")
	}
	for key, value := range map[string]string{
		"health": a.Health, "reflection": a.Reflection, "metrics": a.Metrics, "console": a.Console,
	} {
		if _, err := auth.ParseNeed(value); err != nil {
			v.problem("access."+key, "%v", err)
		}
	}
	for i := range a.OIDC {
		v.issuer(&a.OIDC[i], fmt.Sprintf("access.oidc[%d]", i))
	}
	logsIn := func(i Issuer) bool { return i.Login != nil }
	if a.SessionKey != "" && !slices.ContainsFunc(a.OIDC, logsIn) {
		v.problem("access.session_key_file",
			"is for people who log in to the console, and no issuer of access.oidc has login")
	}
	for i := range a.Rules {
		v.accessRule(&a.Rules[i], fmt.Sprintf("access.rules[%d]", i))
	}
}

func (v validator) issuer(i *Issuer, at string) {
	v.name(at+".name", i.Name)
	same := func(other Issuer) bool { return other.Name == i.Name || other.URL == i.URL }
	if first := slices.IndexFunc(v.Access.OIDC, same); &v.Access.OIDC[first] != i {
		v.problem(at, "has the name or the url of access.oidc[%d]", first)
	}
	u, err := url.Parse(i.URL)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		u.Scheme != "https" && (u.Scheme != "http" || !loopback.Is(u.Host)) {
		v.problem(at+".url",
			"%q is no URL of an issuer; write it as the issuer's tokens do, such as https://login.example.org", redactURL(i.URL))
	}
	if i.Audience == "" {
		v.problem(at+".audience", "is missing; without it, tokens for any other service would be accepted")
	}
	if i.NameClaim == "" {
		v.problem(at+".name_claim", "is empty; leave it out for sub")
	}
	if i.Login != nil {
		v.login(i.Login, at+".login")
	}
}

func (v validator) login(l *Login, at string) {
	if l.ClientID == "" {
		v.problem(at+".client_id", "is missing; it is the name of this service at the issuer")
	}
	u, err := url.Parse(l.RedirectURL)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != callbackPath ||
		u.Scheme != "https" && (u.Scheme != "http" || !loopback.Is(u.Host)) {
		v.problem(at+".redirect_url", "%q is not where browsers reach the console; write it as https://HOST"+callbackPath+
			", and register the same at the issuer", redactURL(l.RedirectURL))
	}
	for i, scope := range l.Scopes {
		if scope == "" || strings.ContainsAny(scope, " \t\n\"\\") {
			v.problem(fmt.Sprintf("%s.scopes[%d]", at, i), "%q is no scope; give each one by itself", scope)
		}
	}
}

// ofIssuers refuses patterns that begin with the name of no issuer.
func (v validator) ofIssuers(patterns []string, at string) {
	for i, p := range patterns {
		name, _, ok := strings.Cut(p, ":")
		if !ok || !slices.ContainsFunc(v.Access.OIDC, func(o Issuer) bool { return o.Name == name }) {
			v.problem(fmt.Sprintf("%s[%d]", at, i), "%q must begin with the name of an issuer of access.oidc and a colon", p)
		}
	}
}

func (v validator) accessRule(r *AccessRule, at string) {
	if _, err := auth.ParseRole(r.Role); err != nil {
		v.problem(at+".role", "%v", err)
	}
	rule := r.auth()
	wrong := rule.Check()
	for _, part := range slices.Sorted(maps.Keys(wrong)) {
		v.problem(strings.TrimSuffix(at+"."+part, "."), "%v", wrong[part])
	}
	if len(r.Tokens) > 0 && v.Access.TokensFile == "" {
		v.problem(at+".tokens", "needs the file that has the tokens; set access.tokens_file")
	}
	if len(r.Subjects)+len(r.DNSNames)+len(r.Emails)+len(r.SPIFFEIDs) > 0 && v.TLS.ClientCA == "" {
		v.problem(at, "is about certificates, and the service asks for none; set tls.client_ca (--tls-client-ca)")
	}
	v.ofIssuers(r.Identities, at+".identities")
	v.ofIssuers(r.Groups, at+".groups")
	if len(r.Users) > 0 && !socket.Is(v.ListenGRPC) {
		v.problem(at+".users", "are known over a socket alone; set listen_grpc (--listen-grpc), such as "+
			"unix:///run/snapshotd/snapshotd.sock")
	}
	for i, name := range r.Clusters {
		if !strings.Contains(name, "*") && !slices.ContainsFunc(v.Clusters, func(c Cluster) bool { return c.Name == name }) {
			v.problem(fmt.Sprintf("%s.clusters[%d]", at, i), "there is no cluster %q", name)
		}
	}
}

// Risks returns the settings that are allowed and let others in.
func (c *Config) Risks() []string {
	var all []string
	reachable := !loopback.Is(c.ListenGRPC)
	if c.Access == nil && reachable {
		who := "anyone who reaches " + c.ListenGRPC
		if c.TLS.ClientCA != "" {
			who = "every client with a certificate of tls.client_ca"
		}
		all = append(all, "access: there are no rules, and "+who+" may do everything, delete and download too; "+
			"docs/security.md shows rules")
	}
	if c.Access != nil && c.Access.TokensFile != "" && !c.TLS.Enabled() && (reachable || !loopback.Is(c.ListenHTTP)) {
		all = append(all, "access.tokens_file: there is no TLS, and tokens can be read on the network; "+
			"set tls.cert and tls.key")
	}
	return all
}
