package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"time"
	"unicode/utf8"

	"github.com/snapshotd/snapshotd/internal/loopback"
	"github.com/snapshotd/snapshotd/server/console"
)

// guard protects the API over HTTP. It refuses callers that a client certificate or a gRPC port on loopback would keep
// out, and pages of other sites in the browser of a caller who is allowed in.
type guard struct {
	certificate func() bool // whether clients need a certificate that was verified
	socketOnly  func() bool // whether only those who may open the gRPC socket may call
	grpcIsLocal bool        // the gRPC port is for this machine alone
	local       bool        // one of the two ports is for this machine alone
	origin      *http.CrossOriginProtection
}

func newGuard(cfg Config) *guard {
	grpcIsLocal := loopback.Is(cfg.GRPCAddr.String())
	return &guard{
		certificate: cfg.NeedsCertificate,
		socketOnly:  cfg.SocketOnly,
		grpcIsLocal: grpcIsLocal,
		local:       grpcIsLocal || loopback.Is(cfg.HTTPAddr.String()),
		origin:      http.NewCrossOriginProtection(),
	}
}

// check returns why a request is refused.
func (g *guard) check(r *http.Request) error {
	if g.certificate() && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
		return refuse(http.StatusUnauthorized, reasonCertificateRequired,
			"the API needs a client certificate of the CA of tls.client_ca, over HTTP as over gRPC")
	}
	if g.socketOnly() {
		return refuse(http.StatusForbidden, reasonLocalOnly,
			"gRPC is served on a socket, to those who may open it, and there are no rules by which others could be told "+
				"apart; access in the service's configuration gives rules")
	}
	if g.grpcIsLocal && !loopback.Is(r.RemoteAddr) {
		return refuse(http.StatusForbidden, reasonLocalOnly,
			"gRPC is served to this machine alone, and so is the API over HTTP; "+
				"let listen_grpc (--listen-grpc) have another address to serve others")
	}
	// A page can make its own name resolve to a loopback address, but it cannot get a certificate for it.
	if g.local && r.TLS == nil && !loopback.Is(r.Host) {
		return refuse(http.StatusForbidden, reasonForeignHost,
			"the host %.120q is no name of a service that listens on loopback; ask localhost or 127.0.0.1", r.Host)
	}
	if err := g.origin.Check(r); err != nil {
		return refuse(http.StatusForbidden, reasonCrossOrigin, "a page of another site must not change anything: %v", err)
	}
	if !console.Allowed(r) {
		return refuse(http.StatusForbidden, reasonCrossOrigin,
			"a page in a browser must send the header %s to change anything, which a form of another site cannot",
			console.Header)
	}
	return checkForm(r)
}

// checkForm refuses parts of a request that would be ignored otherwise: a Delete or Prune whose limits are ignored does
// harm.
func checkForm(r *http.Request) error {
	query, err := url.QueryUnescape(r.URL.RawQuery)
	if !utf8.ValidString(r.URL.Path) || err == nil && !utf8.ValidString(query) {
		return refuse(http.StatusBadRequest, reasonBadRequest, "the path or the query is not UTF-8")
	}
	switch r.Method {
	case http.MethodPost:
		if r.URL.RawQuery != "" {
			return refuse(http.StatusBadRequest, reasonBadRequest,
				"with POST the fields of the request are its JSON body, not its query")
		}
	case http.MethodPatch:
	case http.MethodGet, http.MethodHead, http.MethodDelete:
		if r.ContentLength != 0 {
			return refuse(http.StatusBadRequest, reasonBadRequest,
				"with %.20q the fields of the request are its query, not its body", r.Method)
		}
		return nil
	default:
		return nil // no path has such a method
	}
	kind := r.Header.Get("Content-Type")
	if kind == "" && r.ContentLength == 0 {
		return nil
	}
	if media, _, err := mime.ParseMediaType(kind); err != nil || media != jsonType {
		return refuse(http.StatusUnsupportedMediaType, reasonNotJSON,
			"the body is %.60q; send JSON, with the header Content-Type: application/json", kind)
	}
	return nil
}

// takeBody reads the body under the server's time limits, and then lifts them: a call may take as long as over gRPC.
func takeBody(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxRequest))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return refuse(http.StatusRequestEntityTooLarge, reasonTooLarge, "the body is larger than %d bytes", MaxRequest)
	}
	if err != nil {
		return refuse(http.StatusBadRequest, reasonBadRequest, "read the body: %v", err)
	}
	if len(body) > 0 && !json.Valid(body) {
		return refuse(http.StatusBadRequest, reasonBadRequest, "the body is not JSON, or more than one value")
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	rc := http.NewResponseController(w)
	return errors.Join(rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Time{}))
}
