//go:build e2e

package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

// soakConfig is the configuration of the service in a soak: it encrypts in turns.
type soakConfig struct {
	doc         string
	path        string
	credentials string // a file
	good        string // its content
	recipient   string
	identity    string // files
	signing     string
	public      string
	encrypted   bool
}

func newSoakConfig(t *testing.T, k *soak, data string) soakConfig {
	dir := t.TempDir()
	c := soakConfig{
		path: filepath.Join(dir, "snapshotd.yaml"), credentials: filepath.Join(dir, "credentials"),
		identity: filepath.Join(dir, "identity"), signing: filepath.Join(dir, "signing.pem"),
		public: filepath.Join(dir, "signing.pub"),
	}
	c.doc = fmt.Sprintf(`
data_dir: %s
node_name: node-1
reconcile_interval: 1h
clusters:
  - name: default
    etcd: {endpoints: [%s]}
    lock_ttl: 2s
    retention: {keep_last: %d, on_demand: true}
    backends:
      - {name: local, url: %q}
      - {name: s3, url: %q}
`, data, strings.Join(k.etcd.Endpoints(), ", "), keepLast, "file://"+k.w.dir, k.w.s3URL(k.proxy.Addr()))
	keys, err := k.s3.Credentials().Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.good = fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n",
		keys.AccessKeyID, keys.SecretAccessKey)
	c.makeKeys(t)
	replaceFile(t, c.credentials, c.good)
	return c
}

func (c *soakConfig) makeKeys(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	c.recipient = id.Recipient().String()
	replaceFile(t, c.identity, id.String()+"\n")
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for path, key := range map[string]any{c.signing: private, c.public: public} {
		kind, marshal := "PRIVATE KEY", x509.MarshalPKCS8PrivateKey
		if path == c.public {
			kind, marshal = "PUBLIC KEY", x509.MarshalPKIXPublicKey
		}
		der, err := marshal(key)
		if err != nil {
			t.Fatal(err)
		}
		replaceFile(t, path, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
	}
}

// start starts the service; snapshots of the other turn must stay readable and trusted.
func (k *soak) start() *service {
	doc := k.config.doc
	if k.config.encrypted {
		doc = strings.Replace(doc, "    backends:\n",
			fmt.Sprintf("    encryption: {recipients: [%s], identity_files: [%s]}\n"+
				"    signing: {key_file: %s, accept_unsigned: true}\n    backends:\n", k.config.recipient, k.config.identity,
				k.config.signing), 1)
	}
	replaceFile(k.t, k.config.path, doc)
	env := []string{"AWS_SHARED_CREDENTIALS_FILE=" + k.config.credentials, "AWS_EC2_METADATA_DISABLED=true"}
	return start(k.t, options{env: env}, "--config", k.config.path)
}

// turn starts the service anew, with encryption and signatures when it had none, and without when it had.
func (k *soak) turn() {
	k.serve.kill()
	k.config.encrypted = !k.config.encrypted
	k.serve = k.start()
}

// wrongCredentials replaces the secret key in the file that the service has it from.
func (k *soak) wrongCredentials() func() {
	replaceFile(k.t, k.config.credentials, k.config.good[:len(k.config.good)-5]+"XXXX\n")
	return func() { replaceFile(k.t, k.config.credentials, k.config.good) }
}

// wrongCredentialsLater does so at a random moment.
func (k *soak) wrongCredentialsLater() func() {
	replaced := make(chan func())
	time.AfterFunc(time.Duration(k.chance.IntN(200))*time.Millisecond, func() { replaced <- k.wrongCredentials() })
	return func() { (<-replaced)() }
}
