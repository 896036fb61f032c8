package server_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/server/auth"
)

// socketPath returns a path that is short enough for a socket.
func socketPath(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("who calls over a socket is known on Linux alone")
	}
	dir, err := os.MkdirTemp("", "sd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "snapshotd.sock")
}

func myName(t *testing.T) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}

func TestACallerOverASocketIsTheUserThatTheKernelTellsOf(t *testing.T) {
	path := socketPath(t)
	defer syscall.Umask(syscall.Umask(0)) // whatever it is, the mode is right
	g := guardedWith(t, func(cfg *server.Config) { cfg.GRPCAddr = "unix://" + path })
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("the socket is %v, %v", info, err)
	}
	if g.GRPCAddr() != "unix://"+path {
		t.Errorf("the address is %s", g.GRPCAddr())
	}
	access := *g.access
	access.Rules = append(slices.Clone(access.Rules), auth.Rule{
		Role: auth.Operator, Clusters: []string{"prod"}, Users: []string{myName(t)},
	})
	if err := g.SetAccess(&access); err != nil {
		t.Fatal(err)
	}
	me, err := g.client(t).WhoAmI(t.Context(), &snapshotdv1.WhoAmIRequest{})
	if err != nil || me.GetKind() != "user" || me.GetName() != myName(t) || len(me.GetClusters()) != 1 {
		t.Errorf("I am %v, %v", me, err)
	}
	if _, err := g.client(t).Save(t.Context(), &snapshotdv1.SaveRequest{Cluster: "prod"}); err != nil {
		t.Error(err)
	}
	last := records(t, g.audit)[0]
	if last["kind"] != "user" || last["principal"] != myName(t) || last["peer"] != "unix:"+myName(t) {
		t.Errorf("the record is %v", last)
	}
	g.stop()
	<-g.done
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

// TestWhoMayDoWhatOverASocket is the table of those who call over a socket.
func TestWhoMayDoWhatOverASocket(t *testing.T) {
	g := guardedWith(t, func(cfg *server.Config) { cfg.GRPCAddr = "unix://" + socketPath(t) })
	attempts := rpcAttempts(t)
	cells := make([][]string, len(attempts))
	var people []person
	for _, role := range []string{"stranger", "viewer", "operator", "admin"} {
		p := person{name: "user " + role}
		people = append(people, p)
		access := *g.access
		if r, err := auth.ParseRole(role); err == nil {
			access.Rules = append(slices.Clone(access.Rules),
				auth.Rule{Role: r, Clusters: []string{"prod"}, Users: []string{myName(t)}})
		}
		if err := g.SetAccess(&access); err != nil {
			t.Fatal(err)
		}
		conn := g.dial(t)
		for i, a := range attempts {
			cells[i] = append(cells[i], g.outcome(t, a, p, conn, nil))
		}
	}
	checkGolden(t, "socket.golden", tableOf(people, attempts, cells))
}

// Who may not open the socket must not come in through the HTTP port, which everyone on the machine reaches.
func TestASocketWithoutRulesClosesTheAPIOverHTTP(t *testing.T) {
	var what []any
	r := run(t, server.Config{GRPCAddr: "unix://" + socketPath(t)}, asked("prod", &what))
	if _, err := r.client(t).List(t.Context(), &snapshotdv1.ListRequest{}); err != nil {
		t.Errorf("over the socket: %v", err)
	}
	for _, path := range []string{"/v1/snapshots", "/console/service"} {
		resp, text := do(t, http.DefaultClient, r.request(t, "GET", path, ""))
		if resp.code != http.StatusForbidden {
			t.Errorf("%s is %d %s", path, resp.code, text)
		}
	}
}

func TestASocketIsTakenOverFromADeadProcessAlone(t *testing.T) {
	path := socketPath(t)
	open := func() error {
		s, err := server.New(server.Config{
			Clusters: served(ready()), Events: new(server.Events), GRPCAddr: "unix://" + path, HTTPAddr: "127.0.0.1:0",
		})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Open(t.Context())
		if err == nil {
			err = s.Close(t.Context())
		}
		return err
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "another process listens") {
		t.Errorf("while another process listens: %v", err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = ln.Close() // as the death of the process does
	if err := open(); err != nil {
		t.Errorf("after it: %v", err)
	}
	write(t, path, []byte("precious"))
	if err := open(); err == nil {
		t.Error("a file was taken for a socket")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file is %q, %v", b, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(filepath.Dir(path), "elsewhere"), path); err != nil {
		t.Fatal(err)
	}
	if err := open(); err == nil {
		t.Error("a link was taken for a socket")
	}
}

// A token decides over a socket, too: one that is wrong is not made up for by the user.
func TestAWrongTokenIsRefusedOverASocket(t *testing.T) {
	g := guardedWith(t, func(cfg *server.Config) { cfg.GRPCAddr = "unix://" + socketPath(t) })
	access := *g.access
	access.Rules = append(slices.Clone(access.Rules), auth.Rule{Role: auth.Admin, Users: []string{myName(t)}})
	if err := g.SetAccess(&access); err != nil {
		t.Fatal(err)
	}
	conn := g.dial(t, grpc.WithPerRPCCredentials(openToken("sdt_x_y")))
	if _, err := snapshotdv1.NewSnapshotServiceClient(conn).WhoAmI(t.Context(), &snapshotdv1.WhoAmIRequest{}); err == nil {
		t.Error("a wrong token was taken")
	}
}

// openToken is a token that is sent without TLS.
type openToken string

func (o openToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(o)}, nil
}
func (openToken) RequireTransportSecurity() bool { return false }
