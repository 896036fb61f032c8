package age_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	filippo "filippo.io/age"
	"golang.org/x/crypto/ssh"

	"github.com/snapshotd/snapshotd/internal/codec/age"
)

// pair is a recipient and the file with its identity.
type pair struct{ public, private string }

func write(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func native(t *testing.T) pair {
	t.Helper()
	id, err := filippo.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return pair{id.Recipient().String(), write(t, "# created: now\n# public key: "+id.Recipient().String()+"\n"+id.String()+"\n")}
}

func hybrid(t *testing.T) pair {
	t.Helper()
	id, err := filippo.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return pair{id.Recipient().String(), write(t, id.String())}
}

func sshPair(t *testing.T, public, private any, passphrase string) pair {
	t.Helper()
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "comment")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "comment", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	return pair{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), write(t, string(pem.EncodeToMemory(block)))}
}

func sshEd25519(t *testing.T, passphrase string) pair {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return sshPair(t, public, private, passphrase)
}

func sshRSA(t *testing.T, bits int) pair {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return sshPair(t, &key.PublicKey, key, "")
}

func open(encrypted []byte, files ...string) ([]byte, error) {
	ids, err := age.ReadIdentities(files...)
	if err != nil {
		return nil, err
	}
	r, err := ids.NewReader(bytes.NewReader(encrypted))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestEveryRecipientCanOpenAndNobodyElse(t *testing.T) {
	classic := []pair{native(t), sshEd25519(t, ""), sshRSA(t, 2048), native(t)}
	for name, pairs := range map[string][]pair{"classic": classic, "hybrid": {hybrid(t), hybrid(t)}} {
		t.Run(name, func(t *testing.T) {
			var keys, names []string
			for i, p := range pairs {
				names = append(names, p.public)
				given := p.public
				if strings.HasPrefix(given, "ssh-") {
					given += " somebody@somewhere"
				}
				if keys = append(keys, given); i == 0 {
					keys = append(keys, given) // twice is once
				}
			}
			r, err := age.NewRecipients(keys)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(r.Names(), "\n"); got != strings.Join(names, "\n") {
				t.Errorf("names\n%s\nwant\n%s", got, strings.Join(names, "\n"))
			}
			content := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
			var encrypted bytes.Buffer
			w, err := r.NewWriter(&encrypted)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(content); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			other := native(t).private
			if ids, err := age.ReadIdentities(other); err != nil || ids.Of(r.Names()) {
				t.Errorf("another's identity is of the recipients (%v)", err)
			}
			for _, p := range pairs {
				if ids, err := age.ReadIdentities(p.private); err != nil || !ids.Of(r.Names()) {
					t.Errorf("%.20s: the identity is not of the recipients (%v)", p.public, err)
				}
				if got, err := open(encrypted.Bytes(), other, p.private); err != nil || !bytes.Equal(got, content) {
					t.Errorf("%.20s: %d bytes, %v", p.public, len(got), err)
				}
			}
			if _, err := open(encrypted.Bytes(), other); !errors.Is(err, age.ErrNoIdentity) {
				t.Errorf("with another's identity: %v", err)
			}
			if _, err := open(encrypted.Bytes()); !errors.Is(err, age.ErrNoIdentity) {
				t.Errorf("without an identity: %v", err)
			}
		})
	}
}

// A key that data cannot be encrypted for is an error that says why, and shows no secret.
func TestRecipientsThatAreNone(t *testing.T) {
	id, err := filippo.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	good := native(t).public
	private, err := os.ReadFile(sshEd25519(t, "").private)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		keys []string
		want string
	}{
		"none":             {nil, "no recipients"},
		"empty":            {[]string{""}, "recipient 1 is empty"},
		"private":          {[]string{good, id.String()}, "recipient 2 is a private key"},
		"private, lower":   {[]string{strings.ToLower(id.String())}, "is a private key"},
		"private, SSH":     {[]string{string(private)}, "is a private key"},
		"passphrase":       {[]string{"correct horse battery staple"}, "passphrases are not supported"},
		"damaged":          {[]string{good[:len(good)-1] + "b"}, "is damaged"},
		"damaged hybrid":   {[]string{"age1pq1qqqq"}, "is damaged"},
		"damaged SSH":      {[]string{"ssh-ed25519 AAAA"}, "is damaged"},
		"plugin":           {[]string{"age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t"}, "plugin"},
		"two in one":       {[]string{good + "\n" + good}, "more than one line"},
		"another SSH type": {[]string{sshPair(t, &curve.PublicKey, curve, "").public}, "is no public key"},
		"short RSA":        {[]string{sshRSA(t, 1024).public}, "cannot be encrypted for"},
		"hybrid and not":   {[]string{good, hybrid(t).public}, "together"},
	} {
		_, err := age.NewRecipients(tt.keys)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		for _, k := range tt.keys {
			if err != nil && k != "" && strings.Contains(err.Error(), k) {
				t.Errorf("%s: the error shows what was given: %v", name, err)
			}
		}
	}
}

func TestRecipientsFile(t *testing.T) {
	one, two := native(t).public, sshEd25519(t, "").public
	keys, err := age.ReadRecipients(write(t, "# ops\n\n"+one+"\r\n  "+two+" ops@example.org\n"))
	if err != nil || len(keys) != 2 {
		t.Fatalf("%q, %v", keys, err)
	}
	secret, err := os.ReadFile(native(t).private)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ content, want string }{
		"empty":         {"", "no recipients"},
		"only comments": {"# none\n", "no recipients"},
		"identities":    {string(secret), ":3: the recipient is a private key"},
		"rubbish":       {one + "\nrubbish\n", ":2: the recipient is no public key"},
		"too large":     {strings.Repeat("# x\n", 300_000), "larger"},
	} {
		if _, err := age.ReadRecipients(write(t, tt.content)); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "AGE-SECRET-KEY-1") {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if _, err := age.ReadRecipients(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestIdentitiesThatCannotBeUsed(t *testing.T) {
	for name, tt := range map[string]struct{ file, want string }{
		"empty":      {write(t, "\n"), "empty"},
		"public":     {write(t, native(t).public), "public key"},
		"passphrase": {sshEd25519(t, "secret").private, "passphrase"},
		"encrypted":  {write(t, "age-encryption.org/v1\n-> scrypt x 18\n"), "encrypted"},
		"rubbish":    {write(t, "hunter2hunter2"), "no age identities"},
	} {
		if _, err := age.ReadIdentities(tt.file); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// FuzzRecipient: no text is a crash, and what is taken is taken again by the name that it is given.
func FuzzRecipient(f *testing.F) {
	for _, s := range []string{"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", "ssh-ed25519 AAAA x", "AGE-SECRET-KEY-1X", "ssh-rsa \n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := age.NewRecipients([]string{s})
		if err != nil {
			return
		}
		again, err := age.NewRecipients(r.Names())
		if err != nil || again.Names()[0] != r.Names()[0] {
			t.Fatalf("%q: %q, %v", s, again.Names(), err)
		}
	})
}
