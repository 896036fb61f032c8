package server_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/snapshotd/snapshotd/internal/testenv/testca"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/server/console"
	"github.com/snapshotd/snapshotd/snapshot"
)

// guarded is where the domain is asked: by the API, and by the console.
var guarded = []string{"/v1/snapshots", "/console/service"}

func TestWhatMustNotComeInOverHTTP(t *testing.T) {
	var what []any
	r := run(t, server.Config{}, asked("prod", &what))
	huge := `{"namePrefix":"` + strings.Repeat("x", 256<<10) + `"}`
	for name, c := range map[string]struct {
		method, path, body string
		headers            []string
		http               int
		code               codes.Code
		reason             snapshot.Reason
	}{
		"a name that leads here": {"GET", "/v1/snapshots", "", []string{"Host", "evil.example"}, 403,
			codes.PermissionDenied, "FOREIGN_HOST"},
		"another site's form": {"POST", "/v1/snapshots:save", "", []string{"Origin", "https://evil.example"}, 403,
			codes.PermissionDenied, "CROSS_ORIGIN"},
		"another site's script": {"DELETE", "/v1/snapshots/a", "", []string{"Sec-Fetch-Site", "cross-site"}, 403,
			codes.PermissionDenied, "CROSS_ORIGIN"},
		"another port's page": {"POST", "/v1/snapshots:save", "{}", []string{"Origin", "http://127.0.0.1:1"}, 403,
			codes.PermissionDenied, "CROSS_ORIGIN"},
		"a sandboxed page": {"POST", "/v1/snapshots:save", "{}", []string{"Origin", "null"}, 403,
			codes.PermissionDenied, "CROSS_ORIGIN"},
		"a form": {"POST", "/v1/snapshots:save", "a=b",
			[]string{"Content-Type", "application/x-www-form-urlencoded"}, 415, codes.InvalidArgument, "NOT_JSON"},
		"an empty form": {"POST", "/v1/snapshots:save", "", []string{"Content-Type", "text/plain"}, 415,
			codes.InvalidArgument, "NOT_JSON"},
		"a form that is a Delete": {"POST", "/v1/snapshots/a", "", []string{"X-HTTP-Method-Override", "DELETE"}, 405,
			codes.Unimplemented, "NO_SUCH_METHOD"},
		"no JSON": {"POST", "/v1/snapshots:save", "{", nil, 400, codes.InvalidArgument, "BAD_REQUEST"},
		"two values": {"POST", "/v1/snapshots:prune", `{} {"validateOnly":true}`, nil, 400,
			codes.InvalidArgument, "BAD_REQUEST"},
		"an unknown field": {"POST", "/v1/snapshots:prune", `{"dryRun":true}`, nil, 400, codes.InvalidArgument,
			snapshot.ReasonInvalidArgument},
		"a query with POST": {"POST", "/v1/snapshots:prune?validateOnly=true", "", nil, 400, codes.InvalidArgument,
			"BAD_REQUEST"},
		"a body with DELETE": {"DELETE", "/v1/snapshots/a", `{"backends":["s3"]}`, nil, 400, codes.InvalidArgument,
			"BAD_REQUEST"},
		"an unknown key": {"DELETE", "/v1/snapshots/a?backend=s3", "", nil, 400, codes.InvalidArgument,
			snapshot.ReasonInvalidArgument},
		"a key below a field": {"DELETE", "/v1/snapshots/a?backends.s3=", "", nil, 400, codes.InvalidArgument,
			snapshot.ReasonInvalidArgument},
		"a key that is no map": {"DELETE", "/v1/snapshots/a?backends[]=s3", "", nil, 400, codes.InvalidArgument,
			snapshot.ReasonInvalidArgument},
		"a map without a key": {"GET", "/v1/snapshots?labels=a", "", nil, 400, codes.InvalidArgument,
			snapshot.ReasonInvalidArgument},
		"a key that the path has": {"DELETE", "/v1/snapshots/a?name=b", "", nil, 400, codes.InvalidArgument,
			snapshot.ReasonInvalidArgument},
		"a key that the body has": {"PATCH", "/v1/snapshots/a?snapshot.pinned=true", `{"pinned":false}`, nil, 400,
			codes.InvalidArgument, snapshot.ReasonInvalidArgument},
		"a field that does not change": {"PATCH", "/v1/snapshots/a", `{"pinned":true,"name":"b"}`, nil, 400,
			codes.InvalidArgument, snapshot.ReasonInvalidArgument},
		"another cluster than the path": {"POST", "/v1/clusters/prod/snapshots:prune", `{"cluster":"stage"}`, nil, 400,
			codes.InvalidArgument, snapshot.ReasonInvalidArgument},
		"another name than the path": {"POST", "/v1/snapshots/a:verify", `{"name":"b"}`, nil, 400, codes.InvalidArgument,
			snapshot.ReasonInvalidArgument},
		"another snapshot than the path": {"PATCH", "/v1/snapshots/a?updateMask=pinned", `{"name":"b","pinned":true}`,
			nil, 400, codes.InvalidArgument, snapshot.ReasonInvalidArgument},
		"a snapshot of another cluster": {"PATCH", "/v1/clusters/prod/snapshots/a?updateMask=pinned",
			`{"cluster":"stage","pinned":true}`, nil, 400, codes.InvalidArgument, snapshot.ReasonInvalidArgument},
		"a name that is no text": {"POST", "/v1/snapshots/a:verify", `{"name":1}`, nil, 400, codes.InvalidArgument,
			snapshot.ReasonInvalidArgument},
		"a name twice": {"POST", "/v1/snapshots/a:verify", `{"name":"b","name":"a"}`, nil, 400, codes.InvalidArgument,
			snapshot.ReasonInvalidArgument},
		"a number that is none": {"GET", "/v1/snapshots?pageSize=x", "", nil, 400, codes.InvalidArgument,
			snapshot.ReasonInvalidArgument},
		"too much":               {"POST", "/v1/snapshots:save", huge, nil, 413, codes.InvalidArgument, "TOO_LARGE"},
		"no path":                {"GET", "/v1/nothing", "", nil, 404, codes.NotFound, "NO_SUCH_PATH"},
		"a path that is no text": {"GET", "/v1/snapshots/%ff", "", nil, 400, codes.InvalidArgument, "BAD_REQUEST"},
		"a query that is no text": {"GET", "/v1/snapshots?backend=%ff", "", nil, 400, codes.InvalidArgument,
			"BAD_REQUEST"},
		"no method, and a body": {"PUT", "/v1/snapshots/a", "{}", nil, 405, codes.Unimplemented, "NO_SUCH_METHOD"},
		"no method":             {"PUT", "/v1/snapshots/a", "", nil, 405, codes.Unimplemented, "NO_SUCH_METHOD"},
		"a preflight": {"OPTIONS", "/v1/snapshots/a", "", []string{"Origin", "https://evil.example"}, 405,
			codes.Unimplemented, "NO_SUCH_METHOD"},
	} {
		t.Run(name, func(t *testing.T) {
			what = nil
			resp, body := r.ask(t, c.method, c.path, c.body, c.headers...)
			err := errorOf(t, body)
			checkError(t, err, c.code, c.reason)
			if resp.code != c.http || len(what) > 0 {
				t.Errorf("%d %v, and the domain was asked %v", resp.code, err, what)
			}
			if resp.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("others may read it: %v", resp.header)
			}
		})
	}
}

func TestABodyThatContradictsThePathIsToldAsSuch(t *testing.T) {
	var what []any
	r := run(t, server.Config{}, asked("prod", &what))
	_, body := r.ask(t, "POST", "/v1/clusters/prod/snapshots:prune", `{"cluster":"st\u0061ge","validateOnly":true}`)
	err := errorOf(t, body)
	if d := checkError(t, err, codes.InvalidArgument, snapshot.ReasonInvalidArgument); d.Field != "cluster" ||
		!strings.Contains(err.Error(), `is "stage" in the body, and "prod" in the path; leave it out of the body`) {
		t.Errorf("%v, of the field %q", err, d.Field)
	}
}

func TestThePagesOfTheServiceItselfMayAsk(t *testing.T) {
	var what []any
	r := run(t, server.Config{}, asked("prod", &what))
	_, port, _ := net.SplitHostPort(r.HTTPAddr())
	for _, headers := range [][]string{
		{"Origin", "http://" + r.HTTPAddr(), console.Header, "1"},
		{"Origin", "http://localhost:" + port, "Host", "localhost:" + port, console.Header, "1"},
		{"Sec-Fetch-Site", "same-origin", "Origin", "https://proxy.example", console.Header, "1"},
		{"Host", "[::1]:9"}, {"Content-Type", "application/json; charset=utf-8"},
	} {
		if resp, body := r.ask(t, "POST", "/v1/snapshots:save", "{}", headers...); resp.code != http.StatusOK {
			t.Errorf("%q: %d %s", headers, resp.code, body)
		}
	}
}

// TestHTTPIsNoWayAroundAGRPCPortForThisMachine: on an address that others reach, for the sake of the metrics, the API
// is not there for others.
func TestHTTPIsNoWayAroundAGRPCPortForThisMachine(t *testing.T) {
	address := otherAddress(t)
	var what []any
	r := run(t, server.Config{HTTPAddr: net.JoinHostPort(address, "0")}, asked("prod", &what))
	for _, path := range guarded {
		resp, body := r.ask(t, "GET", path, "")
		if checkError(t, errorOf(t, body), codes.PermissionDenied, "LOCAL_ONLY"); resp.code != http.StatusForbidden ||
			len(what) > 0 {
			t.Errorf("%s: %d, and the domain was asked %v", path, resp.code, what)
		}
	}
	own := run(t, server.Config{HTTPAddr: "0.0.0.0:0"}, asked("prod", &what))
	_, port, _ := net.SplitHostPort(own.HTTPAddr())
	for host, want := range map[string]int{"localhost": http.StatusOK, "evil.example": http.StatusForbidden} {
		req := own.request(t, "GET", "/v1/snapshots", "", "Host", host)
		req.URL.Host = net.JoinHostPort("127.0.0.1", port)
		if resp, body := do(t, http.DefaultClient, req); resp.code != want {
			t.Errorf("this machine asks for %s: %d %s", host, resp.code, body)
		}
	}
	if code, _ := get(t, "http://"+r.HTTPAddr()+"/readyz"); code != http.StatusOK {
		t.Errorf("/readyz is %d", code)
	}
	both := run(t, server.Config{
		HTTPAddr: net.JoinHostPort(address, "0"), GRPCAddr: net.JoinHostPort(address, "0"),
	}, asked("prod", &what))
	if resp, body := both.ask(t, "GET", "/v1/snapshots", "", "Host", "snapshotd.example"); resp.code != http.StatusOK {
		t.Errorf("with gRPC on the same address: %d %s", resp.code, body)
	}
}

// otherAddress returns an address of this machine that is not loopback.
func otherAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			return p.Addr().String()
		}
	}
	t.Skip("this machine has no address but loopback")
	return ""
}

func TestTheAPIOverHTTPNeedsACertificateWhereGRPCDoes(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	files := tlsFiles(t, ca)
	files.ClientCAFile = filepath.Join(t.TempDir(), "ca.crt")
	write(t, files.ClientCAFile, ca.CertPEM())
	var what []any
	r := run(t, server.Config{TLS: files}, asked("prod", &what))
	client := func(a *testca.CA) *http.Client {
		cfg := &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}
		if a != nil {
			pair := issue(t, a, "", 3).TLS()
			// The certificate is shown whatever the server asks for.
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		tr := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	https := func(path string) *http.Request {
		req := r.request(t, "GET", path, "")
		req.URL.Scheme = "https"
		return req
	}
	for _, path := range guarded {
		resp, body := do(t, client(nil), https(path))
		if checkError(t, errorOf(t, body), codes.Unauthenticated,
			"CERTIFICATE_REQUIRED"); resp.code != http.StatusUnauthorized || len(what) > 0 {
			t.Errorf("%s without a certificate: %d, and the domain was asked %v", path, resp.code, what)
		}
	}
	if resp, body := do(t, client(nil), https("/readyz")); resp.code != http.StatusOK {
		t.Errorf("/readyz without a certificate: %d %s", resp.code, body)
	}
	if resp, body := do(t, client(ca), https("/v1/snapshots")); resp.code != http.StatusOK || resp.proto != "HTTP/2.0" ||
		len(what) != 1 {
		t.Errorf("with a certificate: %d %s", resp.code, body)
	}
	if resp, err := client(stranger).Do(https("/v1/snapshots")); err == nil {
		_ = resp.Body.Close()
		t.Errorf("with a certificate of another CA: %s", resp.Status)
	}
}
