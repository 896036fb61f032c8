package testenv

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv/testca"
)

// APIServer is a real API server of Kubernetes in a process of its own, on an etcd of its own. Nothing else of a
// cluster is there: it has no nodes, and no controllers that make pods of anything.
type APIServer struct {
	URL    string
	Token  string // of an administrator
	CAFile string

	tb     testing.TB
	client *http.Client
	kinds  map[string]map[string]kind // by group and version, and by name; as far as they were asked for
}

// kind is how the objects of a kind are addressed.
type kind struct {
	Name       string // in paths: statefulsets
	Kind       string
	Namespaced bool
}

// StartAPIServer starts an API server, and ends it with the test.
func StartAPIServer(tb testing.TB) *APIServer {
	tb.Helper()
	program := Tool(tb, "apiserver", "k8s.io/kubernetes/cmd/kube-apiserver")
	dir := tb.TempDir()
	ca := testca.New(tb, "kubernetes")
	cert, key := ca.Sign(tb, x509.Certificate{Subject: pkix.Name{CommonName: "kube-apiserver"}}).Write(tb, dir, "server")
	addr := freeAddr(tb)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		tb.Fatal(err)
	}
	s := &APIServer{
		URL: "https://" + addr, Token: "administrator", CAFile: filepath.Join(dir, "ca.crt"), tb: tb,
		kinds: map[string]map[string]kind{},
	}
	trust := &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS13}
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: trust}}
	tokens := filepath.Join(dir, "tokens.csv")
	for file, content := range map[string][]byte{
		s.CAFile: ca.CertPEM(), tokens: []byte(s.Token + `,administrator,1,"system:masters"` + "\n"),
	} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	runServer(tb, "the API server", exec.Command(program,
		"--etcd-servers", StartCluster(tb, 1).Endpoints()[0],
		"--bind-address", "127.0.0.1", "--advertise-address", "192.0.2.1", "--endpoint-reconciler-type", "none",
		"--secure-port", port, "--tls-cert-file", cert, "--tls-private-key-file", key,
		"--cert-dir", dir, "--token-auth-file", tokens, "--authorization-mode", "RBAC",
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", key,
		"--service-account-signing-key-file", key, "--service-cluster-ip-range", "10.96.0.0/16", "-v", "0"))
	eventually(tb, "the API server is ready", func(ctx context.Context) error {
		_, err := s.ask(ctx, http.MethodGet, "/readyz", "", nil)
		return err
	})
	return s
}

// Applied is an object as the server has it after a change, and its warnings.
type Applied struct {
	Object   map[string]any
	Warnings []string
}

// Apply applies an object (JSON) on the server's side, strictly: unknown fields are an error. One with a generateName
// is created.
func (s *APIServer) Apply(object map[string]any) (Applied, error) {
	s.tb.Helper()
	body, err := json.Marshal(object)
	if err != nil {
		s.tb.Fatal(err)
	}
	meta, _ := object["metadata"].(map[string]any)
	ctx := s.tb.Context()
	path, err := s.path(ctx, object)
	if err != nil {
		return Applied{}, err
	}
	const strictly = "fieldValidation=Strict&fieldManager=test"
	if _, ok := meta["generateName"]; ok {
		return s.ask(ctx, http.MethodPost, path+"?"+strictly, "application/json", body)
	}
	path += "/" + url.PathEscape(fmt.Sprint(meta["name"])) + "?force=true&" + strictly
	return s.ask(ctx, http.MethodPatch, path, "application/apply-patch+yaml", body)
}

// Await waits until the server knows the kind of an object, as it does some moments after its definition was applied.
func (s *APIServer) Await(object map[string]any) {
	s.tb.Helper()
	eventually(s.tb, fmt.Sprintf("the API server knows %v", object["kind"]), func(ctx context.Context) error {
		clear(s.kinds)
		path, err := s.path(ctx, object)
		if err == nil {
			_, err = s.ask(ctx, http.MethodGet, path, "", nil)
		}
		return err
	})
}

// path returns the path of all objects of the kind of an object, in its namespace.
func (s *APIServer) path(ctx context.Context, object map[string]any) (string, error) {
	version := fmt.Sprint(object["apiVersion"])
	root := "/apis/" + version
	if version == "v1" {
		root = "/api/v1"
	}
	if s.kinds[version] == nil {
		found, err := s.ask(ctx, http.MethodGet, root, "", nil)
		if err != nil {
			return "", err
		}
		b, err := json.Marshal(found.Object["resources"])
		var all []kind
		if err == nil {
			err = json.Unmarshal(b, &all)
		}
		if err != nil {
			return "", err
		}
		known := map[string]kind{}
		for _, k := range all {
			if _, ok := known[k.Kind]; !ok { // those that follow are parts of it: statefulsets/status
				known[k.Kind] = k
			}
		}
		s.kinds[version] = known
	}
	k, ok := s.kinds[version][fmt.Sprint(object["kind"])]
	if !ok {
		return "", fmt.Errorf("the API server has no %v in %s", object["kind"], version)
	}
	if !k.Namespaced {
		return root + "/" + k.Name, nil
	}
	meta, _ := object["metadata"].(map[string]any)
	return fmt.Sprintf("%s/namespaces/%v/%s", root, meta["namespace"], k.Name), nil
}

func (s *APIServer) ask(ctx context.Context, method, path, content string, body []byte) (Applied, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.URL+path, bytes.NewReader(body))
	if err != nil {
		return Applied{}, err
	}
	req.Header.Set("Authorization", "Bearer "+s.Token)
	if content != "" {
		req.Header.Set("Content-Type", content)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return Applied{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return Applied{}, err
	}
	a := Applied{Warnings: resp.Header.Values("Warning")}
	if resp.StatusCode >= http.StatusBadRequest {
		return a, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, b)
	}
	if json.Unmarshal(b, &a.Object) != nil { // such as the "ok" of readyz
		a.Object = nil
	}
	return a, nil
}
