package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"google.golang.org/grpc/codes"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/cluster/downloading"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/server/console"
	"github.com/snapshotd/snapshotd/snapshot"
)

const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

func TestBrowsersGetTheConsoleAndOthersText(t *testing.T) {
	r := run(t, server.Config{}, &fakeCluster{name: "prod"})
	for accept, html := range map[string]bool{
		browser:                        true,
		"text/html":                    true,
		"application/json, text/html ": true,
		"":                             false,
		"*/*":                          false,
		"text/plain":                   false,
		"text/html;q=0, */*":           false,
		"text/html;q=0.000":            false,
	} {
		resp, body := r.ask(t, "GET", "/", "", "Accept", accept)
		kind := resp.header.Get("Content-Type")
		if resp.code != 200 || strings.HasPrefix(kind, "text/html") != html ||
			strings.HasPrefix(body, "<!doctype html>") != html {
			t.Errorf("%q gets %d %s", accept, resp.code, kind)
		}
		if resp.header.Get("Vary") != "Accept" {
			t.Errorf("%q: a cache is not told of it: %v", accept, resp.header)
		}
	}
}

var (
	reference = regexp.MustCompile(`(?:src|href)="(/console/[^"]*)"`)
	imported  = regexp.MustCompile(`(?m)^import [^'"]*'\./([^']*)';$`)
)

// parts returns the parts of the page by path: all files that it refers to, and all that these import.
func (r *running) parts(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for todo := []string{"/"}; len(todo) > 0; todo = todo[1:] {
		path := todo[0]
		if _, had := all[path]; had {
			continue
		}
		resp, body := r.ask(t, "GET", path, "", "Accept", browser)
		if resp.code != http.StatusOK || body == "" {
			t.Errorf("%s is %d, %d bytes", path, resp.code, len(body))
		}
		all[path] = body
		for _, found := range reference.FindAllStringSubmatch(body, -1) {
			todo = append(todo, found[1])
		}
		for _, found := range imported.FindAllStringSubmatch(body, -1) {
			todo = append(todo, console.Root+found[1])
		}
	}
	return all
}

// TestThePageIsAllOfItsParts: every file that it refers to and imports is there, and no other.
func TestThePageIsAllOfItsParts(t *testing.T) {
	r := run(t, server.Config{}, &fakeCluster{name: "prod"})
	files, err := os.ReadDir("console/page")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/"}
	for _, f := range files {
		if f.Name() != "index.html" {
			want = append(want, console.Root+f.Name())
		}
	}
	if got := slices.Sorted(maps.Keys(r.parts(t))); !slices.Equal(got, want) {
		t.Errorf("the page is made of %q, and there are %q", got, want)
	}
}

// TestThePartsOfTheConsole: each is served with its type, under a policy that lets nothing else in.
func TestThePartsOfTheConsole(t *testing.T) {
	r := run(t, server.Config{}, &fakeCluster{name: "prod"})
	kinds := map[string]string{
		"": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
	}
	tags := map[string]string{}
	for path := range r.parts(t) {
		resp, _ := r.ask(t, "GET", path, "", "Accept", browser)
		for name, want := range map[string]string{
			"Content-Type": kinds[filepath.Ext(path)],
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri " +
				"'none'; " +
				"form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache",
		} {
			if got := resp.header.Get(name); got != want {
				t.Errorf("%s has %s %q, want %q", path, name, got, want)
			}
		}
		tag := resp.header.Get("ETag")
		if other, had := tags[tag]; had {
			t.Errorf("%s and %s have the same ETag %q", path, other, tag)
		}
		tags[tag] = path
		again, _ := r.ask(t, "GET", path, "", "Accept", browser, "If-None-Match", tag)
		if again.code != http.StatusNotModified {
			t.Errorf("%s has changed: %d", path, again.code)
		}
	}
	for _, path := range []string{"/console/", "/console/index.html", "/console/nothing", "/console/a/main.js",
		"/console/..%2fpage.go"} {
		if resp, _ := r.ask(t, "GET", path, "", "Accept", browser); resp.code != http.StatusNotFound {
			t.Errorf("%s is %d", path, resp.code)
		}
	}
}

// TestThePageHasNothingInline: the policy would not let it run, and nothing of it may depend on that. Properties of a
// style that a script sets one by one are not inline: the policy lets them be.
func TestThePageHasNothingInline(t *testing.T) {
	r := run(t, server.Config{}, &fakeCluster{name: "prod"})
	parts := r.parts(t)
	page := parts["/"]
	if found := regexp.MustCompile(`(?i)<style|\s(on[a-z]+|style)=|<script>|javascript:|https?://`).FindAllString(page,
		-1); found != nil {
		t.Errorf("the page has %q", found)
	}
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|` +
		`\.style\s*=|cssText|['"]style['"]`)
	for path, part := range parts {
		if found := forbidden.FindAllString(part, -1); found != nil {
			t.Errorf("%s has %q", path, found)
		}
	}
	for _, want := range []string{"<noscript>", "/metrics", "/v1/snapshots"} {
		if !strings.Contains(page, want) {
			t.Errorf("without JavaScript the page does not say %q", want)
		}
	}
}

// listing is a cluster whose catalog has these records.
func listing(name string, records ...*snapshot.Record) *fakeCluster {
	return &fakeCluster{name: name, backends: []string{"local"},
		list: func(context.Context, snapshot.Query) (snapshot.Page, error) {
			return snapshot.Page{Records: records}, nil
		}}
}

// TestThePageKnowsTheService: its version and its address for commands, which the API does not have.
func TestThePageKnowsTheService(t *testing.T) {
	const traces = "https://jaeger.example/trace/{trace_id}"
	r := run(t, server.Config{Version: "1.2.3", TraceURL: traces}, listing("prod"))
	resp, body := r.ask(t, "GET", "/console/service", "")
	var s console.Service
	if err := json.Unmarshal([]byte(body), &s); err != nil || resp.code != 200 ||
		resp.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v: %v in %s", resp.code, resp.header, err, body)
	}
	if want := (console.Service{Version: "1.2.3", GRPC: r.GRPCAddr(), TraceURL: traces}); s != want {
		t.Errorf("it is %+v, want %+v", s, want)
	}
}

// TestWhatThePageAsksIsGuardedAsTheAPIIs: the page itself says nothing of the service, and comes to everybody.
func TestWhatThePageAsksIsGuardedAsTheAPIIs(t *testing.T) {
	r := run(t, server.Config{}, listing("prod"))
	for _, path := range []string{"/console/service", "/v1/clusters", "/v1/snapshots",
		"/console/download?cluster=prod&name=a"} {
		resp, body := r.ask(t, "GET", path, "", "Host", "evil.example")
		if resp.code != 403 {
			t.Errorf("%s with a foreign Host: %d", path, resp.code)
		}
		checkError(t, errorOf(t, body), codes.PermissionDenied, "FOREIGN_HOST")
	}
	if resp, body := r.ask(t, "GET", "/", "", "Host", "evil.example", "Accept", browser); resp.code != 200 ||
		strings.Contains(body, "prod") {
		t.Errorf("the page: %d", resp.code)
	}
}

// TestAPageMustSayThatItIsTheConsole: no form and no script of another page can send the header.
func TestAPageMustSayThatItIsTheConsole(t *testing.T) {
	saved := 0
	c := listing("prod")
	c.save = func(context.Context, cluster.SaveRequest) (cluster.SaveResult, error) {
		saved++
		return cluster.SaveResult{Snapshot: inState(snapshot.StateReady, snapshot.Snapshot{Name: "a"})}, nil
	}
	r := run(t, server.Config{}, c)
	for i, headers := range [][]string{{"Sec-Fetch-Site", "same-origin"}, {"Origin", "http://" + r.HTTPAddr()}} {
		resp, body := r.ask(t, "POST", "/v1/snapshots:save", "", headers...)
		if resp.code != http.StatusForbidden || saved != i {
			t.Errorf("%q: %d, saved %d times", headers, resp.code, saved)
		}
		checkError(t, errorOf(t, body), codes.PermissionDenied, "CROSS_ORIGIN")
		resp, body = r.ask(t, "POST", "/v1/snapshots:save", "", append(headers, console.Header, "1")...)
		if resp.code != 200 {
			t.Errorf("the console: %d %s", resp.code, body)
		}
	}
	if resp, _ := r.ask(t, "POST", "/v1/snapshots:save", ""); resp.code != 200 {
		t.Errorf("curl: %d", resp.code)
	}
}

// TestABrowserDownloadsAFile: the bytes as they are, and nothing that could be taken for the whole when it is not.
func TestABrowserDownloadsAFile(t *testing.T) {
	content := strings.Repeat("page after page ", 100000)
	fails := false
	c := listing("prod")
	c.download = func(_ context.Context, req cluster.DownloadRequest) (*downloading.Download, error) {
		if req.Name != "a" {
			return nil, snapshot.ReasonSnapshotNotFound.New("there is no snapshot %q", req.Name)
		}
		var from io.Reader = strings.NewReader(content)
		if fails {
			from = io.MultiReader(strings.NewReader(content[:700000]), iotest.ErrReader(errors.New("the backend has gone")))
		}
		return downloading.New(io.NopCloser(from), downloading.Download{
			Name: "a", Backend: "local", Size: int64(len(content)), FileName: "a.db",
		}), nil
	}
	r := run(t, server.Config{}, c)
	resp, body := r.ask(t, "GET", "/console/download?cluster=prod&name=a&decoded=true", "")
	if resp.code != 200 || body != content || resp.header.Get("Content-Disposition") != "attachment; filename=a.db" {
		t.Errorf("%d %v, %d bytes", resp.code, resp.header, len(body))
	}
	resp, body = r.ask(t, "GET", "/console/download?cluster=prod&name=b", "")
	if resp.code < 400 || !strings.Contains(body, "SNAPSHOT_NOT_FOUND") {
		t.Errorf("one that does not exist: %d %s", resp.code, body)
	}
	fails = true
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
		"http://"+r.HTTPAddr()+"/console/download?cluster=prod&name=a", nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := http.DefaultClient.Do(req)
	if err == nil {
		_, err = io.ReadAll(got.Body)
		_ = got.Body.Close()
	}
	if err == nil {
		t.Error("a download that broke off looks whole")
	}
}
