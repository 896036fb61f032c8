//go:build e2e

package e2e

import (
	"crypto/rand"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestLoggingInToTheConsoleInABrowser: a link, the issuer, the console as the person's role has it, and nothing after
// the logout.
func TestLoggingInToTheConsoleInABrowser(t *testing.T) {
	chromium(t)
	w := newWorld(t, 0)
	issuer := testenv.NewIssuer(t)
	dir := t.TempDir()
	plant(testenv.IssuerSecret)
	secret, key := filepath.Join(dir, "secret"), filepath.Join(dir, "key")
	for file, text := range map[string]string{secret: testenv.IssuerSecret, key: plant(rand.Text() + rand.Text())} {
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") // for a port that nobody has
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(dir, "tokens.json")
	config := writeConfig(t, `
listen_http: %q
access:
  tokens_file: %q
  session_key_file: %q
  oidc:
    - name: corp
      url: %q
      audience: snapshotd
      login: {client_id: %q, client_secret_file: %q, redirect_url: "http://%s/console/callback"}
  rules:
    - {role: admin, tokens: [ci]}
    - {role: viewer, identities: ["corp:alice"]}
clusters:
  - name: default
    etcd: {endpoints: [%q]}
    backends: [{name: local, url: "file://%s"}]
`, addr, token, key, issuer.URL, testenv.IssuerClient, secret, addr, w.etcd.Endpoints()[0], w.dir)
	made := command(t.Context(), t, program(t, ""), "token", "create", "ci", "--tokens-file", token, "--expires-in", "1d")
	if made.code != 0 {
		t.Fatalf("token create: %s", made.stderr)
	}
	file := filepath.Join(dir, "token")
	if err := os.WriteFile(file, []byte(plant(strings.TrimSpace(made.stdout))), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, w.options(), "--config", config, "--listen-http", addr)
	s.must("save", "--token-file", file)

	issuer.LogIn("alice", nil)
	b := browse(t, "http://"+addr+"/", "")
	b.reads("the page of a stranger", "main", "Log in", "This page is for those whom the service knows.")
	if text := b.text("body"); strings.Contains(text, "default") || strings.Contains(text, "snapshotd") {
		t.Errorf("a stranger reads %s", text)
	}
	other := browse(t, "about:blank", "")
	other.goes("http://"+addr+"/", "a.login")
	for _, on := range screens {
		other.accessible("the page of a stranger", on)
	}
	b.click("a.login", "Log in")
	b.reads("who looks", "#caller", "corp:alice: viewer")
	b.reads("whether it is current", "#link", "Live, as of ")
	b.click("#clusters a", "All about default")
	b.reads("the snapshots", "#rows", "on-demand-node-1-")
	if text := b.text(".actions button"); text != "" {
		t.Errorf("a viewer has the buttons %s", text)
	}
	if len(b.problems) > 0 {
		t.Errorf("the browser complains: %q", b.problems)
	}
	var cookies string
	if b.eval("document.cookie", &cookies); cookies != "" {
		t.Errorf("a script reads the cookies %q", cookies)
	}
	b.problems = nil // the browser complains of that look
	b.click("#logout", "Log out")
	b.reads("the page after the logout", "main", "Log in")
	if text := b.text("body"); strings.Contains(text, "default") || strings.Contains(text, "alice") {
		t.Errorf("after the logout there is %s", text)
	}
	b.eval("history.back()", nil)
	b.reads("the page before", "main", "Log in")
	if text := b.text("body"); strings.Contains(text, "on-demand-node-1-") {
		t.Errorf("the page before shows %s", text)
	}

	// A session that ends while the page is open: the page hides the facts, and has a link.
	b.click("a.login", "Log in")
	b.reads("who looks", "#caller", "corp:alice: viewer")
	replaceFile(t, key, rand.Text()+rand.Text())
	b.reads("that the session is over", "#notice", "The API is refused to this browser", "Log in")
	if text := b.text("#main"); text != "" {
		t.Errorf("the facts are still there: %s", text)
	}
	b.click("#notice a", "Log in")
	b.reads("who looks", "#caller", "corp:alice: viewer")
	if len(b.problems) > 0 {
		t.Errorf("the browser complains: %q", b.problems)
	}
	if strings.Contains(s.log.String(), "code=") {
		t.Error("the log has the code of a login")
	}
}
