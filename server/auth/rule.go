package auth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Rule gives a role to callers. A caller that any one of its patterns fits has the role.
//
// In a pattern, * stands for one or more characters, and ** for the same across the separators of the kind: dots of DNS
// names, @ of mail addresses, slashes of SPIFFE ids, colons of identities and groups.
type Rule struct {
	Role     Role
	Clusters []string // patterns of names; all clusters when there are none

	Subjects   []string // of certificates: attributes that must all be there, such as CN=ops-*,O=example
	DNSNames   []string // of certificates
	Emails     []string // of certificates
	SPIFFEIDs  []string // of certificates that have exactly this one URI
	Tokens     []string // names of tokens
	Identities []string // of issuers: corp:alice, k8s:system:serviceaccount:backup:*
	Groups     []string // of issuers: corp:etcd-admins
	Users      []string // names or numbers of this machine's users, who call over a socket
	Local      bool     // callers of this machine that show neither a certificate nor a token
}

// Access is who may do what.
type Access struct {
	Rules      []Rule
	TokensFile string // optional
	Issuers    []Issuer
	SessionKey string // file of the key of sessions that all replicas share; each makes one of its own when it is empty
	Health     Role   // needed for health, /healthz and /readyz
	Reflection Role   // needed for gRPC's reflection
	Metrics    Role   // needed, on all clusters, for /metrics
	Console    Role   // needed for / and the console's files
}

// asksForCertificates reports whether nothing but a certificate can give a role.
func (a *Access) asksForCertificates() bool {
	for _, r := range a.Rules {
		if r.Local || len(r.Tokens)+len(r.Identities)+len(r.Groups) > 0 {
			return false
		}
	}
	return true
}

// Check returns why a rule is wrong, by the name of its part in the configuration.
func (r *Rule) Check() map[string]error {
	wrong := map[string]error{}
	note := func(part string, err error) {
		if err != nil && wrong[part] == nil {
			wrong[part] = err
		}
	}
	for _, s := range r.Subjects {
		_, err := parseSubject(s)
		note("subjects", err)
	}
	for _, id := range r.SPIFFEIDs {
		note("spiffe_ids", checkSPIFFE(id))
	}
	for _, p := range r.DNSNames {
		if p != strings.ToLower(p) {
			note("dns_names", fmt.Errorf("%.120q has capitals; write names in small letters", p))
		}
	}
	for part, patterns := range map[string][]string{
		"clusters": r.Clusters, "dns_names": r.DNSNames, "emails": r.Emails, "tokens": r.Tokens, "users": r.Users,
		"identities": r.Identities, "groups": r.Groups,
	} {
		for _, p := range patterns {
			if strings.TrimSpace(p) == "" || strings.ContainsAny(p, " \t\n") {
				note(part, fmt.Errorf("%.60q is empty or has a space in it", p))
			}
		}
	}
	if !r.Local && len(r.Subjects)+len(r.DNSNames)+len(r.Emails)+len(r.SPIFFEIDs)+len(r.Tokens)+len(r.Users)+
		len(r.Identities)+len(r.Groups) == 0 {
		note("", errors.New("it is about nobody; give subjects, dns_names, emails, spiffe_ids, tokens, identities, groups, "+
			"users, or local: true"))
	}
	return wrong
}

// checkSPIFFE returns why a pattern cannot fit any SPIFFE id.
func checkSPIFFE(pattern string) error {
	rest, ok := strings.CutPrefix(pattern, "spiffe://")
	domain, path, _ := strings.Cut(rest, "/")
	if !ok || domain == "" || strings.Contains(domain, "*") || domain != strings.ToLower(domain) || path == "" {
		return fmt.Errorf("%.120q is no pattern of SPIFFE ids; write it as spiffe://example.org/ns/ops/*", pattern)
	}
	return nil
}

// fitsCertificate reports whether a rule is about the owner of a certificate.
func (r *Rule) fitsCertificate(cert *x509.Certificate) bool {
	for _, s := range r.Subjects {
		if want, err := parseSubject(s); err == nil && want.in(cert.Subject) {
			return true
		}
	}
	for _, name := range cert.DNSNames {
		if anyMatch(r.DNSNames, strings.ToLower(name), '.') {
			return true
		}
	}
	for _, mail := range cert.EmailAddresses {
		if anyMatch(r.Emails, mail, '@') {
			return true
		}
	}
	id := spiffeID(cert)
	return id != "" && anyMatch(r.SPIFFEIDs, id, '/')
}

// spiffeID returns the SPIFFE id of a certificate. One with several URIs is not a SPIFFE certificate, as SPIFFE has it:
// which of them is its owner's cannot be told.
func spiffeID(cert *x509.Certificate) string {
	if len(cert.URIs) != 1 || cert.URIs[0].Scheme != "spiffe" || cert.IsCA {
		return ""
	}
	u := cert.URIs[0]
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Port() != "" || u.Path != "/"+cleanPath(u) {
		return ""
	}
	return u.String()
}

// cleanPath returns the path of an id without segments that a program may read as another path.
func cleanPath(u *url.URL) string {
	segments := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	for _, s := range segments {
		if s == "" || s == "." || s == ".." || strings.Contains(s, "%") {
			return "?"
		}
	}
	return strings.Join(segments, "/")
}

// subject is the attributes that a certificate's subject must have. It is compared attribute by attribute: in the text
// of a subject, the value of one could look like the next one.
type subject []attribute

type attribute struct{ oid, pattern string }

// oids are the attributes that a pattern can name.
var oids = map[string]string{
	"CN": "2.5.4.3", "SERIALNUMBER": "2.5.4.5", "C": "2.5.4.6", "L": "2.5.4.7", "ST": "2.5.4.8", "STREET": "2.5.4.9",
	"O": "2.5.4.10", "OU": "2.5.4.11", "POSTALCODE": "2.5.4.17",
}

// parseSubject reads attributes as a certificate's subject is printed: CN=ops-*,O=example. A backslash makes the next
// character a plain one.
func parseSubject(text string) (subject, error) {
	var s subject
	for _, part := range splitEscaped(text, ',') {
		name, value, ok := strings.Cut(part, "=")
		oid, known := oids[strings.ToUpper(strings.TrimSpace(name))]
		if !ok || !known || value == "" {
			return nil, fmt.Errorf("%.120q is no pattern of subjects; write it as CN=ops-*,O=example, with the attributes "+
				"CN, O, OU, C, L, ST, STREET, POSTALCODE and SERIALNUMBER", text)
		}
		s = append(s, attribute{oid, value})
	}
	return s, nil
}

// splitEscaped splits a text, and leaves the backslashes before other characters in it out.
func splitEscaped(text string, sep rune) []string {
	parts, escaped := []string{""}, false
	for _, c := range text {
		last := len(parts) - 1
		switch {
		case escaped:
			parts[last] += string(c)
			escaped = false
		case c == '\\':
			escaped = true
		case c == sep:
			parts = append(parts, "")
		default:
			parts[last] += string(c)
		}
	}
	return parts
}

// in reports whether a subject has all of the attributes; it may have others.
func (s subject) in(name pkix.Name) bool {
	for _, want := range s {
		found := false
		for _, have := range name.Names {
			value, text := have.Value.(string)
			found = found || text && have.Type.String() == want.oid && match(want.pattern, value, 0)
		}
		if !found {
			return false
		}
	}
	return len(s) > 0
}

func anyMatch(patterns []string, s string, sep byte) bool {
	for _, p := range patterns {
		if match(p, s, sep) {
			return true
		}
	}
	return false
}

// match reports whether a pattern fits the whole of s. A single * does not stand for the separator, unless it is 0.
func match(pattern, s string, sep byte) bool {
	for pattern != "" && pattern[0] != '*' {
		if s == "" || s[0] != pattern[0] {
			return false
		}
		pattern, s = pattern[1:], s[1:]
	}
	if pattern == "" {
		return s == ""
	}
	rest := strings.TrimLeft(pattern, "*")
	across := sep == 0 || len(pattern)-len(rest) > 1
	for i := 0; i < len(s); i++ {
		if !across && s[i] == sep {
			return false
		}
		if match(rest, s[i+1:], sep) {
			return true
		}
	}
	return false
}
