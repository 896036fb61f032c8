package session

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/server/console"
)

// The paths of the login.
const (
	LoginPath    = console.Root + "login"
	CallbackPath = console.Root + "callback"
	LogoutPath   = console.Root + "logout"
)

const (
	sessionCookie = "snapshotd-session"
	loginCookie   = "snapshotd-login"

	loginTime = 10 * time.Minute // that a person has to log in at the issuer
	longest   = 12 * time.Hour   // of a session, however long its token is good
	shared    = time.Hour        // the same where replicas share the key: a logout at one is not known to the others
	askTime   = 15 * time.Second // that an issuer has to answer
	places    = 8                // of callbacks that ask an issuer at a time
	maxCookie = 3800             // bytes; browsers drop one of more than 4,096 with its attributes
)

// Config of [Sessions].
type Config struct {
	Authority *auth.Authority
	Log       *slog.Logger
	Refused   func()           // optional; told of each login that came to nothing
	Now       func() time.Time // optional; the clock
}

// Sessions are the logins of people with a browser.
type Sessions struct {
	cfg    Config
	seal   seal
	places chan struct{}
}

// New returns sessions without a key. It does no I/O.
func New(cfg Config) *Sessions {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Sessions{cfg: cfg, places: make(chan struct{}, places)}
}

// ReadKey reads the key of the sessions that the rules name; without one, the key is a random one of this process.
// Nothing changes until use is called.
func (s *Sessions) ReadKey(access *auth.Access) (use func(), err error) {
	file := ""
	if access != nil {
		file = access.SessionKey
	}
	key, err := readKey(file)
	if err != nil {
		return nil, err
	}
	return func() { s.use(key) }, nil
}

// use reads and makes sessions with a key from now on.
func (s *Sessions) use(key *sealKey) {
	s.seal.use(key)
	s.cfg.Authority.AcceptSessions(s.seal.current())
}

// refresh reads the key again when its file has changed. One that cannot be used changes nothing.
func (s *Sessions) refresh(ctx context.Context) {
	file := s.seal.changed()
	if file == "" {
		return
	}
	key, err := readKey(file)
	if err != nil {
		s.cfg.Log.ErrorContext(ctx, "key of sessions has changed and cannot be used; the one before stays", "error", err)
		return
	}
	s.use(key)
	s.cfg.Log.InfoContext(ctx, "key of sessions was read again", "file", file)
}

// flow is a login that was begun.
type flow struct {
	Issuer  string // the fingerprint
	Request auth.LoginRequest
	Until   time.Time
}

// nameOf returns the name of a cookie at a login. Over TLS, no other site can set one of such a name.
func nameOf(cookie string, secure bool) string {
	if secure {
		return "__Host-" + cookie
	}
	return cookie
}

// isSecure reports whether browsers reach the service over TLS, maybe that of a proxy.
func isSecure(i auth.LoginIssuer) bool { return strings.HasPrefix(i.Login.RedirectURL, "https:") }

// read reads a cookie of a request, as far as it was sealed here.
func (s *Sessions) read(r *http.Request, cookie string, v any) bool {
	return slices.ContainsFunc(s.cfg.Authority.Logins(), func(i auth.LoginIssuer) bool {
		name := nameOf(cookie, isSecure(i))
		c, err := r.Cookie(name)
		return err == nil && s.seal.open(name, c.Value, v)
	})
}

// set sets a cookie. It goes along with links from other sites, because the answer of an issuer is one.
func set(w http.ResponseWriter, cookie string, secure bool, value string, age time.Duration) {
	c := &http.Cookie{ //nolint:gosec // it is secure where browsers come over TLS; without, they come over loopback
		Name: nameOf(cookie, secure), Value: value, Path: "/", MaxAge: int(age / time.Second), Secure: secure, HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// Of returns the session that a request shows; nil when it shows none. It may be over.
func (s *Sessions) Of(r *http.Request) *auth.Session {
	if len(r.Header["Cookie"]) == 0 || !counts(r) {
		return nil
	}
	s.refresh(r.Context())
	session := auth.Session{Key: s.seal.current()}
	if !s.read(r, sessionCookie, &session) {
		return nil
	}
	return &session
}

// counts reports whether the cookie of a request is to count. Browsers send it along with requests that pages of other
// sites cause: of these, only a link to the page counts, which has no data in it. A change needs the header of the
// console, which no form can send.
func counts(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		if r.URL.Path != "/" {
			return false
		}
	}
	return r.Method == http.MethodGet || r.Method == http.MethodHead || r.Header.Get(console.Header) != ""
}

// Login sends a browser to an issuer.
func (s *Sessions) Login(w http.ResponseWriter, r *http.Request) {
	s.refresh(r.Context())
	want := r.URL.Query().Get("issuer")
	all := s.cfg.Authority.Logins()
	i := slices.IndexFunc(all, func(i auth.LoginIssuer) bool { return want == "" || want == i.Name })
	if i < 0 {
		http.NotFound(w, r)
		return
	}
	f := flow{Issuer: all[i].Fingerprint(), Until: s.cfg.Now().Add(loginTime), Request: auth.LoginRequest{
		State: rand.Text(), Nonce: rand.Text(), Verifier: rand.Text() + rand.Text(), Anew: s.Of(r) != nil,
	}}
	ctx, cancel := context.WithTimeout(r.Context(), askTime)
	defer cancel()
	to, err := all[i].Verifier.LoginURL(ctx, f.Request)
	if err != nil {
		s.fail(w, r, http.StatusBadGateway, "The issuer of logins does not answer. Try again when it is back.", err)
		return
	}
	secure := isSecure(all[i])
	sealed, err := s.seal.close(nameOf(loginCookie, secure), f)
	if err != nil {
		s.fail(w, r, http.StatusInternalServerError, "The login cannot begin.", err)
		return
	}
	set(w, loginCookie, secure, sealed, loginTime)
	redirect(w, to)
}

// redirect sends a browser to another address, which is never one that a request has named.
func redirect(w http.ResponseWriter, to string) {
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

// Callback takes the answer of an issuer, which the browser brings.
func (s *Sessions) Callback(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	var f flow
	if !s.read(r, loginCookie, &f) || !s.cfg.Now().Before(f.Until) ||
		subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(f.Request.State)) != 1 {
		s.fail(w, r, http.StatusBadRequest, "This is the answer to no login that this browser has under way: it took too "+
			"long, or was begun once more. Log in again.", errors.New("there is no login with this state under way"))
		return
	}
	all := s.cfg.Authority.Logins()
	i := slices.IndexFunc(all, func(i auth.LoginIssuer) bool { return i.Fingerprint() == f.Issuer })
	if i < 0 {
		s.fail(w, r, http.StatusBadRequest, "The settings of the service have changed. Log in again.",
			errors.New("the issuer has other settings than when the login began"))
		return
	}
	set(w, loginCookie, isSecure(all[i]), "", 0) // it was good once
	if from := query.Get("iss"); from != "" && from != all[i].URL || query.Get("code") == "" {
		s.fail(w, r, http.StatusForbidden, "The issuer has refused the login.",
			fmt.Errorf("the answer is of issuer %.120q with the error %.60q", from, query.Get("error")))
		return
	}
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	default:
		s.fail(w, r, http.StatusServiceUnavailable, "Too many people log in at once. Try again.",
			fmt.Errorf("%d logins wait for issuers", places))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), askTime)
	defer cancel()
	id, err := all[i].Verifier.Redeem(ctx, query.Get("code"), f.Request)
	if err != nil {
		s.fail(w, r, http.StatusForbidden,
			"The issuer's answer is not good. Log in again; the log of the service says why.", err)
		return
	}
	s.begin(w, r, all[i], id)
}

// begin begins a session.
func (s *Sessions) begin(w http.ResponseWriter, r *http.Request, at auth.LoginIssuer, id *auth.Identity) {
	session := auth.Session{ID: rand.Text(), Issuer: at.Fingerprint(), Identity: *id}
	session.Groups = s.cfg.Authority.Named(id.Groups)
	now := s.cfg.Now()
	last := now.Add(longest)
	if s.seal.isShared() {
		last = now.Add(shared)
	}
	if session.Until.After(last) {
		session.Until = last
	}
	name := nameOf(sessionCookie, isSecure(at))
	sealed, err := s.seal.close(name, session)
	if err == nil && len(sealed) > maxCookie {
		err = fmt.Errorf("%s is in so many groups that rules name that they do not fit into a cookie", id.Name)
	}
	if err != nil {
		s.fail(w, r, http.StatusForbidden, "The session cannot begin; the log of the service says why.", err)
		return
	}
	s.cfg.Log.InfoContext(r.Context(), "logged in to the console", "principal", string(auth.KindOIDC)+" "+id.Name,
		"peer", r.RemoteAddr, "until", session.Until)
	set(w, sessionCookie, isSecure(at), sealed, session.Until.Sub(now))
	redirect(w, "/")
}

// Logout ends the session of a browser, and the streams that it has open.
func (s *Sessions) Logout(w http.ResponseWriter, r *http.Request) {
	if session := s.Of(r); session != nil {
		s.cfg.Authority.EndSession(session)
		s.cfg.Log.InfoContext(r.Context(), "logged out of the console",
			"principal", string(auth.KindOIDC)+" "+session.Name, "peer", r.RemoteAddr)
	}
	for _, i := range s.cfg.Authority.Logins() {
		set(w, sessionCookie, isSecure(i), "", 0)
	}
	w.WriteHeader(http.StatusNoContent)
}

// fail answers a login that comes to nothing.
func (s *Sessions) fail(w http.ResponseWriter, r *http.Request, code int, text string, err error) {
	s.cfg.Log.WarnContext(r.Context(), "login to the console failed", "peer", r.RemoteAddr, "error", err)
	if s.cfg.Refused != nil && code != http.StatusBadGateway {
		s.cfg.Refused()
	}
	s.Page(w, code, text)
}
