package cli_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// plugin writes a program that prints a text, and counts its runs. It returns its name and how often it ran.
func plugin(t *testing.T, text string) (name string, runs func() int) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	out, count := write("out", text, 0o600), filepath.Join(dir, "count")
	name = write("plugin", fmt.Sprintf("#!/bin/sh\necho \"$KUBERNETES_EXEC_INFO $*\" >>%s\ncat %s\n", count, out), 0o700)
	return name, func() int {
		b, _ := os.ReadFile(count) // none when it never ran
		return strings.Count(string(b), `"ExecCredential"`)
	}
}

func TestATokenComesFromAPluginAsKubectlHasThem(t *testing.T) {
	k := &knower{}
	env := serve(t, k)
	const good = `{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"eyJ.abc.def"}}`
	name, runs := plugin(t, good)
	r := run(t.Context(), env, "whoami", "--exec-plugin", name, "--exec-arg", "get-token", "--exec-arg", "--audience=snapshotd")
	if r.code != 0 || len(k.headers) != 1 || k.headers[0] != "Bearer eyJ.abc.def" || runs() != 1 {
		t.Errorf("%+v, the service got %q, and the plugin ran %d times", r, k.headers, runs())
	}
	b, err := os.ReadFile(filepath.Join(filepath.Dir(name), "count"))
	if err != nil || !strings.HasSuffix(string(b), "get-token --audience=snapshotd\n") {
		t.Errorf("the plugin got %q, %v", b, err)
	}
	for what, text := range map[string]string{
		"nothing": "", "no JSON": "secret-token", "another kind": `{"kind":"Secret","status":{"token":"secret-token"}}`,
		"no credential":     `{"kind":"ExecCredential","status":{}}`,
		"half a pair":       `{"kind":"ExecCredential","status":{"clientKeyData":"secret-token"}}`,
		"a token of lines":  `{"kind":"ExecCredential","status":{"token":"secret-token\r\nx: y"}}`,
		"far too much":      `{"kind":"ExecCredential","status":{"token":"` + strings.Repeat("secret-token", 100_000) + `"}}`,
		"a wrong time":      `{"kind":"ExecCredential","status":{"token":"secret-token","expirationTimestamp":"soon"}}`,
		"a certificate bad": `{"kind":"ExecCredential","status":`,
	} {
		name, _ := plugin(t, text)
		k.headers = nil
		r := run(t.Context(), env, "whoami", "--exec-plugin", name)
		if r.code == 0 || k.headers != nil || !strings.Contains(r.stderr, "--exec-plugin") ||
			strings.Contains(r.stdout+r.stderr, "secret-token") {
			t.Errorf("%s: %d %.300s, and the service got %.50q", what, r.code, r.stderr, k.headers)
		}
	}
	for _, args := range []string{"--plaintext --addr 192.0.2.1 --exec-plugin " + name, "--exec-arg x",
		"--exec-plugin " + name + " --token-file /dev/null"} {
		if r := run(t.Context(), env, append([]string{"whoami"}, strings.Fields(args)...)...); r.code != 2 {
			t.Errorf("%s: %+v", args, r)
		}
	}
	if r := run(t.Context(), env, "whoami", "--exec-plugin", "/does/not/exist"); r.code != 1 ||
		!strings.HasPrefix(r.stderr, "error: run /does/not/exist for a credential: ") {
		t.Errorf("a plugin that is not there: %+v", r)
	}
}

func TestAPluginIsAskedAgainWhenItsCredentialHasExpired(t *testing.T) {
	for expires, want := range map[time.Duration]int{time.Hour: 1, -time.Hour: 3} {
		env := serve(t, &fake{list: pages(t)})
		name, runs := plugin(t, fmt.Sprintf(`{"kind":"ExecCredential","status":{"token":"t","expirationTimestamp":%q}}`,
			time.Now().Add(expires).Format(time.RFC3339)))
		if r := run(t.Context(), env, "list", "--exec-plugin", name); r.code != 0 || runs() != want {
			t.Errorf("good for %v: %+v, and it ran %d times", expires, r, runs())
		}
	}
}

// pages returns three pages of a list.
func pages(t *testing.T) func(context.Context, *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error) {
	t.Helper()
	n := 0
	return func(context.Context, *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error) {
		n++
		resp := &snapshotdv1.ListResponse{Snapshots: []*snapshotdv1.Snapshot{{Name: fmt.Sprint("s", n)}}}
		if n < 3 {
			resp.NextPageToken = fmt.Sprint("p", n)
		}
		return resp, nil
	}
}

func TestACertificateComesFromAPlugin(t *testing.T) {
	serverCert, _, pair, _ := certificate(t, "server")
	clientCert, clientKey, _, clients := certificate(t, "client")
	subject := ""
	env := serve(t, &fake{list: func(ctx context.Context, _ *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error) {
		p, _ := peer.FromContext(ctx)
		subject = p.AuthInfo.(credentials.TLSInfo).State.PeerCertificates[0].Subject.CommonName
		return &snapshotdv1.ListResponse{}, nil
	}}, grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert,
		ClientCAs: clients,
	})))
	read := func(file string) string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	credential := map[string]any{"kind": "ExecCredential", "status": map[string]string{
		"clientCertificateData": read(clientCert), "clientKeyData": read(clientKey),
	}}
	text, err := json.Marshal(credential)
	if err != nil {
		t.Fatal(err)
	}
	name, runs := plugin(t, string(text))
	r := run(t.Context(), env, "list", "--cacert", serverCert, "--exec-plugin", name)
	if r.code != 0 || subject != "client" || runs() != 1 {
		t.Errorf("%+v, the service saw %q, and the plugin ran %d times", r, subject, runs())
	}
}

func TestCommandsReachASocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "sd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	k := &knower{}
	srv := grpc.NewServer()
	snapshotdv1.RegisterSnapshotServiceServer(srv, k)
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(srv.Stop)
	if r := run(t.Context(), nil, "whoami", "--addr", "unix://"+path); r.code != 0 || !strings.Contains(r.stdout, "ci") {
		t.Errorf("%+v", r)
	}
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("sdt_1_2"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t.Context(), nil, "whoami", "--addr", "unix://"+path, "--token-file", token)
	if r.code != 0 || len(k.headers) != 1 {
		t.Errorf("with a token: %+v, and the service got %q", r, k.headers)
	}
	r = run(t.Context(), nil, "whoami", "--addr", "unix://"+path+"x")
	if r.code != 1 || !strings.Contains(r.stderr, `there is no such socket; is "snapshotd serve" running there`) {
		t.Errorf("a socket that is not there: %+v", r)
	}
	for _, args := range [][]string{
		{"--addr", "unix://" + path, "--tls"}, {"--addr", "unix:" + path}, {"--addr", "unix://host/x"}, {"--addr", path},
		{"--addr", "unix://" + path + "?mode=0600"},
	} {
		if r := run(t.Context(), nil, append([]string{"whoami"}, args...)...); r.code != 2 {
			t.Errorf("%q: %+v", args, r)
		}
	}
}
