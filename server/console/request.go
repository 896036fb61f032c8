package console

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// Header is the header of the calls by which the page changes something. No form of another site's page can send it,
// nor can a script of one without being asked for beforehand, which is never granted.
const Header = "X-Snapshotd-Console"

// LoginHeader is the header of a refusal that says where people log in.
const LoginHeader = "X-Snapshotd-Login"

// Private keeps all answers out of caches and away from pages of other sites, and their addresses, which may have the
// code of a login in them, away from the pages that they link to.
func Private(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

// Allowed reports whether a request may change something, as far as pages in a browser are concerned: those of other
// programs have neither of the headers that every browser sends with a change.
func Allowed(r *http.Request) bool {
	changes := r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodOptions
	byPage := r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != ""
	return !changes || !byPage || r.Header.Get(Header) != ""
}

// Wanted reports whether a client names HTML among the types that it accepts, as browsers do; curl names none.
func Wanted(r *http.Request) bool {
	for kind := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		media, params, err := mime.ParseMediaType(kind)
		if err != nil || media != "text/html" {
			continue
		}
		q, err := strconv.ParseFloat(params["q"], 64)
		return err != nil || q > 0
	}
	return false
}
