package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/snapshot"
)

// records returns the records in an audit file.
func records(t *testing.T, file string) []map[string]any {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]any
	for line := range strings.Lines(string(data)) {
		r := map[string]any{}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, r)
	}
	return all
}

func TestEachChangingCallAndDownloadIsARecord(t *testing.T) {
	g := guardedService(t)
	admin, viewer := g.withCertificate(t, "admin", 11), g.withToken(t, "viewer")
	client := g.as(t, admin)
	if _, err := client.Save(t.Context(), &snapshotdv1.SaveRequest{Labels: map[string]string{"k": "v"}}); err != nil {
		t.Fatal(err)
	}
	_, err := client.Update(t.Context(), &snapshotdv1.UpdateRequest{
		Snapshot: &snapshotdv1.Snapshot{Name: "a"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"pinned"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := client.Download(t.Context(), &snapshotdv1.DownloadRequest{Cluster: "prod", Name: "a"})
	if err == nil {
		_, err = stream.Recv()
	}
	if err == nil || errors.Is(err, io.EOF) {
		t.Fatal("the download did not fail")
	}
	if code, body := g.browse(t, viewer)("DELETE", "/v1/clusters/prod/snapshots/a", ""); code != http.StatusForbidden {
		t.Fatalf("%d %s", code, body)
	}
	g.browse(t, viewer)("DELETE", "/v1/clusters/"+hiddenName+"/snapshots/a", "")
	g.browse(t, viewer)("GET", "/v1/snapshots", "")              // changes nothing
	g.browse(t, person{})("DELETE", "/v1/snapshots/unknown", "") // nobody
	for i, want := range []map[string]any{
		{"operation": "Save", "kind": "certificate", "principal": "CN=admin", "role": "admin", "cluster": "prod",
			"snapshot": "a", "code": "OK", "reason": nil, "via": "grpc"},
		{"operation": "Unpin", "snapshot": "a", "code": "OK"},
		{"operation": "Download", "snapshot": "a", "code": "NOT_FOUND", "reason": "SNAPSHOT_NOT_FOUND"},
		{"operation": "Delete", "kind": "token", "principal": "viewer", "role": "viewer", "cluster": "prod", "snapshot": "a",
			"code": "PERMISSION_DENIED", "reason": "ROLE_MISSING", "via": "http"},
		{"operation": "Delete", "cluster": hiddenName, "role": "none", "code": "NOT_FOUND", "reason": "CLUSTER_NOT_FOUND"},
	} {
		all := records(t, g.audit)
		if len(all) != 5 {
			t.Fatalf("there are %d records: %v", len(all), all)
		}
		for key, value := range want {
			if all[i][key] != value {
				t.Errorf("record %d has %s %v, want %v", i, key, all[i][key], value)
			}
		}
		peer, _ := all[i]["peer"].(string)
		if all[i]["time"] == nil || !strings.HasPrefix(peer, "127.0.0.1:") || all[i]["token_id"] == "" {
			t.Errorf("record %d is %v", i, all[i])
		}
	}
	arguments, _ := records(t, g.audit)[0]["arguments"].(map[string]any)
	if labels, _ := arguments["labels"].(map[string]any); labels["k"] != "v" {
		t.Errorf("the arguments of the save are %v", arguments)
	}
	if n := len(g.log.with("msg=audit")); n != 5 {
		t.Errorf("the log has %d records", n)
	}
	if data, err := os.ReadFile(g.audit); err != nil || strings.Contains(string(data), viewer.token) ||
		strings.Contains(g.log.String(), viewer.token) {
		t.Errorf("a token is in the audit or the log: %v", err)
	}
}

func TestTheAuditFileIsOfTheServiceAlone(t *testing.T) {
	g := guardedService(t)
	client := g.as(t, g.withToken(t, "admin"))
	remove := func() {
		t.Helper()
		if _, err := client.Delete(t.Context(), &snapshotdv1.DeleteRequest{Cluster: "prod", Name: "a"}); err != nil {
			t.Error(err)
		}
	}
	remove()
	if info, err := os.Stat(g.audit); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.Rename(g.audit, g.audit+".1"); err != nil {
		t.Fatal(err)
	}
	remove()
	if n, old := len(records(t, g.audit)), len(records(t, g.audit+".1")); n != 1 || old != 1 || g.lost.Load() != 0 {
		t.Errorf("after the file was renamed, it has %d records and the earlier one %d", n, old)
	}
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	write(t, elsewhere, []byte("precious"))
	if err := os.Remove(g.audit); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, g.audit); err != nil {
		t.Fatal(err)
	}
	remove() // which must be done even so
	if data, err := os.ReadFile(elsewhere); err != nil || string(data) != "precious" || g.lost.Load() != 1 {
		t.Errorf("through a link: %q, %v, and %d records are counted as lost", data, err, g.lost.Load())
	}
	s, err := server.New(server.Config{
		Clusters: served(ready()), Events: new(server.Events), AuditFile: g.audit,
		GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context()); err == nil {
		t.Error("Open took a link as the audit file")
	}
}

// TestACallThatCannotBeRecordedIsRefusedWhereThatIsRequired: before anything is done, over both protocols. Calls that
// change nothing go on, and others do as soon as the file can be written.
func TestACallThatCannotBeRecordedIsRefusedWhereThatIsRequired(t *testing.T) {
	g := guardedWith(t, func(cfg *server.Config) { cfg.AuditRequired = true })
	admin := g.withToken(t, "admin")
	client := g.as(t, admin)
	remove := func() error {
		_, err := client.Delete(t.Context(), &snapshotdv1.DeleteRequest{Cluster: "prod", Name: "a"})
		return err
	}
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	all := records(t, g.audit)
	if len(all) != 2 || all[0]["code"] != "BEGUN" || all[0]["operation"] != "Delete" || all[1]["code"] != "OK" {
		t.Fatalf("the records are %v", all)
	}
	if err := os.Remove(g.audit); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(g.audit, 0o700); err != nil {
		t.Fatal(err)
	}
	before := g.asked.Load()
	checkError(t, remove(), codes.Unavailable, snapshot.ReasonAuditUnavailable)
	browse := g.browse(t, admin)
	if code, body := browse("DELETE", "/v1/clusters/prod/snapshots/a", ""); code != http.StatusServiceUnavailable {
		t.Errorf("over HTTP it is %d %s", code, body)
	}
	stream, err := client.Download(t.Context(), &snapshotdv1.DownloadRequest{Cluster: "prod", Name: "a"})
	if err == nil {
		_, err = stream.Recv()
	}
	checkError(t, err, codes.Unavailable, snapshot.ReasonAuditUnavailable)
	if g.asked.Load() != before {
		t.Error("the domain was asked")
	}
	if _, err := client.List(t.Context(), &snapshotdv1.ListRequest{Cluster: "prod"}); err != nil {
		t.Errorf("a call that changes nothing: %v", err)
	}
	if err := os.Remove(g.audit); err != nil {
		t.Fatal(err)
	}
	if err := remove(); err != nil {
		t.Errorf("when the file can be written: %v", err)
	}
}

// objects is a place for audit records in memory.
type objects struct {
	mu    sync.Mutex
	lines []string
	down  error
}

func (o *objects) Create(_ context.Context, _ string, data []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.down != nil {
		return o.down
	}
	o.lines = append(o.lines, strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")...)
	return nil
}

func (o *objects) set(down error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.down = down
}

// with waits for so many records that have a text in them.
func (o *objects) with(t *testing.T, text string, n int) {
	t.Helper()
	found := 0
	for end := time.Now().Add(waitTimeout); ; time.Sleep(time.Millisecond) {
		o.mu.Lock()
		found = 0
		for _, line := range o.lines {
			if strings.Contains(line, text) {
				found++
			}
		}
		o.mu.Unlock()
		if found >= n || time.Now().After(end) {
			break
		}
	}
	if found != n {
		t.Errorf("%d records have %s, want %d: %q", found, text, n, o.lines)
	}
}

// TestAuditRecordsBecomeObjects: the same as in the file, also those of calls that are denied.
func TestAuditRecordsBecomeObjects(t *testing.T) {
	store := &objects{}
	g := guardedWith(t, func(cfg *server.Config) { cfg.AuditStore, cfg.Node = store, "node-1" })
	admin, viewer := g.as(t, g.withToken(t, "admin")), g.as(t, g.withToken(t, "viewer"))
	if _, err := admin.Delete(t.Context(), &snapshotdv1.DeleteRequest{Cluster: "prod", Name: "a"}); err != nil {
		t.Fatal(err)
	}
	if _, err := viewer.Delete(t.Context(), &snapshotdv1.DeleteRequest{Cluster: "prod", Name: "a"}); err == nil {
		t.Fatal("a viewer deletes")
	}
	store.with(t, `"principal":"admin"`, 1)
	store.with(t, `"code":"PERMISSION_DENIED"`, 1)
	g.stop()
	wait(t, g.done, "the end of the server")
	file, err := os.ReadFile(g.audit)
	if err != nil || strings.TrimSuffix(string(file), "\n") != strings.Join(store.lines, "\n") {
		t.Errorf("the objects have %q, and the file has %s, %v", store.lines, file, err)
	}
}

// TestACallIsRefusedWhileItsRecordCannotBeStored, where that is required; and one that is not is counted and done.
func TestACallIsRefusedWhileItsRecordCannotBeStored(t *testing.T) {
	t.Parallel()
	for _, required := range []bool{true, false} {
		store := &objects{}
		g := guardedWith(t, func(cfg *server.Config) {
			cfg.AuditFile, cfg.AuditStore, cfg.AuditRequired = "", store, required
		})
		client := g.as(t, g.withToken(t, "admin"))
		remove := func() error {
			_, err := client.Delete(t.Context(), &snapshotdv1.DeleteRequest{Cluster: "prod", Name: "a"})
			return err
		}
		if err := remove(); err != nil {
			t.Fatal(err)
		}
		store.with(t, `"code":"OK"`, 1)
		store.set(errors.New("the bucket is down"))
		before := g.asked.Load()
		err := remove()
		if required {
			checkError(t, err, codes.Unavailable, snapshot.ReasonAuditUnavailable)
		} else if err != nil {
			t.Errorf("a call whose record waits: %v", err)
		}
		if done := g.asked.Load() != before; done == required {
			t.Errorf("required %v: the domain was asked %v", required, done)
		}
		for end := time.Now().Add(waitTimeout); g.lost.Load() == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("it is not counted")
			}
		}
		store.set(nil)
		store.with(t, `"operation":"Delete"`, map[bool]int{true: 4, false: 2}[required])
		if err := remove(); err != nil {
			t.Errorf("when the store is back: %v", err)
		}
	}
}

// meanwhile is a store in which a record takes until something has happened.
type meanwhile struct {
	*objects
	happens func()
}

func (m *meanwhile) Create(ctx context.Context, key string, data []byte) error {
	m.happens()
	return m.objects.Create(ctx, key, data)
}

// TestAClusterThatComesWhileACallIsRecordedIsNotItsCluster: nobody has decided whether its caller may.
func TestAClusterThatComesWhileACallIsRecordedIsNotItsCluster(t *testing.T) {
	store := &meanwhile{objects: &objects{}}
	g := guardedWith(t, func(cfg *server.Config) { cfg.AuditStore, cfg.AuditRequired = store, true })
	store.happens = sync.OnceFunc(func() {
		if err := g.SetClusters(served(g.allOf("prod"), g.allOf(hiddenName), g.allOf("new"))); err != nil {
			t.Error(err)
		}
	})
	client, before := g.as(t, g.withToken(t, "everywhere")), g.asked.Load()
	remove := func() error {
		_, err := client.Delete(t.Context(), &snapshotdv1.DeleteRequest{Cluster: "new", Name: "a"})
		return err
	}
	checkError(t, remove(), codes.NotFound, snapshot.ReasonClusterNotFound)
	if g.asked.Load() != before {
		t.Error("the domain was asked")
	}
	checkError(t, remove(), codes.PermissionDenied, snapshot.ReasonRoleMissing)
}
