//go:build e2e

package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// call asks for a path of the API over HTTP, decodes the answer and returns its code.
func (s *service) call(method, path, body string, answer any) int {
	s.t.Helper()
	r, code := s.open(method, path, body)
	b, err := io.ReadAll(r)
	if err != nil {
		s.t.Fatal(err)
	}
	decode(s.t, string(b), answer)
	return code
}

// stream asks for a path that answers with lines.
func (s *service) stream(method, path, body string) *json.Decoder {
	s.t.Helper()
	r, code := s.open(method, path, body)
	if code != http.StatusOK {
		s.t.Fatalf("%s %s: %d", method, path, code)
	}
	return json.NewDecoder(r)
}

// open asks for a path; the answer is under way.
func (s *service) open(method, path, body string) (answer io.Reader, code int) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.http+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { resp.Body.Close() })
	return resp.Body, resp.StatusCode
}

// rpcStatus is a google.rpc.Status.
type rpcStatus struct {
	Code    int
	Message string
	Details []struct{ Reason, Domain string }
}

// streamed is a line of a stream.
type streamed struct {
	Result struct {
		Type, Name, RequestID string
		Snapshot              *snap
	}
	Error *rpcStatus
}

// TestTheAPIOverHTTP: plain HTTP does everything that gRPC does, with real servers, streams and errors included.
func TestTheAPIOverHTTP(t *testing.T) {
	w := newWorld(t, 1<<20)
	s := start(t, w.options(), w.args(t, "")...)

	events := s.stream("GET", "/v1/events?requestId=http", "")
	var saved struct{ Snapshot snap }
	if code := s.call("POST", "/v1/snapshots:save", `{"namePrefix":"http","labels":{"by":"http"},"requestId":"http"}`,
		&saved); code != 200 || saved.Snapshot.State != "STATE_READY" {
		t.Fatalf("save: %d %+v", code, saved)
	}
	name := saved.Snapshot.Name
	var types []string
	for len(types) == 0 || types[len(types)-1] != "TYPE_FINISHED" {
		var l streamed
		if err := events.Decode(&l); err != nil || l.Error != nil {
			t.Fatalf("watch: %v %+v, after %q", err, l.Error, types)
		}
		if l.Result.Type == "TYPE_PROGRESS" || l.Result.Type == "TYPE_POSITION" {
			continue
		}
		if types = append(types, l.Result.Type); l.Result.Name != name {
			t.Errorf("an event is %+v", l.Result)
		}
	}
	if got := strings.Join(types, " "); got != "TYPE_STARTED TYPE_LOCATION_DONE TYPE_LOCATION_DONE TYPE_FINISHED" {
		t.Errorf("the events are %s", got)
	}

	var list struct{ Snapshots []snap }
	if code := s.call("GET", "/v1/clusters/default/snapshots?labels[by]=http", "", &list); code != 200 ||
		len(list.Snapshots) != 1 || list.Snapshots[0].Name != name {
		t.Errorf("list: %d %+v", code, list)
	}
	var got struct{ Snapshot snap }
	if code := s.call("GET", "/v1/snapshots/"+name, "", &got); code != 200 ||
		got.Snapshot.Sha256 != saved.Snapshot.Sha256 || len(got.Snapshot.Locations) != 2 {
		t.Errorf("get: %d %+v", code, got)
	}
	var missing rpcStatus
	if code := s.call("GET", "/v1/snapshots/nothing", "", &missing); code != 404 || len(missing.Details) != 1 ||
		missing.Details[0].Reason != "SNAPSHOT_NOT_FOUND" {
		t.Errorf("get of what is not there: %d %+v", code, missing)
	}

	verify := s.stream("POST", "/v1/snapshots/"+name+":verify", `{"level":"LEVEL_DRILL"}`)
	var verdict *snap
	for {
		var l streamed
		if err := verify.Decode(&l); err == io.EOF {
			break
		} else if err != nil || l.Error != nil {
			t.Fatalf("verify: %v %+v", err, l.Error)
		}
		verdict = l.Result.Snapshot
	}
	if verdict == nil || verdict.Verification.State != "STATE_PASSED" || verdict.Verification.Level != "LEVEL_DRILL" {
		t.Errorf("the verdict is %+v", verdict)
	}

	var left struct{ Snapshot *snap }
	if code := s.call("DELETE", "/v1/snapshots/"+name+"?backends=s3", "", &left); code != 200 || left.Snapshot == nil ||
		len(left.Snapshot.Locations) != 1 {
		t.Errorf("delete from one backend: %d %+v", code, left.Snapshot)
	}
}
