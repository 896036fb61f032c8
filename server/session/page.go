package session

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"strings"

	"github.com/snapshotd/snapshotd/server/console"
)

// Style is the one part of the console that the page of the login has; there are no facts in it.
const Style = console.Root + "console.css"

// policy lets the page load its style and nothing else.
const policy = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Page answers with a text, and the links by which a person logs in. It names nothing of the service.
func (s *Sessions) Page(w http.ResponseWriter, code int, text string) {
	all := s.cfg.Authority.Logins()
	var links strings.Builder
	for _, i := range all {
		what := "Log in"
		if len(all) > 1 {
			what += " with " + i.Name
		}
		fmt.Fprintf(&links, "<p><a class=\"login\" href=\"%s?issuer=%s\">%s</a></p>\n", LoginPath, url.QueryEscape(i.Name),
			html.EscapeString(what))
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	w.WriteHeader(code)
	_, _ = fmt.Fprintf(w, `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Log in</title>
<link rel="stylesheet" href="%s">
</head>
<body>
<main>
<h1>Log in</h1>
<p>%s</p>
%s</main>
</body>
</html>
`, Style, html.EscapeString(text), links.String()) // the client is gone, and nobody can be told
}
