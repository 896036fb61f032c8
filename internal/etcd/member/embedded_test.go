package member_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/snapshotd/snapshotd/internal/etcd/member"
)

func start(t *testing.T, dir string) (*member.Server, *clientv3.Client) {
	t.Helper()
	s, err := member.Start(t.Context(), member.Config{Dir: dir, NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	client, err := clientv3.New(clientv3.Config{Endpoints: s.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return s, client
}

func stop(t *testing.T, s *member.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

func TestDataOutlivesTheServer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "etcd")
	first, client := start(t, dir)
	if _, err := client.Put(t.Context(), "a", "1"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is %v, %v, want 0700", info.Mode(), err)
	}
	stop(t, first)

	second, client := start(t, dir)
	resp, err := client.Get(t.Context(), "a")
	if err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != "1" {
		t.Fatalf("after a restart there is %v, %v", resp, err)
	}
	// A client that asks the member for its address gets the new one.
	if err := client.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := client.Endpoints()[0], second.Endpoints()[0]; got != want {
		t.Errorf("the member says that it is at %s, want %s", got, want)
	}
}

func TestTwoServersInOneProcess(t *testing.T) {
	for range 2 {
		_, client := start(t, t.TempDir())
		if _, err := client.Put(t.Context(), "a", "1"); err != nil {
			t.Error(err)
		}
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := member.Start(ctx, member.Config{Dir: t.TempDir()}); err == nil {
		stop(t, s)
		t.Error("a server started although its context was done")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", file} {
		if s, err := member.Start(t.Context(), member.Config{Dir: dir}); err == nil {
			stop(t, s)
			t.Errorf("a server started in %q", dir)
		}
	}
}
