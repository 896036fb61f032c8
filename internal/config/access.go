package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/snapshotd/snapshotd/internal/loopback"
	"github.com/snapshotd/snapshotd/server/auth"
)

// Access says who may do what. Without it, every caller that the ports let in may do everything.
type Access struct {
	TokensFile string       `yaml:"tokens_file,omitempty"`
	Rules      []AccessRule `yaml:"rules"`
	Health     string       `yaml:"health"` // open, viewer, operator, admin or closed; the same of the next ones
	Reflection string       `yaml:"reflection"`
	Metrics    string       `yaml:"metrics"` // its role is needed on all clusters
	Console    string       `yaml:"console"`
}

// AccessRule gives a role to the callers that any of its patterns fits.
type AccessRule struct {
	Role      string   `yaml:"role"`
	Clusters  []string `yaml:"clusters,omitempty"` // all when there are none
	Subjects  []string `yaml:"subjects,omitempty"`
	DNSNames  []string `yaml:"dns_names,omitempty"`
	Emails    []string `yaml:"emails,omitempty"`
	SPIFFEIDs []string `yaml:"spiffe_ids,omitempty"`
	Tokens    []string `yaml:"tokens,omitempty"`
	Local     bool     `yaml:"local,omitempty"`
}

// fillIn sets the pages that were not set. Metrics name all clusters, and so they are not open.
func (a *Access) fillIn(set func(key string) bool) {
	orDefault(&a.Health, "open", set("health"))
	orDefault(&a.Reflection, "viewer", set("reflection"))
	orDefault(&a.Metrics, "viewer", set("metrics"))
	orDefault(&a.Console, "viewer", set("console"))
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
		Console: need(a.Console),
	}
	for _, r := range a.Rules {
		access.Rules = append(access.Rules, r.auth())
	}
	return access
}

func (r *AccessRule) auth() auth.Rule {
	role, _ := auth.ParseRole(r.Role) // None, which allows nothing, for one that is wrong
	return auth.Rule{
		Role: role, Clusters: r.Clusters, Subjects: r.Subjects, DNSNames: r.DNSNames, Emails: r.Emails,
		SPIFFEIDs: r.SPIFFEIDs, Tokens: r.Tokens, Local: r.Local,
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
	for i := range a.Rules {
		v.accessRule(&a.Rules[i], fmt.Sprintf("access.rules[%d]", i))
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
	for i, name := range r.Clusters {
		if !strings.Contains(name, "*") && !slices.ContainsFunc(v.Clusters, func(c Cluster) bool { return c.Name == name }) {
			v.problem(fmt.Sprintf("%s.clusters[%d]", at, i), "there is no cluster %q", name)
		}
	}
}

// Risks returns what is allowed, and lets others in. The service logs it when it starts.
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
		all = append(all, "access.tokens_file: there is no TLS, and tokens can be read on the network; set tls.cert and tls.key")
	}
	return all
}
