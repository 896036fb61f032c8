package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/snapshotd/snapshotd/cluster"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/snapshot"
)

// request returns a request of the API over HTTP; headers are names and values in turn.
func (r *running) request(t *testing.T, method, path, body string, headers ...string) *http.Request {
	t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.HTTPAddr()+path, reader)
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	req.Host = req.Header.Get("Host")
	return req
}

// answer is the answer to a request, without the body.
type answer struct {
	code   int
	header http.Header
	proto  string
}

func answerOf(resp *http.Response) answer {
	return answer{code: resp.StatusCode, header: resp.Header, proto: resp.Proto}
}

// ask sends a request and returns the answer and its body.
func (r *running) ask(t *testing.T, method, path, body string, headers ...string) (answer, string) {
	t.Helper()
	return do(t, http.DefaultClient, r.request(t, method, path, body, headers...))
}

func do(t *testing.T, client *http.Client, req *http.Request) (answer, string) {
	t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answerOf(resp), string(b)
}

// errorOf returns the error that is in a body.
func errorOf(t *testing.T, body string) error {
	t.Helper()
	var st statuspb.Status
	if err := protojson.Unmarshal([]byte(body), &st); err != nil {
		t.Fatalf("decode the error %q: %v", body, err)
	}
	return status.ErrorProto(&st)
}

// asked is a cluster that notes its requests.
func asked(name string, what *[]any) *fakeCluster {
	rec := &snapshot.Record{
		Snapshot: *inState(snapshot.StateReady, snapshot.Snapshot{Name: "a", Cluster: name, Revision: 1 << 60}),
	}
	note := func(v any) { *what = append(*what, v) }
	return &fakeCluster{
		name: name, backends: []string{"s3"},
		save: func(_ context.Context, q cluster.SaveRequest) (cluster.SaveResult, error) {
			note(q)
			return cluster.SaveResult{Snapshot: &rec.Snapshot}, nil
		},
		reconcile: func(_ context.Context, q cluster.ReconcileRequest) ([]cluster.BackendReport, error) {
			note(q)
			return nil, nil
		},
		get: func(_ context.Context, q string) (*snapshot.Record, error) { note(q); return rec, nil },
		list: func(_ context.Context, q snapshot.Query) (snapshot.Page, error) {
			note(q)
			return snapshot.Page{Records: []*snapshot.Record{rec}}, nil
		},
		update: func(_ context.Context, q cluster.UpdateRequest) (*snapshot.Record, error) { note(q); return rec, nil },
		remove: func(_ context.Context, q cluster.DeleteRequest) (*snapshot.Record, error) { note(q); return nil, nil },
		prune: func(_ context.Context, q cluster.PruneRequest) ([]cluster.Decision, error) {
			note(q)
			return nil, nil
		},
		verify: func(_ context.Context, q cluster.VerifyRequest) (*snapshot.Record, error) {
			q.Progress = nil
			note(q)
			return rec, nil
		},
	}
}

func TestEachRPCIsReachedOverHTTP(t *testing.T) {
	var what []any
	r := run(t, server.Config{}, asked("prod", &what))
	from := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	save := cluster.SaveRequest{
		NamePrefix: "x", Labels: map[string]string{"k": "v"}, Backends: []string{"s3"}, RequestID: "id",
		Trigger: snapshot.TriggerManual,
	}
	for _, c := range []struct {
		method, path, body string
		want               any
	}{
		{"POST", "/snapshots:save", "", cluster.SaveRequest{Trigger: snapshot.TriggerManual}},
		{"POST", "/snapshots:save", `{"namePrefix":"x","labels":{"k":"v"},"backends":["s3"],"requestId":"id"}`, save},
		{"POST", "/snapshots:reconcile", `{"backends":["s3"],"validateOnly":true}`, cluster.ReconcileRequest{
			Backends: []string{"s3"}, ValidateOnly: true,
		}},
		{"GET", "/snapshots", "", snapshot.Query{PageSize: 100}},
		{"GET", "/snapshots?backend=s3&states=STATE_READY&states=STATE_PARTIAL&labels[k]=v&pageSize=5" +
			"&createTimeFrom=2026-11-25T00:00:00Z", "",
			snapshot.Query{Backend: "s3", States: []snapshot.State{snapshot.StateReady, snapshot.StatePartial},
				Labels: map[string]string{"k": "v"}, PageSize: 5, From: from}},
		{"GET", "/snapshots/a-1.b", "", "a-1.b"},
		{"PATCH", "/snapshots/a", `{"pinned":true}`, cluster.UpdateRequest{Name: "a", Pinned: new(true)}},
		{"PATCH", "/snapshots/a", `{"pinned":true,"etag":"e"}`,
			cluster.UpdateRequest{Name: "a", Etag: "e", Pinned: new(true)}},
		{"PATCH", "/snapshots/a?updateMask=labels,pinned", `{"labels":{"k":"v"},"etag":"e"}`,
			cluster.UpdateRequest{Name: "a", Etag: "e", Pinned: new(false), Labels: map[string]string{"k": "v"}}},
		{"DELETE", "/snapshots/a?backends=s3&backends=b&etag=e", "", cluster.DeleteRequest{
			Name: "a", Backends: []string{"s3", "b"}, Etag: "e",
		}},
		{"POST", "/snapshots:prune", `{"validate_only":true}`, cluster.PruneRequest{ValidateOnly: true}},
		{"POST", "/snapshots:prune", `{"cluster":"prod"}`, cluster.PruneRequest{}}, // as the path has it, or has it not
		{"POST", "/snapshots:prune", `{"cluster":null}`, cluster.PruneRequest{}},
		{"PATCH", "/snapshots/a?updateMask=pinned", `{"name":"a","cluster":"prod","pinned":true}`,
			cluster.UpdateRequest{Name: "a", Pinned: new(true)}},
		{"POST", "/snapshots/a:verify", `{"name":"a"}`, cluster.VerifyRequest{Name: "a", Level: snapshot.LevelChecksum}},
		{"POST", "/snapshots/a:verify", `{"level":"LEVEL_DRILL","backend":"s3"}`, cluster.VerifyRequest{
			Name: "a", Level: snapshot.LevelDrill, Backend: "s3",
		}},
	} {
		for _, prefix := range []string{"/v1", "/v1/clusters/prod"} {
			what = nil
			resp, body := r.ask(t, c.method, prefix+c.path, c.body)
			if resp.code != http.StatusOK {
				t.Errorf("%s %s: %d %s", c.method, prefix+c.path, resp.code, body)
				continue
			}
			if len(what) != 1 || !reflect.DeepEqual(what[0], c.want) {
				t.Errorf("%s %s became %+v, want %+v", c.method, prefix+c.path, what, c.want)
			}
		}
	}
	what = nil
	resp, body := r.ask(t, "GET", "/v1/clusters/nope/snapshots", "")
	if checkError(t, errorOf(t, body), codes.NotFound, snapshot.ReasonClusterNotFound); resp.code != http.StatusNotFound ||
		len(what) > 0 {
		t.Errorf("a cluster that is not there: %d, and the domain was asked %v", resp.code, what)
	}
}

func TestAnswersAreTheJSONOfTheAPI(t *testing.T) {
	var what []any
	r := run(t, server.Config{}, asked("prod", &what))
	resp, body := r.ask(t, "GET", "/v1/snapshots/a", "")
	if kind := resp.header.Get("Content-Type"); kind != "application/json" ||
		resp.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("the headers are %v", resp.header)
	}
	for _, want := range []string{
		`{"snapshot":{"name":"a","cluster":"prod","state":"STATE_READY","error":"","pinned":false,"labels":{}`,
		`"revision":"1152921504606846976"`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%s is not in %s", want, body)
		}
	}
	if !strings.HasSuffix(body, "\n") || strings.Count(body, "\n") != 1 {
		t.Errorf("the answer is no line: %q", body)
	}
}

// A request that cannot be read gets the same kind of error as one with wrong values: the field, the value and the
// allowed values.
func TestWhatCannotBeReadOverHTTP(t *testing.T) {
	var what []any
	r := run(t, server.Config{}, asked("prod", &what))
	for _, c := range []struct{ method, path, body, field, want string }{
		{"GET", "/v1/snapshots?pageSize=x", "", "page_size", `page_size: "x" is not a whole number`},
		{"GET", "/v1/snapshots?pageSize=99999999999", "", "page_size",
			`page_size: "99999999999" is too large or too small a number`},
		{"GET", "/v1/snapshots?pageSize=1&pageSize=2", "", "page_size", `page_size: is given more than once: 1, 2`},
		{"GET", "/v1/snapshots?states=STATE_NOPE", "", "states", `states: "STATE_NOPE" is not a valid value`},
		{"GET", "/v1/snapshots?createTimeFrom=now", "", "create_time_from",
			`create_time_from: "now" is not a time; write it as 2026-07-15T12:00:00Z`},
		{"PATCH", "/v1/snapshots/a", "{}", "update_mask",
			"update_mask: names nothing to change; labels and pinned can be changed"},
		{"POST", "/v1/snapshots:save", `{"nope":1}`, "", `the body: (line 1:2): unknown field "nope"`},
	} {
		resp, body := r.ask(t, c.method, c.path, c.body)
		err := errorOf(t, body)
		d := checkError(t, err, codes.InvalidArgument, snapshot.ReasonInvalidArgument)
		if resp.code != http.StatusBadRequest || d.Field != c.field || status.Convert(err).Message() != c.want {
			t.Errorf("%s %s: %d, field %q: %v\nwant field %q: %s", c.method, c.path, resp.code, d.Field, err, c.field, c.want)
		}
	}
	if len(what) > 0 {
		t.Errorf("the domain was asked %v", what)
	}
}

func TestErrorsOverHTTPAreTheStatusWithItsDetails(t *testing.T) {
	for _, c := range []struct {
		err  *snapshot.Error
		code codes.Code
		http int
		wait string
	}{
		{snapshot.ReasonSnapshotNotFound.New("none"), codes.NotFound, 404, ""},
		{snapshot.Invalid("name", "is bad"), codes.InvalidArgument, 400, ""},
		{snapshot.ReasonSaveInProgress.New("busy"), codes.Aborted, 409, "5"},
		{snapshot.ReasonEtcdUnavailable.New("down"), codes.Unavailable, 503, "10"},
		{snapshot.ReasonPinned.New("pinned"), codes.FailedPrecondition, 400, ""},
		{snapshot.ReasonNoSpace.New("full"), codes.ResourceExhausted, 429, "60"},
		{snapshot.ReasonChecksumMismatch.New("damaged"), codes.DataLoss, 500, "10"},
	} {
		r := run(t, server.Config{}, failing(c.err))
		resp, body := r.ask(t, "GET", "/v1/snapshots/a", "")
		checkError(t, errorOf(t, body), c.code, c.err.Reason)
		if resp.code != c.http || resp.header.Get("Retry-After") != c.wait {
			t.Errorf("%s: %d, Retry-After %q; want %d, %q",
				c.err.Reason, resp.code, resp.header.Get("Retry-After"), c.http, c.wait)
		}
	}
}

// TestAPartialSaveOverHTTPHasTheSnapshot: the stored copies are in the error.
func TestAPartialSaveOverHTTPHasTheSnapshot(t *testing.T) {
	r := run(t, server.Config{},
		&fakeCluster{name: "prod", save: func(context.Context, cluster.SaveRequest) (cluster.SaveResult, error) {
			return cluster.SaveResult{Snapshot: inState(snapshot.StatePartial, snapshot.Snapshot{Name: "a"})},
				snapshot.ReasonBackendUnavailable.New("down").On("s3")
		}})
	_, body := r.ask(t, "POST", "/v1/snapshots:save", "{}")
	d := checkError(t, errorOf(t, body), codes.Unavailable, snapshot.ReasonBackendUnavailable)
	if d.Snapshot.GetState() != snapshotdv1.Snapshot_STATE_PARTIAL {
		t.Errorf("the details are %+v", d)
	}
}

// line is one of a stream.
type line struct {
	Result map[string]any
	Error  json.RawMessage
}

// open starts a stream; it has its headers.
func (r *running) open(t *testing.T, req *http.Request) (answer, func() line) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	in := bufio.NewReader(resp.Body)
	return answerOf(resp), func() (l line) {
		t.Helper()
		text, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("read the stream: %v", err)
		}
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("decode %q: %v", text, err)
		}
		return l
	}
}

func TestWatchIsLinesOfJSON(t *testing.T) {
	r := run(t, server.Config{ShutdownTimeout: time.Hour}, &fakeCluster{name: "a"}, &fakeCluster{name: "b"})
	// The headers are there before the first event.
	resp, next := r.open(t, r.request(t, "GET", "/v1/clusters/b/events?requestId=id", ""))
	if resp.code != http.StatusOK || resp.header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%d %v", resp.code, resp.header)
	}
	for _, cluster := range []string{"a", "b"} {
		r.events.Observe(t.Context(), snapshot.Event{
			Type: snapshot.EventStarted, Cluster: cluster, Name: "x", RequestID: "id", Snapshot: &snapshot.Snapshot{Name: "x"},
		})
	}
	if l := next(); l.Result["type"] != "TYPE_STARTED" || l.Result["cluster"] != "b" || l.Error != nil {
		t.Errorf("the first line is %v", l)
	}
	r.stop()
	checkError(t, errorOf(t, string(next().Error)), codes.Unavailable, snapshot.ReasonShuttingDown)
	wait(t, r.done, "the end of Run")
}

func TestVerifyIsLinesOfJSON(t *testing.T) {
	rec := &snapshot.Record{Snapshot: snapshot.Snapshot{
		Name: "x", Verification: &snapshot.Verification{Level: snapshot.LevelChecksum, Passed: true},
	}}
	var progress bool
	var fail error
	r := run(t, server.Config{},
		&fakeCluster{name: "prod", verify: func(_ context.Context, req cluster.VerifyRequest) (*snapshot.Record, error) {
			if progress {
				req.Progress("s3", 5, 10)
			}
			return rec, fail
		}})
	verify := func() *http.Request { return r.request(t, "POST", "/v1/snapshots/x:verify", "") }

	progress = true
	resp, next := r.open(t, verify())
	first, last := next(), next()
	if resp.code != http.StatusOK || first.Result["doneBytes"] != "5" || last.Result["snapshot"] == nil {
		t.Errorf("%d, %v, %v", resp.code, first, last)
	}
	fail = snapshot.ReasonChecksumMismatch.New("damaged").On("s3")
	resp, next = r.open(t, verify())
	if first := next(); resp.code != http.StatusOK || first.Result["doneBytes"] != "5" {
		t.Errorf("%d, %v", resp.code, first)
	}
	if d := checkError(t, errorOf(t, string(next().Error)), codes.DataLoss,
		snapshot.ReasonChecksumMismatch); d.Snapshot.GetVerification() == nil {
		t.Errorf("the error does not carry the verdict: %+v", d)
	}
	progress = false // the error is all there is
	resp, next = r.open(t, verify())
	if checkError(t, errorOf(t, string(next().Error)), codes.DataLoss,
		snapshot.ReasonChecksumMismatch); resp.code != http.StatusInternalServerError {
		t.Errorf("the error is %d", resp.code)
	}
}

func TestWhoeverClosesTheConnectionEndsTheCall(t *testing.T) {
	c, entered, _ := saving()
	ended := make(chan struct{})
	save := c.save
	c.save = func(ctx context.Context, req cluster.SaveRequest) (cluster.SaveResult, error) {
		defer close(ended)
		return save(ctx, req)
	}
	r := run(t, server.Config{}, c)
	ctx, cancel := context.WithCancel(t.Context())
	req := r.request(t, "POST", "/v1/snapshots:save", "").WithContext(ctx)
	done := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		done <- err
	}()
	wait(t, entered, "the call of Save")
	cancel()
	wait(t, ended, "the end of the save")
	if err := wait(t, done, "the end of the request"); err == nil {
		t.Error("there is an answer")
	}
}

// startHTTPSave asks for a save over HTTP and returns where the answer's code and body come.
func startHTTPSave(t *testing.T, r *running) <-chan [2]string {
	t.Helper()
	req, done := r.request(t, "POST", "/v1/snapshots:save", ""), make(chan [2]string, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			done <- [2]string{err.Error()}
			return
		}
		defer func() { _ = resp.Body.Close() }()
		b, _ := io.ReadAll(resp.Body) // an incomplete body is checked, too
		done <- [2]string{resp.Status, string(b)}
	}()
	return done
}

func TestShutdownWaitsForASaveOverHTTP(t *testing.T) {
	c, entered, release := saving()
	r := run(t, server.Config{ShutdownTimeout: time.Hour}, c)
	_, next := r.open(t, r.request(t, "GET", "/v1/events", ""))
	result := startHTTPSave(t, r)
	wait(t, entered, "the call of Save")
	r.stop()
	checkError(t, errorOf(t, string(next().Error)), codes.Unavailable, snapshot.ReasonShuttingDown)
	select {
	case <-r.done:
		t.Fatal("Run ended while a save was running")
	default:
	}
	close(release)
	if got := wait(t, result, "the answer"); got[0] != "200 OK" || !strings.Contains(got[1], `"state":"STATE_READY"`) {
		t.Errorf("the save ended with %q", got)
	}
	wait(t, r.done, "the end of Run")
}

func TestShutdownCancelsASaveOverHTTPAtTheDeadline(t *testing.T) {
	c, entered, _ := saving()
	r := run(t, server.Config{ShutdownTimeout: time.Millisecond}, c)
	result := startHTTPSave(t, r)
	wait(t, entered, "the call of Save")
	r.stop()
	got := wait(t, result, "the answer")
	if d := checkError(t, errorOf(t, got[1]), codes.Unavailable, snapshot.ReasonShuttingDown); d.Snapshot == nil ||
		got[0] != "503 Service Unavailable" {
		t.Errorf("the save ended with %q", got)
	}
	wait(t, r.done, "the end of Run")
}

// TestTheLogSaysWhoAskedOverHTTP: and a client over gRPC cannot forge that.
func TestTheLogSaysWhoAskedOverHTTP(t *testing.T) {
	var what []any
	r := run(t, server.Config{}, asked("prod", &what))
	r.ask(t, "GET", "/v1/snapshots/a", "", "Grpc-Metadata-Snapshotd-Http-Peer", "spoofed")
	ctx := metadata.AppendToOutgoingContext(t.Context(), "snapshotd-http-peer", "spoofed")
	if _, err := r.client(t).Get(ctx, &snapshotdv1.GetRequest{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	for _, via := range []string{"via=http", "via=grpc"} {
		if lines := r.log.with(via); len(lines) != 1 || !strings.Contains(lines[0], "peer=127.0.0.1:") {
			t.Errorf("the log has %q", lines)
		}
	}
}
