package cli_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	filippo "filippo.io/age"
)

// planted are secrets in every place that has one.
type planted struct {
	dir    string
	values []string
}

// plant puts a secret into a file, and returns the file's name.
func (p *planted) plant(t *testing.T, name, format string) (file string) {
	t.Helper()
	secret := "PLANTED" + strings.ToUpper(strings.ReplaceAll(name, ".", "")) + "SECRET"
	p.values = append(p.values, secret)
	file = filepath.Join(p.dir, name)
	if err := os.WriteFile(file, []byte(fmt.Sprintf(format, secret)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// add notes a secret that is not in a file of its own.
func (p *planted) add(secret string) string {
	p.values = append(p.values, secret)
	return secret
}

// check checks that a text has none of the secrets in it, in no usual form.
func (p *planted) check(t *testing.T, what, text string) {
	t.Helper()
	for _, s := range p.values {
		for _, form := range []string{
			s, url.QueryEscape(s), hex.EncodeToString([]byte(s)), base64.StdEncoding.EncodeToString([]byte(s)),
			base64.RawURLEncoding.EncodeToString([]byte(s)), strings.ToLower(s),
		} {
			if strings.Contains(text, form) {
				t.Errorf("%s prints the secret %s: %s", what, s, text)
			}
		}
	}
}

// TestNoCommandPrintsASecret plants secrets in all places that have one, and runs the commands: those that go well, and
// those that fail because of the very file or value.
func TestNoCommandPrintsASecret(t *testing.T) {
	t.Parallel()
	p := &planted{dir: t.TempDir()}
	identity, err := filippo.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	p.add(identity.String())
	identities := filepath.Join(p.dir, "identity")
	if err := os.WriteFile(identities, []byte(identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	backend := filepath.Join(p.dir, "backend")
	if err := os.Mkdir(backend, 0o700); err != nil {
		t.Fatal(err)
	}
	config := func(name string, lines ...string) string {
		file := filepath.Join(p.dir, name)
		text := "data_dir: " + filepath.Join(p.dir, "data") + "\nlisten_grpc: 127.0.0.1:0\nlisten_http: 127.0.0.1:0\n" +
			strings.Join(lines, "\n") + "\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	etcd := func(more string) string {
		return `clusters: [{name: a, etcd: {endpoints: ["http://127.0.0.1:1"]` + more + `}, backends: [{name: local, url: "file://` +
			backend + `"}]}]`
	}
	s3 := "s3://bucket?region=x&endpoint=http://127.0.0.1:1&use_path_style=true&secret_access_key=" + p.add("PLANTEDINURL")
	bad := p.plant(t, "bad.pem", "-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----\n")
	configs := []string{
		config("password.yaml", etcd(`, user: root, password: `+p.add("PLANTEDPASSWORD"))),
		config("passwordfile.yaml", etcd(`, user: root, password_file: `+p.plant(t, "password", "%s\n"))),
		config("userinfo.yaml", strings.Replace(etcd(""), "http://", "http://root:"+p.add("PLANTEDUSERINFO")+"@", 1)),
		config("url.yaml", strings.Replace(etcd(""), "file://"+backend, s3, 1)),
		config("tls.yaml", "tls: {cert: "+bad+", key: "+bad+"}", etcd("")),
		config("tokens.yaml", "access: {tokens_file: "+p.plant(t, "tokens.json", `{"tokens":[{"id":"%s"`)+
			", rules: [{role: admin, tokens: [a]}]}", etcd("")),
		config("wrongkey.yaml", etcd(`, password: [`+p.add("PLANTEDINALIST")+`]`)),
		config("noyaml.yaml", "clusters: [{etcd: {password: "+p.add("PLANTEDBROKEN")+"\n\t- x: ["),
		config("recipient.yaml", strings.Replace(etcd(""), "backends:", "encryption: {recipients: ["+identity.String()+"]}, backends:", 1)),
		config("identity.yaml", strings.Replace(etcd(""), "backends:", "encryption: {identity_files: ["+
			p.plant(t, "badidentity", "AGE-SECRET-KEY-1%s\n")+"]}, backends:", 1)),
		config("signing.yaml", strings.Replace(etcd(""), "backends:", "signing: {key_file: "+bad+"}, backends:", 1)),
		config("oidc.yaml", "access: {oidc: [{name: corp, url: 'https://u:"+p.add("PLANTEDISSUER")+
			"@issuer', audience: x}], rules: [{role: admin, identities: ['corp:*']}]}", etcd("")),
	}
	token := p.plant(t, "token", "%s\n")
	env := serve(t, &knower{}) // it implements nothing else, and each other call fails
	env["SNAPSHOTD_TOKEN_FILE"] = token
	credential, _ := plugin(t, `{"kind":"ExecCredential","status":{"token":"`+p.add("PLANTEDPLUGIN")+`"}}`)
	var commands [][]string
	for _, c := range configs {
		for _, more := range [][]string{{"config", "check"}, {"config", "check", "--connect"}, {"serve", "--log-level", "debug"}} {
			commands = append(commands, append(more, "--config", c))
		}
	}
	for _, line := range []string{
		"list", "get latest", "save", "reconcile", "delete x", "prune", "verify x", "download x", "watch", "status", "whoami",
		"list --addr 127.0.0.1:1", "list --addr 192.0.2.1 --plaintext", "list --cert " + bad + " --key " + bad,
		"list --exec-plugin " + credential, "token list --tokens-file " + filepath.Join(p.dir, "tokens.json"),
		"list --from " + s3, "restore latest --data-dir " + filepath.Join(p.dir, "new") + " --from " + s3,
		"restore latest --data-dir " + filepath.Join(p.dir, "new") + " --from file://" + backend + " --identity " + bad,
		"verify latest --from file://" + backend + " --identity " + filepath.Join(p.dir, "badidentity"),
		"serve --etcd-user root:" + p.add("PLANTEDFLAG") + " --etcd-endpoints x:y:z",
		"config check --etcd-user root:" + p.add("PLANTEDFLAGTOO") + " --etcd-endpoints http://127.0.0.1:1 --backend local=file://" + backend,
	} {
		commands = append(commands, strings.Fields(line))
	}
	for _, args := range commands {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // some would go on
		r := run(ctx, env, args...)
		cancel()
		var shown []string // without the secrets of the command line itself
		for _, a := range args {
			shown = append(shown, filepath.Base(a))
		}
		p.check(t, strings.Join(shown, " "), r.stdout+r.stderr)
	}
}
