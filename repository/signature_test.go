package repository_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/signing"
	"github.com/snapshotd/snapshotd/snapshot"
)

// signingKey returns a new key: private and public, in PEM.
func signingKey(t testing.TB) (private, public []byte) {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	return pemOf(t, "PRIVATE KEY", priv), pemOf(t, "PUBLIC KEY", pub)
}

func pemOf(t testing.TB, kind string, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if kind == "PUBLIC KEY" {
		der, err = x509.MarshalPKIXPublicKey(key)
	}
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// newSigner returns a signer, and a trust in its key alone.
func newSigner(t testing.TB) (*signing.Signer, *signing.Trust) {
	t.Helper()
	private, public := signingKey(t)
	signer, err := signing.NewSigner(private)
	must(t, err)
	trust := signing.NewTrust(false)
	must(t, trust.Add(public))
	return signer, trust
}

// keyIDOf returns the id of a signer's key, as it stands in signatures.
func keyIDOf(s *signing.Signer) string {
	trust := signing.NewTrust(false)
	trust.AddSigner(s)
	return trust.KeyIDs()[0]
}

// verify reads a document as the manifest of a whole record.
func verify(t testing.TB, trust *signing.Trust, doc []byte) (*repository.Manifest, error) {
	t.Helper()
	p := newPlace(func(c *repository.Config) { c.Trust = trust })
	p.backend.Set("default/"+name+".json", doc)
	return p.ReadManifest(t.Context(), name)
}

func TestSignedManifestIsTrustedByThoseWhoKnowTheKey(t *testing.T) {
	signer, trust := newSigner(t)
	next, nextTrust := newSigner(t)
	doc := encoded(t, wholeRecord(), signer)
	m, err := verify(t, trust, doc)
	if err != nil || !reflect.DeepEqual(m.Record, wholeRecord()) || !bytes.Equal(m.Doc, doc) {
		t.Errorf("its own key: %+v, %v", m, err)
	}
	_, err = verify(t, nextTrust, doc)
	wantReason(t, "another key", err, snapshot.ReasonManifestUntrusted)
	wantText(t, "another key", err, keyIDOf(signer))
	nextTrust.AddSigner(signer)
	for _, d := range [][]byte{doc, encoded(t, wholeRecord(), next)} {
		if _, err := verify(t, nextTrust, d); err != nil {
			t.Errorf("both keys: %v", err)
		}
	}
	if _, err := verify(t, nil, encoded(t, wholeRecord(), nil)); err != nil {
		t.Errorf("no keys: %v", err)
	}
}

func TestUnsignedManifest(t *testing.T) {
	signer, trust := newSigner(t)
	lenient := signing.NewTrust(true)
	lenient.AddSigner(signer)
	doc := encoded(t, wholeRecord(), nil)
	_, err := verify(t, trust, doc)
	wantReason(t, "unsigned", err, snapshot.ReasonManifestUntrusted)
	wantText(t, "unsigned", err, "not signed")
	if _, err := verify(t, lenient, doc); err != nil {
		t.Errorf("it is not trusted though it should: %v", err)
	}
	other, _ := newSigner(t)
	_, err = verify(t, lenient, encoded(t, wholeRecord(), other))
	wantReason(t, "of an unknown key, where unsigned ones are accepted", err, snapshot.ReasonManifestUntrusted)
}

// Any bit of a signed manifest that is flipped, and any end that is cut off, makes it untrusted, also where unsigned
// ones are accepted.
func TestSignatureShowsEveryDamage(t *testing.T) {
	signer, trust := newSigner(t)
	lenient := signing.NewTrust(true)
	lenient.AddSigner(signer)
	doc, unsigned := encoded(t, wholeRecord(), signer), encoded(t, wholeRecord(), nil)
	seed := mathrand.Uint64()
	t.Logf("seed %d, %d bytes", seed, len(doc))
	rnd := mathrand.New(mathrand.NewPCG(seed, 0))
	untrusted := func(trust *signing.Trust, what string, bad []byte) {
		t.Helper()
		_, err := verify(t, trust, bad)
		wantReason(t, what, err, snapshot.ReasonManifestUntrusted)
	}
	for range flips() {
		at, bit := rnd.IntN(len(doc)), rnd.IntN(8)
		bad := bytes.Clone(doc)
		bad[at] ^= 1 << bit
		untrusted(trust, "a bit flipped", bad)
		untrusted(lenient, "a bit flipped, where unsigned ones are accepted", bad)
	}
	for range flips() / 10 {
		bad := doc[:rnd.IntN(len(doc))]
		untrusted(trust, "cut off", bad)
		if _, err := verify(t, lenient, bad); err == nil {
			t.Errorf("cut off after %d bytes: trusted", len(bad))
		}
	}
	_, signature, _ := bytes.Cut(doc, []byte(`  "signature"`))
	otherNode := bytes.Replace(unsigned[:len(unsigned)-len("\n}\n")], []byte("node-1"), []byte("node-2"), 1)
	for what, bad := range map[string][]byte{
		"more at the end":     append(bytes.Clone(doc), '\n'),
		"another's signature": append(otherNode, ",\n  \"signature\""+string(signature)...),
		"a member in between": bytes.Replace(doc, []byte(`  "signature"`), []byte(`  "name": "x",`+"\n"+`  "signature"`), 1),
	} {
		untrusted(trust, what, bad)
	}
}

func TestKeysThatAreNone(t *testing.T) {
	private, public := signingKey(t)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	damaged := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("hunter2")})
	for want, text := range map[string][]byte{
		"no key in PEM": []byte("hunter2"), "PUBLIC KEY": public,
		"not of Ed25519": pemOf(t, "PRIVATE KEY", curve), "damaged": damaged,
	} {
		_, err := signing.NewSigner(text)
		wantText(t, "signer", err, want)
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows the key: %v", err)
		}
	}
	for want, text := range map[string][]byte{
		"no key in PEM": nil, "not a PUBLIC KEY": append(bytes.Clone(public), private...),
		"not of Ed25519": pemOf(t, "PUBLIC KEY", &curve.PublicKey),
	} {
		wantText(t, "trust", signing.NewTrust(false).Add(text), want)
	}
	two := append(bytes.Clone(public), pemOf(t, "PUBLIC KEY", ed25519.PublicKey(make([]byte, 32)))...)
	trust := signing.NewTrust(false)
	if err := trust.Add(two); err != nil || len(trust.KeyIDs()) != 2 {
		t.Errorf("a file with two keys: %q, %v", trust.KeyIDs(), err)
	}
}

// The keys that openssl makes are taken, the id is that of the documentation, and openssl verifies a signed manifest.
func TestOpensslMakesKeysAndVerifies(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("there is no openssl here")
	}
	dir := t.TempDir()
	shell := func(script string) string {
		t.Helper()
		cmd := exec.Command("sh", "-euc", script)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	shell("openssl genpkey -algorithm ed25519 -out signing.pem && openssl pkey -in signing.pem -pubout -out signing.pub")
	private, err := os.ReadFile(filepath.Join(dir, "signing.pem"))
	must(t, err)
	signer, err := signing.NewSigner(private)
	must(t, err)
	id := shell("openssl pkey -pubin -in signing.pub -outform DER | sha256sum | cut -c 1-16")
	if id != keyIDOf(signer) {
		t.Errorf("the key's id is %s, and by the documentation %s", keyIDOf(signer), id)
	}
	must(t, os.WriteFile(filepath.Join(dir, "x.json"), encoded(t, wholeRecord(), signer), 0o600))
	const verify = `head -n -2 x.json > signed
sed -n 's/^  "signature": "ed25519:[0-9a-f]*:\(.*\)"$/\1/p' x.json | base64 -d > signature
openssl pkeyutl -verify -pubin -inkey signing.pub -rawin -in signed -sigfile signature`
	if out := shell(verify); !strings.Contains(out, "Verified Successfully") {
		t.Errorf("openssl says %s", out)
	}
}

// FuzzTrust: no document is a crash, and only the signed one is trusted, or where unsigned ones are accepted one that
// shows no trace of a signature.
func FuzzTrust(f *testing.F) {
	signer, trust := newSigner(f)
	lenient := signing.NewTrust(true)
	lenient.AddSigner(signer)
	doc := encoded(f, wholeRecord(), signer)
	f.Add(doc)
	f.Add(encoded(f, wholeRecord(), nil))
	zeros := base64.StdEncoding.EncodeToString(make([]byte, 64))
	f.Add([]byte("  \"signature\": \"ed25519:" + keyIDOf(signer) + ":" + zeros + "\"\n}\n"))
	f.Add(bytes.Replace(doc, []byte("{\n"), []byte("{\n  \"signatur\\u0065\": \"\",\n"), 1))
	f.Add(bytes.Replace(doc, []byte(`  "signature"`), []byte(`  "x": 1,  "signature"`), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := verify(t, trust, b); err == nil && !bytes.Equal(b, doc) {
			t.Fatalf("%q is trusted", b)
		}
		_, err := verify(t, lenient, b)
		if err == nil && !bytes.Equal(b, doc) && bytes.Contains(b, []byte("signature")) {
			t.Fatalf("%q is trusted where unsigned ones are accepted", b)
		}
	})
}
