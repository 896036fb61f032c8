//go:build e2e

package e2e

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// secrets are those that any part of this suite gives to the program. Everything that it prints is searched for them:
// the log of each service, and the output of each command.
var secrets struct {
	sync.Mutex
	all []string
}

// plant notes a secret, and returns it.
func plant(secret string) string {
	secrets.Lock()
	defer secrets.Unlock()
	if !slices.Contains(secrets.all, secret) {
		secrets.all = append(secrets.all, secret)
	}
	return secret
}

var (
	// Those flags and keys of the configuration name files with secrets in them.
	secretFlags = []string{
		"--config", "--etcd-password-file", "--etcd-key", "--tls-key", "--key", "--token-file", "--identity", "--signing-key-file",
	}
	secretKeys = regexp.MustCompile(`(?:key|key_file|password_file|identity_files|client_secret_file|session_key_file):\s*\[?\s*"?(/[^\s",\]}]+)`)
	secretVars = regexp.MustCompile(`SECRET|PASSWORD|TOKEN`)
)

// plantAll plants the secrets that a program gets: those in its variables, and in the files that its arguments or its
// configuration name.
func plantAll(env, args []string) {
	for _, v := range env {
		if name, value, _ := strings.Cut(v, "="); secretVars.MatchString(name) && !strings.HasSuffix(name, "_FILE") {
			plantLines(value)
		}
	}
	for i, a := range args {
		flag, file, joined := strings.Cut(a, "=")
		if !joined && i+1 < len(args) {
			file = args[i+1]
		}
		if slices.Contains(secretFlags, flag) {
			plantFile(file, flag == "--config")
		}
	}
}

func plantFile(file string, isConfig bool) {
	content, err := os.ReadFile(file)
	if err != nil {
		return // the program says so, too
	}
	if !isConfig {
		plantLines(string(content))
		return
	}
	for _, m := range secretKeys.FindAllStringSubmatch(string(content), -1) {
		plantFile(m[1], false)
	}
}

// plantLines plants the lines of a secret. Short ones are words that may be anywhere.
func plantLines(text string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); len(line) >= 12 && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "-----") {
			plant(line)
		}
	}
}

// leaks returns the secrets that are in a text, in any usual form.
func leaks(text string) (found []string) {
	secrets.Lock()
	defer secrets.Unlock()
	for _, s := range secrets.all {
		forms := []string{
			s, url.QueryEscape(s), hex.EncodeToString([]byte(s)), base64.StdEncoding.EncodeToString([]byte(s)),
			base64.RawURLEncoding.EncodeToString([]byte(s)), strings.ToLower(s),
		}
		if slices.ContainsFunc(forms, func(form string) bool { return strings.Contains(text, form) }) {
			found = append(found, s)
		}
	}
	return found
}

// printsNoSecret checks what the program has printed.
func printsNoSecret(t *testing.T, what, text string) {
	t.Helper()
	for _, s := range leaks(text) {
		t.Errorf("%s prints the secret %s", what, s)
	}
}

func TestASecretThatIsPrintedIsFound(t *testing.T) {
	for _, v := range testenv.S3Env() {
		if secret, ok := strings.CutPrefix(v, "AWS_SECRET_ACCESS_KEY="); ok {
			for _, text := range []string{"key=" + secret + "\n", "?k=" + url.QueryEscape(secret), strings.ToLower(secret)} {
				if len(leaks(text)) != 1 {
					t.Errorf("it is not found in %q", text)
				}
			}
		}
	}
	dir := t.TempDir()
	byConfig, byFlag, byVar := "BYCONFIG"+rand.Text(), "BYFLAG"+rand.Text(), "BYVARIABLE"+rand.Text()
	replaceFile(t, filepath.Join(dir, "identity"), "# public key: age1abcdefghijkl\n"+byConfig+"\n")
	replaceFile(t, filepath.Join(dir, "token"), byFlag+"\n")
	replaceFile(t, filepath.Join(dir, "snapshotd.yaml"), fmt.Sprintf("encryption: {identity_files: [%q]}\n", filepath.Join(dir, "identity")))
	plantAll([]string{"AWS_SESSION_TOKEN=" + byVar, "SNAPSHOTD_TOKEN_FILE=" + dir},
		[]string{"list", "--config", filepath.Join(dir, "snapshotd.yaml"), "--token-file=" + filepath.Join(dir, "token")})
	for _, secret := range []string{byConfig, byFlag, byVar} {
		if len(leaks(secret)) != 1 {
			t.Errorf("%s is not among the planted ones", secret)
		}
	}
	if found := leaks("level=INFO file=" + dir + " age1abcdefghijkl msg=\"snapshot saved\""); len(found) > 0 {
		t.Errorf("nothing is taken for %q", found)
	}
}

// TestTheSecretsOfAClusterAreInItsSnapshotsAlone: values of etcd, and all keys that the service has, while calls go
// well and while they fail. They are in no log at its lowest level, no output, page, metric, span, audit record or
// name.
func TestTheSecretsOfAClusterAreInItsSnapshotsAlone(t *testing.T) {
	k := newKeeper(t)
	s := start(t, k.options(), "--config", k.file("snapshotd.yaml"), "--log-level", "debug")
	try := func(code int, args ...string) {
		t.Helper()
		if r := s.run(args...); r.code != code {
			t.Errorf("snapshotd %v: exit code %d, want %d\n%s%s", args, r.code, code, r.stdout, r.stderr)
		}
	}
	as := []string{"--token-file", k.file("token")}
	admin := func(code int, args ...string) {
		t.Helper()
		try(code, slices.Concat(args, as)...)
	}
	s.hasBase()
	name := s.save(as...)
	k.put(20) // into the journal
	for _, level := range []string{"checksum", "structure", "drill"} {
		admin(0, "verify", name, "--level", level)
	}
	admin(0, "get", name, "-o", "json")
	admin(0, "list", "-o", "wide")
	admin(0, "update", name, "--label", "a=b")
	admin(0, "download", name, "--decoded", "--output", k.file("decoded"))
	try(1, "delete", name) // as a viewer
	try(1, "whoami", "--token-file", k.secret("wrong token", "sdt_"+rand.Text()+"\n"))
	eventually(t, "the journal is on the backend", func() bool {
		found, err := filepath.Glob(k.file("backend/default/journal/*/*/*.seg*"))
		return err == nil && len(found) > 0
	})
	restore := []string{"restore", name, "--from", "file://" + k.file("backend"), "--data-dir", k.file("restored")}
	wrong, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for code, identity := range map[int]string{0: k.file("identity"), 1: k.secret("wrong identity", wrong.String()+"\n")} {
		if r := command(t.Context(), t, s.path, append(restore, "--identity", identity)...); r.code != code {
			t.Errorf("restore: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
		}
		if err := os.RemoveAll(k.file("restored")); err != nil {
			t.Fatal(err)
		}
	}
	k.damage(name)
	admin(4, "verify", name, "--level", "structure", "--backend", "local")
	admin(0, "reconcile", "--repair")
	for _, path := range []string{"/metrics", "/v1/snapshots", "/v1/clusters", "/console/service", "/"} {
		printsNoSecret(t, path, s.get(path))
	}
	k.otlp.WaitRecord(t, "audit")
	printsNoSecret(t, "a span, or a record of the log", fmt.Sprintf("%+v %+v", k.otlp.Spans(), k.otlp.Records()))
	k.checkFiles()
}

// keeper is an etcd with planted values, and the configuration of a service with planted keys.
type keeper struct {
	*world
	t      *testing.T
	root   string
	client *clientv3.Client
	values []string
	otlp   *testenv.OTLP
}

func (k *keeper) file(name string) string { return filepath.Join(k.root, name) }

func (k *keeper) options() options { return k.traced(k.otlp) }

// secret writes a file of a secret.
func (k *keeper) secret(name, content string) (file string) {
	k.t.Helper()
	plantLines(content)
	replaceFile(k.t, k.file(name), content)
	return k.file(name)
}

// put writes planted values to etcd.
func (k *keeper) put(n int) {
	k.t.Helper()
	for range n {
		value := plant("PLANTED" + rand.Text())
		k.values = append(k.values, value)
		if _, err := k.client.Put(k.t.Context(), fmt.Sprintf("/registry/secrets/default/%d", len(k.values)), "k8s\x00\n"+value); err != nil {
			k.t.Fatal(err)
		}
	}
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	k := &keeper{world: newWorld(t, 0), t: t, root: t.TempDir(), otlp: testenv.StartOTLP(t)}
	k.client = k.etcd.Client(t)
	password := rand.Text()
	ctx := t.Context()
	_, err := k.client.UserAdd(ctx, "root", password)
	if err == nil {
		_, err = k.client.UserGrantRole(ctx, "root", "root")
	}
	if err == nil {
		_, err = k.client.AuthEnable(ctx)
	}
	if err == nil {
		k.client, err = clientv3.New(clientv3.Config{
			Endpoints: k.etcd.Endpoints(), Username: "root", Password: password, Logger: zap.NewNop(),
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.client.Close() })
	k.put(20)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"backend", "records"} {
		if err := os.Mkdir(k.file(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	made := command(ctx, t, program(t, ""), "token", "create", "ci", "--tokens-file", k.file("tokens.json"), "--expires-in", "1d")
	k.secret("token", made.stdout)
	replaceFile(t, k.file("snapshotd.yaml"), fmt.Sprintf(`
data_dir: %[1]s/data
node_name: node-1
audit_file: %[1]s/audit.jsonl
audit_url: file://%[1]s/records
access: {tokens_file: %[1]s/tokens.json, rules: [{role: admin, tokens: [ci]}, {role: viewer, local: true}]}
clusters:
  - name: default
    etcd: {endpoints: [%[2]q], user: root, password_file: %[3]s}
    encryption: {recipients: [%[4]s], identity_files: [%[5]s]}
    signing: {key_file: %[6]s}
    journal: {enabled: true, upload_interval: 1s}
    backends: [{name: local, url: "file://%[1]s/backend"}, {name: s3, url: %[7]q}]
`, k.root, k.etcd.Endpoints()[0], k.secret("password", password+"\n"), identity.Recipient(), k.secret("identity", identity.String()+"\n"),
		k.secret("signing.pem", string(signingFiles(t, public, private)["signing.pem"])), k.s3URL("")))
	return k
}

// damage changes a byte in the middle of a snapshot's data.
func (k *keeper) damage(name string) {
	k.t.Helper()
	file := k.file("backend/default/" + name + ".db.zst.age")
	content, err := os.ReadFile(file)
	if err != nil {
		k.t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(file, content, 0o600); err != nil {
		k.t.Fatal(err)
	}
}

// checkFiles looks for secrets in all that the service has written but the snapshots' data, and in its names; and for
// the values in the decoded snapshot, where they have to be.
func (k *keeper) checkFiles() {
	k.t.Helper()
	decoded, err := os.ReadFile(k.file("decoded"))
	if err != nil || !bytes.Contains(decoded, []byte(k.values[0])) {
		k.t.Errorf("the values are not in the snapshot: %v", err)
	}
	looked := 0
	for _, dir := range []string{"audit.jsonl", "records", "backend"} {
		err := filepath.WalkDir(k.file(dir), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			looked++
			printsNoSecret(k.t, path, path+string(content)) // the data is encrypted
			return err
		})
		if err != nil {
			k.t.Error(err)
		}
	}
	if looked < 8 {
		k.t.Errorf("there are %d files", looked)
	}
}
