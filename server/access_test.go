package server_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/cluster/downloading"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/internal/testenv/testca"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/server/console"
	"github.com/snapshotd/snapshotd/snapshot"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	hiddenName = "treasury"         // the cluster on which all but one have no role
	everywhere = "token everywhere" // the one that may look at all clusters
)

// person is a caller.
type person struct {
	name    string
	cert    *tls.Certificate
	token   string
	cookies []*http.Cookie
}

// guardedServer is a service with access rules, two clusters, and people.
type guardedServer struct {
	*running
	ca      *testca.CA
	issuer  *testenv.Issuer
	access  *auth.Access
	files   server.TLS
	crl     string        // file of revoked certificates
	audit   string        // file
	lost    atomic.Int64  // audit records
	asked   atomic.Int64  // calls of the domain
	nobodys atomic.Int64  // those of them whose context names no caller
	refused sync.Map      // counters by refusal
	broken  chan struct{} // has one for each handshake that has failed
}

// allOf is a cluster that notes whether it was asked anything.
func (g *guardedServer) allOf(name string) *fakeCluster {
	var what []any
	c := asked(name, &what)
	rec := &snapshot.Record{Snapshot: *inState(snapshot.StateReady, snapshot.Snapshot{Name: "a", Cluster: name})}
	note := func(ctx context.Context) {
		g.asked.Add(1)
		if auth.FromContext(ctx) == nil {
			g.nobodys.Add(1)
		}
	}
	c.save = func(ctx context.Context, _ cluster.SaveRequest) (cluster.SaveResult, error) {
		note(ctx)
		return cluster.SaveResult{Snapshot: &rec.Snapshot}, nil
	}
	c.reconcile = func(ctx context.Context, _ cluster.ReconcileRequest) ([]cluster.BackendReport, error) {
		note(ctx)
		return nil, nil
	}
	c.get = func(ctx context.Context, _ string) (*snapshot.Record, error) { note(ctx); return rec, nil }
	c.list = func(ctx context.Context, _ snapshot.Query) (snapshot.Page, error) {
		note(ctx)
		return snapshot.Page{Records: []*snapshot.Record{rec}}, nil
	}
	c.update = func(ctx context.Context, _ cluster.UpdateRequest) (*snapshot.Record, error) {
		note(ctx)
		return rec, nil
	}
	c.remove = func(ctx context.Context, _ cluster.DeleteRequest) (*snapshot.Record, error) {
		note(ctx)
		return nil, nil
	}
	c.prune = func(ctx context.Context, _ cluster.PruneRequest) ([]cluster.Decision, error) {
		note(ctx)
		return nil, nil
	}
	c.verify = func(ctx context.Context, _ cluster.VerifyRequest) (*snapshot.Record, error) {
		note(ctx)
		return rec, nil
	}
	c.download = func(ctx context.Context, _ cluster.DownloadRequest) (*downloading.Download, error) {
		note(ctx)
		return nil, snapshot.ReasonSnapshotNotFound.New("there is none")
	}
	c.follow = func(_ context.Context, _ snapshot.Position, yield func(snapshot.Moment, error) bool) {
		g.asked.Add(1) // it is one watch, whoever watches
		yield(snapshot.Moment{}, snapshot.ReasonWatchExpired.New("the end"))
	}
	return c
}

// guardedService starts a service whose rules give tokens and certificates roles on the cluster prod.
func guardedService(t *testing.T, clusters ...*fakeCluster) *guardedServer {
	t.Helper()
	return guardedWith(t, func(*server.Config) {}, clusters...)
}

// guardedWith starts one whose configuration is changed.
func guardedWith(t *testing.T, change func(*server.Config), clusters ...*fakeCluster) *guardedServer {
	t.Helper()
	g := &guardedServer{ca: newAuthority(t), issuer: testenv.NewIssuer(t), broken: make(chan struct{}, 16)}
	files := tlsFiles(t, g.ca)
	files.ClientCAFile = filepath.Join(t.TempDir(), "ca.crt")
	files.ClientCRLFile = filepath.Join(t.TempDir(), "crl")
	write(t, files.ClientCAFile, g.ca.CertPEM())
	write(t, files.ClientCRLFile, revoked(t, g.ca))
	g.files, g.crl = files, files.ClientCRLFile
	g.access = &auth.Access{
		Issuers:    []auth.Issuer{accepted(t, g.issuer)},
		TokensFile: filepath.Join(t.TempDir(), "tokens"), Reflection: auth.Viewer, Metrics: auth.Viewer, Console: auth.Viewer,
	}
	for _, role := range []auth.Role{auth.Viewer, auth.Operator, auth.Admin} {
		g.access.Rules = append(g.access.Rules, auth.Rule{
			Role: role, Clusters: []string{"prod"}, Subjects: []string{"CN=" + role.String()}, Tokens: []string{role.String()},
			Identities: []string{"corp:" + role.String()}, Groups: []string{"corp:" + role.String() + "s"},
		})
	}
	g.access.Rules = append(g.access.Rules, auth.Rule{Role: auth.Viewer, Tokens: []string{"everywhere"}})
	g.changeTokens(t, func(all []auth.Token) []auth.Token { return all })
	if len(clusters) == 0 {
		clusters = []*fakeCluster{g.allOf("prod"), g.allOf(hiddenName)}
	}
	g.audit = filepath.Join(t.TempDir(), "audit.jsonl")
	cfg := server.Config{
		TLS: files, Access: g.access, AuditFile: g.audit, AuditFailed: func(context.Context) { g.lost.Add(1) },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, hiddenName) }),
		Refused: func(_ context.Context, r server.Refusal) {
			n, _ := g.refused.LoadOrStore(r, new(atomic.Int64))
			n.(*atomic.Int64).Add(1)
			if r == server.RefusedHandshake {
				select {
				case g.broken <- struct{}{}:
				default: // nobody waits for so many
				}
			}
		},
	}
	change(&cfg)
	g.running = run(t, cfg, clusters...)
	return g
}

// count returns how many callers were refused.
func (g *guardedServer) count(r server.Refusal) int64 {
	n, ok := g.refused.Load(r)
	if !ok {
		return 0
	}
	return n.(*atomic.Int64).Load()
}

func (g *guardedServer) changeTokens(t *testing.T, change func([]auth.Token) []auth.Token) {
	t.Helper()
	err := auth.ChangeTokens(g.access.TokensFile, func(all []auth.Token) ([]auth.Token, error) { return change(all), nil })
	if err != nil {
		t.Error(err)
	}
}

// withToken returns a person with a new token.
func (g *guardedServer) withToken(t *testing.T, name string) person {
	t.Helper()
	tok, secret := auth.NewToken(name, time.Now(), time.Time{})
	g.changeTokens(t, func(all []auth.Token) []auth.Token { return append(all, tok) })
	return person{name: "token " + name, token: secret}
}

// withCertificate returns a person with a new certificate.
func (g *guardedServer) withCertificate(t *testing.T, name string, serial int64) person {
	t.Helper()
	pair := issue(t, g.ca, name, serial).TLS()
	return person{name: "certificate " + name, cert: &pair}
}

func (g *guardedServer) tls(p person) *tls.Config {
	cfg := &tls.Config{RootCAs: g.ca.Pool(), MinVersion: tls.VersionTLS12}
	if p.cert != nil {
		cfg.Certificates = []tls.Certificate{*p.cert}
	}
	return cfg
}

// bearerToken sends a token with each call.
type bearerToken string

func (b bearerToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}
func (bearerToken) RequireTransportSecurity() bool { return true }

// cookieMetadata sends cookies as metadata.
type cookieMetadata []*http.Cookie

func (c cookieMetadata) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	var all []string
	for _, one := range c {
		all = append(all, one.String())
	}
	return map[string]string{"cookie": strings.Join(all, "; ")}, nil
}
func (cookieMetadata) RequireTransportSecurity() bool { return true }

// options are those by which somebody connects.
func (g *guardedServer) options(p person) []grpc.DialOption {
	opts := []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(g.tls(p)))}
	if p.token != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(bearerToken(p.token)))
	}
	if p.cookies != nil {
		opts = append(opts, grpc.WithPerRPCCredentials(cookieMetadata(p.cookies)))
	}
	return opts
}

func (g *guardedServer) connect(t *testing.T, p person) *grpc.ClientConn {
	t.Helper()
	return g.dial(t, g.options(p)...)
}

func (g *guardedServer) as(t *testing.T, p person) snapshotdv1.SnapshotServiceClient {
	t.Helper()
	return snapshotdv1.NewSnapshotServiceClient(g.connect(t, p))
}

// browsing asks over HTTP, and returns the code and the body of the answer.
type browsing func(method, path, body string, headers ...string) (int, string)

// browse returns the browsing of a person.
func (g *guardedServer) browse(t *testing.T, p person) browsing {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: g.tls(p), ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	client := &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	return func(method, path, body string, headers ...string) (int, string) {
		t.Helper()
		req := g.request(t, method, path, body, headers...)
		req.URL.Scheme = "https"
		if p.token != "" && req.Header.Get("Authorization") == "" {
			req.Header.Set("Authorization", "Bearer "+p.token)
		}
		for _, c := range p.cookies {
			req.AddCookie(c)
			req.Header.Set(console.Header, "1") // as the page does
		}
		resp, text := do(t, client, req)
		return resp.code, text
	}
}

// attempt is a row of the table: something that a caller may try.
type attempt struct {
	what string
	rpc  func(t *testing.T, conn *grpc.ClientConn) error
	ask  [3]string // method, path and body over HTTP, instead of rpc
	ours bool      // it asks the domain when it is allowed
}

// methods are the RPCs of both services.
func methods() (all []protoreflect.MethodDescriptor) {
	for _, of := range []protoreflect.ServiceDescriptors{
		snapshotdv1.File_snapshotd_v1_snapshot_service_proto.Services(),
		snapshotdv1.File_snapshotd_v1_cluster_service_proto.Services(),
	} {
		for s := range of.Len() {
			for i := range of.Get(s).Methods().Len() {
				all = append(all, of.Get(s).Methods().Get(i))
			}
		}
	}
	return all
}

// rpcAttempts are all RPCs, about each cluster, as the service describes itself.
func rpcAttempts(t *testing.T) []attempt {
	t.Helper()
	var all []attempt
	for _, m := range methods() {
		for _, about := range []string{"prod", hiddenName, ""} {
			for _, pinned := range []bool{true, false} {
				if m.Name() != "Update" && !pinned {
					continue
				}
				what := fmt.Sprintf("%s %s", m.Name(), cmp.Or(about, "-"))
				if !pinned {
					what = fmt.Sprintf("Update (unpin) %s", cmp.Or(about, "-"))
				}
				all = append(all, attempt{
					what: what, ours: m.Name() != "WhoAmI",
					rpc: func(t *testing.T, conn *grpc.ClientConn) error { return invoke(t, conn, m, about, pinned) },
				})
			}
		}
	}
	return append(all,
		attempt{what: "health", rpc: func(t *testing.T, conn *grpc.ClientConn) error {
			_, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
			return err
		}},
		attempt{what: "reflection", rpc: func(t *testing.T, conn *grpc.ClientConn) error {
			stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
			if err != nil {
				return err
			}
			_ = stream.Send(&reflectionpb.ServerReflectionRequest{
				MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
			}) // the error is that of Recv
			_, err = stream.Recv()
			return err
		}},
	)
}

// invoke calls an RPC by its description.
func invoke(t *testing.T, conn *grpc.ClientConn, m protoreflect.MethodDescriptor, about string, pinned bool) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	message := func(d protoreflect.MessageDescriptor) proto.Message {
		kind, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
		if err != nil {
			t.Fatal(err)
		}
		return kind.New().Interface()
	}
	req, resp := message(m.Input()), message(m.Output())
	text := fmt.Sprintf(`{"cluster":%q,"name":"a"}`, about)
	if m.Name() == "Update" {
		text = fmt.Sprintf(`{"snapshot":{"cluster":%q,"name":"a","pinned":%v},"updateMask":"pinned"}`, about, pinned)
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(text), req); err != nil {
		t.Fatal(err)
	}
	full := "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
	if !m.IsStreamingServer() {
		return conn.Invoke(ctx, full, req, resp)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, full)
	if err == nil {
		_ = stream.SendMsg(req) // the error is that of RecvMsg
		_ = stream.CloseSend()
		for err == nil {
			err = stream.RecvMsg(resp)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

var inPath = regexp.MustCompile(`\{([a-z.]+)\}`)

// httpAttempts are all paths of the API, about each cluster, and all pages.
func httpAttempts() []attempt {
	var all []attempt
	add := func(rule *annotations.HttpRule, ours bool) {
		method, path := "GET", rule.GetGet()
		switch {
		case rule.GetPost() != "":
			method, path = "POST", rule.GetPost()
		case rule.GetPatch() != "":
			method, path = "PATCH", rule.GetPatch()
		case rule.GetDelete() != "":
			method, path = "DELETE", rule.GetDelete()
		}
		bodies := map[string][]string{"POST": {"{}"}, "PATCH": {`{"pinned":true}`, `{"pinned":false}`}}[method]
		if bodies == nil {
			bodies = []string{""}
		}
		for _, about := range []string{"prod", hiddenName} {
			for _, body := range bodies {
				full := inPath.ReplaceAllStringFunc(path, func(field string) string {
					if strings.Contains(field, "cluster") {
						return about
					}
					return "a"
				})
				a := attempt{what: strings.TrimSpace(method + " " + full + " " + strings.Trim(body, "{}")), ours: ours}
				a.ask = [3]string{method, full, body}
				if !slices.ContainsFunc(all, func(b attempt) bool { return b.what == a.what }) {
					all = append(all, a)
				}
			}
		}
	}
	for _, m := range methods() {
		rule, _ := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
		for _, r := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
			add(r, m.Name() != "WhoAmI")
		}
	}
	for _, path := range []string{
		"/", "/console/main.js", "/console/console.css", "/console/service", "/console/login", "/console/callback",
		"/metrics", "/healthz", "/readyz",
		"/v1/nothing", "/nothing",
	} {
		all = append(all, attempt{what: "GET " + path, ask: [3]string{"GET", path, ""}})
	}
	for _, about := range []string{"prod", hiddenName} {
		path := "/console/download?cluster=" + about + "&name=a"
		all = append(all, attempt{what: "GET " + path, ask: [3]string{"GET", path, ""}, ours: true})
	}
	// The last one: it ends the session.
	all = append(all, attempt{what: "POST /console/logout", ask: [3]string{"POST", "/console/logout", ""}})
	return all
}

var (
	reasonIn = regexp.MustCompile(`"reason":"([A-Z_]+)"`)
	roleIn   = regexp.MustCompile(`the role (viewer|operator|admin)|it is closed`)
)

// outcome tells how an attempt ended, in a word.
func (g *guardedServer) outcome(
	t *testing.T, a attempt, p person, conn *grpc.ClientConn, browse browsing,
) string {
	t.Helper()
	before := g.asked.Load()
	var reason, text string
	code := 200
	if a.rpc != nil {
		if err := a.rpc(t, conn); err != nil {
			reason, text = string(wire.DetailsOf(err).Reason), err.Error()
		}
	} else {
		code, text = browse(a.ask[0], a.ask[1], a.ask[2])
		if m := reasonIn.FindStringSubmatch(text); m != nil {
			reason = m[1]
		}
	}
	word := "allowed"
	switch {
	case reason == "UNAUTHENTICATED":
		word = "unknown"
	case reason == "ROLE_MISSING":
		word = "denied"
	case reason == "CLUSTER_NOT_FOUND":
		word = "hidden"
	case reason == "INVALID_ARGUMENT":
		word = "which?"
	case code == http.StatusSeeOther:
		word = "login"
	case code == http.StatusBadRequest && reason == "":
		word = "refused"
	case code == 404 && reason == "" || reason == "NO_SUCH_PATH":
		word = "nothing"
	}
	if asked := g.asked.Load() > before; asked != (word == "allowed" && a.ours) {
		t.Errorf("%s as %s is %s, and the domain was asked: %v (%s)", a.what, p.name, word, asked, text)
	}
	text = strings.NewReplacer(`no cluster "`+hiddenName, "", `no cluster \"`+hiddenName, "").Replace(text)
	if strings.Contains(text, hiddenName) && p.name != everywhere {
		t.Errorf("%s as %s tells of a hidden cluster: %s", a.what, p.name, text)
	}
	if word == "denied" && !roleIn.MatchString(text) {
		t.Errorf("%s as %s does not name the role that is missing: %s", a.what, p.name, text)
	}
	if word == "unknown" && strings.Contains(text, "prod") {
		t.Errorf("%s as %s tells somebody unknown of a cluster: %s", a.what, p.name, text)
	}
	return word
}

// TestWhoMayDoWhat compares all that people can try with a table: each RPC, each path and each page, as three of each
// kind of principals, one without a role, and nobody.
func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	g := guardedService(t)
	roles := []string{"viewer", "operator", "admin"}
	people := []person{
		{name: "nobody"}, g.withCertificate(t, "stranger", 90), g.withToken(t, "stranger"), g.withIdentity(t, "stranger"),
		g.withSession(t, "stranger"),
	}
	for i, role := range roles {
		people = append(people, g.withCertificate(t, role, int64(100+i)))
	}
	for _, role := range roles {
		people = append(people, g.withToken(t, role))
	}
	for _, role := range roles {
		people = append(people, g.withIdentity(t, role))
	}
	for _, role := range roles {
		people = append(people, g.withSession(t, role))
	}
	people = append(people, g.withToken(t, "everywhere"))
	for _, role := range roles {
		people = append(people, person{name: "local " + role})
	}
	attempts := append(rpcAttempts(t), httpAttempts()...)
	cells := make([][]string, len(attempts))
	for _, p := range people {
		access := *g.access
		if role, ok := strings.CutPrefix(p.name, "local "); ok {
			r, err := auth.ParseRole(role)
			if err != nil {
				t.Fatal(err)
			}
			access.Rules = append(slices.Clone(access.Rules), auth.Rule{Role: r, Local: true, Clusters: []string{"prod"}})
		}
		if err := g.SetAccess(&access); err != nil {
			t.Fatal(err)
		}
		conn, browse := g.connect(t, p), g.browse(t, p)
		for i, a := range attempts {
			cells[i] = append(cells[i], g.outcome(t, a, p, conn, browse))
		}
	}
	checkGolden(t, "access.golden", tableOf(people, attempts, cells))
	if n := g.nobodys.Load(); n > 0 {
		t.Errorf("the context of %d of %d calls of the domain names no caller", n, g.asked.Load())
	}
}

// TestWhatIsClosedIsClosedToEverybody: open paths are open to strangers, and the others need their role.
func TestWhatIsClosedIsClosedToEverybody(t *testing.T) {
	g := guardedService(t)
	pages := map[string]struct {
		set   func(*auth.Access, auth.Role)
		paths []string
		rpc   string
	}{
		"health":     {func(a *auth.Access, r auth.Role) { a.Health = r }, []string{"/healthz", "/readyz"}, "health"},
		"reflection": {func(a *auth.Access, r auth.Role) { a.Reflection = r }, nil, "reflection"},
		"metrics":    {func(a *auth.Access, r auth.Role) { a.Metrics = r }, []string{"/metrics"}, ""},
		"console":    {func(a *auth.Access, r auth.Role) { a.Console = r }, []string{"/", "/console/main.js"}, ""},
	}
	attempts := append(rpcAttempts(t), httpAttempts()...)
	find := func(what string) attempt {
		i := slices.IndexFunc(attempts, func(a attempt) bool { return a.what == what })
		if i < 0 {
			t.Fatalf("there is no attempt %s", what)
		}
		return attempts[i]
	}
	nobody, looks := person{name: everywhere}, g.withToken(t, "everywhere") // what is open tells anybody of all clusters
	looks.name = everywhere
	for name, page := range pages {
		tries := []attempt{}
		for _, path := range page.paths {
			tries = append(tries, find("GET "+path))
		}
		if page.rpc != "" {
			tries = append(tries, find(page.rpc))
		}
		for need, want := range map[auth.Role][2]string{
			auth.None: {"allowed", "allowed"}, auth.Viewer: {"unknown", "allowed"}, auth.Operator: {"unknown", "denied"},
			auth.Nobody: {"closed", "closed"},
		} {
			access := *g.access
			access.Issuers = nil // whose login the style of the console is for
			page.set(&access, need)
			if err := g.SetAccess(&access); err != nil {
				t.Fatal(err)
			}
			for _, a := range tries {
				for i, who := range []person{nobody, looks} {
					got := g.outcome(t, a, who, g.connect(t, who), g.browse(t, who))
					if got == "nothing" || need == auth.Nobody && (got == "unknown" || got == "denied") {
						got = "closed"
					}
					if got != want[i] {
						t.Errorf("%s that needs %s: %s as %s is %s, want %s", name, need, a.what, []string{"nobody", "a viewer"}[i],
							got, want[i])
					}
				}
			}
		}
	}
}

// tableOf returns the outcomes of the attempts, with a column for each caller.
func tableOf(people []person, attempts []attempt, cells [][]string) []byte {
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	var kinds, names []string
	for _, p := range people {
		kind, name, _ := strings.Cut(p.name, " ")
		kinds, names = append(kinds, kind), append(names, cmp.Or(name, "-"))
	}
	_, _ = fmt.Fprintf(w, "\t%s\n\t%s\n", strings.Join(kinds, "\t"), strings.Join(names, "\t")) // to memory
	for i, a := range attempts {
		_, _ = fmt.Fprintf(w, "%s\t%s\n", a.what, strings.Join(cells[i], "\t"))
	}
	_ = w.Flush()
	return table.Bytes()
}

func checkGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wants := strings.Split(string(want), "\n")
	if n := bytes.Count(got, []byte("\n")); n != bytes.Count(want, []byte("\n")) {
		t.Errorf("%s has %d lines now", name, n)
	}
	for i, line := range strings.Split(string(got), "\n") {
		if i >= len(wants) || wants[i] != line {
			t.Errorf("line %d of %s is\n%s", i+1, name, line)
		}
	}
}

// TestNothingIsLeftOutOfTheTable: each service that the server has, and each path, has its rows.
func TestNothingIsLeftOutOfTheTable(t *testing.T) {
	g := guardedService(t)
	conn := g.connect(t, g.withToken(t, "admin"))
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
	}) // the error is that of Recv
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	inTable := map[string]bool{
		healthpb.Health_ServiceDesc.ServiceName: true, reflectionpb.ServerReflection_ServiceDesc.ServiceName: true,
		"grpc.reflection.v1alpha.ServerReflection": true, // of which the decision is that of v1
	}
	for _, m := range methods() {
		inTable[string(m.Parent().FullName())] = true
	}
	for _, s := range resp.GetListServicesResponse().GetService() {
		if !inTable[s.GetName()] {
			t.Errorf("the table has no rows for %s", s.GetName())
		}
	}
	paths := map[string]string{
		`"/v1/"`: "/v1/nothing", `"GET /{$}"`: "/", `"GET "+console.Root`: "/console/main.js",
		`"GET "+console.Root+"download"`: "/console/download?", `"GET "+console.Root+"service"`: "/console/service",
		`"GET "+session.Style`: "/console/console.css", `"GET "+session.LoginPath`: "/console/login",
		`"GET "+session.CallbackPath`: "/console/callback", `"POST "+session.LogoutPath`: "/console/logout",
		`"GET /healthz"`: "/healthz", `"GET /readyz"`: "/readyz", `"GET /metrics"`: "/metrics",
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	rows := httpAttempts()
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range handled.FindAllStringSubmatch(string(source), -1) {
			path, known := paths[found[1]]
			has := func(a attempt) bool {
				return a.ask[1] == path || strings.HasPrefix(a.ask[1], "/console/download?") && path == "/console/download?"
			}
			if !strings.HasSuffix(file, "_test.go") && (!known || !slices.ContainsFunc(rows, has)) {
				t.Errorf("%s serves %s, and the table has no row for it", file, found[1])
			}
		}
	}
}

// handled is the pattern of a handler in the sources.
var handled = regexp.MustCompile(`mux\.Handle(?:Func)?\(([^,]+),`)

// TestEveryRPCIsInTheRuleBook: one that is not needs the greatest role, which is safe and not right.
func TestEveryRPCIsInTheRuleBook(t *testing.T) {
	for _, m := range methods() {
		if _, ok := auth.OperationOf(string(m.Name())); !ok {
			t.Errorf("%s is not in the rule book", m.Name())
		}
	}
	if op, ok := auth.OperationOf("Other"); ok || op.Needs != auth.Admin || !op.Audited {
		t.Errorf("an operation that is not in the rule book needs %v", op)
	}
}

// quiet are clusters whose watches end with the caller.
func quiet(g *guardedServer, names ...string) []*fakeCluster {
	var all []*fakeCluster
	for _, name := range names {
		c := g.allOf(name)
		c.follow = nil
		all = append(all, c)
	}
	return all
}

// Reconcile makes nothing that cannot be made again, unless it retires a node.
func TestRetiringANodeNeedsAdmin(t *testing.T) {
	g := guardedService(t)
	retire := &snapshotdv1.ReconcileRequest{Cluster: "prod", RetireNodes: []string{"server-3"}}
	_, err := g.as(t, g.withToken(t, "operator")).Reconcile(t.Context(), retire)
	checkError(t, err, codes.PermissionDenied, snapshot.ReasonRoleMissing)
	_, err = g.as(t, g.withToken(t, "admin")).Reconcile(t.Context(), retire)
	if status.Code(err) == codes.PermissionDenied {
		t.Errorf("an admin is refused: %v", err)
	}
}

// TestAnOpenStreamEndsWithTheRoleOfItsCaller: over gRPC and HTTP, whatever took the role away, and with nobody calling.
func TestAnOpenStreamEndsWithTheRoleOfItsCaller(t *testing.T) {
	t.Parallel()
	g := guardedService(t, quiet(&guardedServer{}, "prod", hiddenName)...)
	byToken, byCert := g.withToken(t, "viewer"), g.withCertificate(t, "viewer", 77)
	for what, c := range map[string]struct {
		who    person
		take   func()
		code   codes.Code
		reason snapshot.Reason
	}{
		"rules": {byCert, func() {
			if err := g.SetAccess(&auth.Access{TokensFile: g.access.TokensFile}); err != nil {
				t.Error(err)
			}
		}, codes.PermissionDenied, snapshot.ReasonRoleMissing},
		"token": {byToken, func() {
			g.changeTokens(t, func([]auth.Token) []auth.Token { return nil })
		}, codes.Unauthenticated, snapshot.ReasonUnauthenticated},
		"certificate": {byCert, func() { write(t, g.crl, revoked(t, g.ca, 77)) },
			codes.Unauthenticated, snapshot.ReasonUnauthenticated},
	} {
		t.Run(what, func(t *testing.T) {
			write(t, g.crl, revoked(t, g.ca))
			if c.who.token != "" {
				c.who = g.withToken(t, "viewer")
			}
			if err := g.SetAccess(g.access); err != nil {
				t.Fatal(err)
			}
			client := g.as(t, c.who)
			stream := watch(t, client, &snapshotdv1.WatchRequest{})
			c.take()
			_, err := stream.Recv()
			checkError(t, err, c.code, c.reason)
			_, err = client.List(t.Context(), &snapshotdv1.ListRequest{}) // over the same connection
			checkError(t, err, c.code, c.reason)
		})
	}
}

func TestAWatchShowsTheEventsOfVisibleClustersAlone(t *testing.T) {
	g := guardedService(t, quiet(&guardedServer{}, "prod", hiddenName)...)
	stream := watch(t, g.as(t, g.withToken(t, "viewer")), &snapshotdv1.WatchRequest{})
	for _, name := range []string{hiddenName, "prod"} {
		g.events.Observe(t.Context(), snapshot.Event{Type: snapshot.EventStarted, Cluster: name, Name: name})
	}
	if ev, err := stream.Recv(); err != nil || ev.GetCluster() != "prod" {
		t.Errorf("the first event is %v, %v", ev, err)
	}
}

// TestWhoCallsCannotBeMadeUp: the way by which requests over HTTP carry their caller is closed to clients.
func TestWhoCallsCannotBeMadeUp(t *testing.T) {
	g := guardedService(t)
	admin, viewer := g.withToken(t, "admin"), g.withToken(t, "viewer")
	code, text := g.browse(t, admin)("GET", "/v1/whoami", "")
	if code != 200 || !strings.Contains(text, `"name":"admin"`) {
		t.Errorf("an admin over HTTP is %d %s", code, text)
	}
	headers := []string{
		"Snapshotd-Caller", "x", "Grpc-Metadata-Snapshotd-Caller", "x", "Snapshotd-Http-Peer", "1.2.3.4:5",
		"Grpc-Metadata-Authorization", "Bearer " + admin.token, "X-Forwarded-Client-Cert", "Subject=\"CN=admin\"",
		"X-Remote-User", "admin",
	}
	if code, _ := g.browse(t, person{})("GET", "/v1/snapshots", "", headers...); code != http.StatusUnauthorized {
		t.Errorf("nobody with headers gets %d", code)
	}
	if code, text := g.browse(t, viewer)("GET", "/v1/whoami", "", headers...); !strings.Contains(text, `"name":"viewer"`) {
		t.Errorf("a viewer with headers is %d %s", code, text)
	}
	for _, wrong := range []string{
		"Basic " + admin.token, "Bearer", "Bearer x", admin.token, "Bearer " + admin.token + " x",
	} {
		if code, _ := g.browse(t, viewer)("GET", "/v1/whoami", "", "Authorization", wrong); code != http.StatusUnauthorized {
			t.Errorf("%q gets %d", wrong, code)
		}
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "snapshotd-caller", "x", "snapshotd-http-peer", "127.0.0.1:1")
	_, err := g.as(t, person{}).WhoAmI(ctx, &snapshotdv1.WhoAmIRequest{})
	checkError(t, err, codes.Unauthenticated, snapshot.ReasonUnauthenticated)
	ctx = metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+admin.token)
	_, err = g.as(t, viewer).WhoAmI(ctx, &snapshotdv1.WhoAmIRequest{}) // two tokens
	checkError(t, err, codes.Unauthenticated, snapshot.ReasonUnauthenticated)
}

func TestCallersThatAreRefusedAreCounted(t *testing.T) {
	g := guardedService(t)
	viewer := g.withToken(t, "viewer")
	_, _ = g.as(t, person{}).List(t.Context(), &snapshotdv1.ListRequest{})
	_, _ = g.browse(t, person{})("GET", "/v1/snapshots", "")
	if n := g.count(server.RefusedUnauthenticated); n != 2 {
		t.Errorf("%d unknown callers were counted", n)
	}
	_, _ = g.as(t, viewer).Delete(t.Context(), &snapshotdv1.DeleteRequest{Name: "a"})
	_, _ = g.browse(t, viewer)("DELETE", "/v1/snapshots/a", "")
	_, _ = g.browse(t, viewer)("GET", "/metrics", "")
	if n := g.count(server.RefusedDenied); n != 3 {
		t.Errorf("%d denials were counted", n)
	}
	pair := issue(t, newAuthority(t), "", 3).TLS()
	for _, addr := range []string{g.GRPCAddr(), g.HTTPAddr()} {
		conn, err := tls.Dial("tcp", addr, &tls.Config{
			RootCAs: g.ca.Pool(), MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"},
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil },
		})
		if err == nil {
			_, err = io.Copy(io.Discard, conn) // until the server closes it
			_ = conn.Close()
		}
		if err == nil {
			t.Errorf("%s: a stranger's certificate was taken", addr)
		}
		wait(t, g.broken, "the count of the handshake")
	}
}

// TestCertificatesAloneAreAskedForInTheHandshake: where no rule is about anything else, nobody else gets a connection.
func TestCertificatesAloneAreAskedForInTheHandshake(t *testing.T) {
	g := guardedService(t)
	list := func(p person) error {
		_, err := g.as(t, p).List(t.Context(), &snapshotdv1.ListRequest{})
		return err
	}
	checkError(t, list(person{}), codes.Unauthenticated, snapshot.ReasonUnauthenticated)
	err := g.SetAccess(&auth.Access{Rules: []auth.Rule{
		{Role: auth.Viewer, Clusters: []string{"prod"}, Subjects: []string{"CN=*"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := list(person{}); status.Code(err) != codes.Unavailable {
		t.Errorf("without a certificate: %v", err)
	}
	if err := list(g.withCertificate(t, "anyone", 5)); err != nil {
		t.Errorf("with one: %v", err)
	}
}
