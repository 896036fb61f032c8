package config

import (
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
)

// redacted stands for a secret wherever one would be shown.
const redacted = "<redacted>"

// Secret is a string that no format, log or encoding shows.
type Secret string

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String implements [fmt.Stringer].
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format implements [fmt.Formatter]: no verb shows the secret.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText implements [encoding.TextMarshaler].
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML implements yaml.Marshaler.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// URL is the URL of a backend. It may carry credentials, which are never shown.
type URL string

// Reveal returns the URL with its secrets.
func (u URL) Reveal() string { return string(u) }

// String returns the URL without its secrets.
func (u URL) String() string { return redactURL(string(u)) }

// Format implements [fmt.Formatter].
func (u URL) Format(f fmt.State, verb rune) {
	if verb == 'q' {
		_, _ = fmt.Fprintf(f, "%q", u.String())
		return
	}
	_, _ = io.WriteString(f, u.String())
}

// MarshalText implements [encoding.TextMarshaler].
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// MarshalYAML implements yaml.Marshaler.
func (u URL) MarshalYAML() (any, error) { return u.String(), nil }

// LogValue implements [slog.LogValuer].
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }

var secretName = regexp.MustCompile(`(?i)secret|passw|token|credential|access_?-?key|signature|api_?-?key`)

// redactURL hides the password and every query value that may be a secret. A text that cannot be parsed, or is parsed
// into parts among which a password may be, is cut off where a secret could begin.
func redactURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || strayUser(u) {
		if scheme, _, ok := strings.Cut(raw, "://"); ok && !strings.ContainsAny(scheme, "@?&= ") {
			return scheme + "://" + redacted
		}
		return redacted
	}
	query := redactQuery(u.RawQuery)
	if u.User == nil && query == u.RawQuery {
		return raw
	}
	u.RawQuery = query
	if u.User == nil {
		return u.String()
	}
	userinfo := u.User.String() + "@"
	return strings.Replace(u.String(), userinfo, redacted+"@", 1)
}

// strayUser reports whether an '@' is where no user is: without a scheme, the user of user:password@host is taken for
// one, and a password may have '/' or '#' in it. Names of directories may have an '@'.
func strayUser(u *url.URL) bool {
	parts := u.Opaque + u.Fragment
	if u.Scheme != "file" {
		parts += u.Path
	}
	return strings.Contains(parts, "@")
}

// redactQuery hides secrets and leaves the rest of the query as it is written.
func redactQuery(query string) string {
	parts := strings.Split(query, "&")
	for i, p := range parts {
		name, value, ok := strings.Cut(p, "=")
		plain, err := url.QueryUnescape(name)
		switch {
		case !ok && strings.Contains(p, "@"): // the rest of user:password@host, in which the password has a '?'
			parts[i] = redacted
		case ok && (err != nil || secretName.MatchString(plain) || hasUser(value)):
			parts[i] = name + "=" + redacted
		}
	}
	return strings.Join(parts, "&")
}

// hasUser reports whether a value of a query may be a URL with a user.
func hasUser(value string) bool {
	plain, err := url.QueryUnescape(value)
	_, rest, ok := strings.Cut(plain, "://")
	return err != nil || ok && strings.Contains(rest, "@")
}
