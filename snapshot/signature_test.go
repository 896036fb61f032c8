package snapshot

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
)

// signingKey returns a new key: private and public, in PEM.
func signingKey(t testing.TB) (private, public []byte) {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf(t, "PRIVATE KEY", priv), pemOf(t, "PUBLIC KEY", pub)
}

func pemOf(t testing.TB, kind string, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if kind == "PUBLIC KEY" {
		der, err = x509.MarshalPKIXPublicKey(key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func newSigner(t testing.TB) (*Signer, *Trust) {
	t.Helper()
	private, public := signingKey(t)
	signer, err := NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	trust := NewTrust(false)
	if err := trust.Add(public); err != nil {
		t.Fatal(err)
	}
	return signer, trust
}

func signed(t testing.TB, signer *Signer) []byte {
	t.Helper()
	doc, err := encodeManifest(wholeRecord(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestSignedManifestIsBelievedByThoseWhoKnowTheKey(t *testing.T) {
	signer, trust := newSigner(t)
	next, nextTrust := newSigner(t)
	doc := signed(t, signer)
	got, err := decodeManifest(doc)
	if err != nil || !reflect.DeepEqual(got, wholeRecord()) {
		t.Errorf("decoded %+v, %v", got, err)
	}
	if err := trust.verify(doc); err != nil {
		t.Errorf("its own key: %v", err)
	}
	if err := nextTrust.verify(doc); err == nil || !strings.Contains(err.Error(), signer.KeyID()) {
		t.Errorf("another key: %v", err)
	}
	nextTrust.AddSigner(signer)
	for _, d := range [][]byte{doc, signed(t, next)} {
		if err := nextTrust.verify(d); err != nil {
			t.Errorf("both keys: %v", err)
		}
	}
	if err := (*Trust)(nil).verify(signed(t, nil)); err != nil {
		t.Errorf("no keys: %v", err)
	}
}

func TestUnsignedManifest(t *testing.T) {
	signer, trust := newSigner(t)
	lenient := NewTrust(true)
	lenient.AddSigner(signer)
	doc := signed(t, nil)
	if err := trust.verify(doc); err == nil || !strings.Contains(err.Error(), "not signed") {
		t.Errorf("it is believed: %v", err)
	}
	if err := lenient.verify(doc); err != nil {
		t.Errorf("it is not believed though it should: %v", err)
	}
	other, _ := newSigner(t)
	if err := lenient.verify(signed(t, other)); err == nil {
		t.Error("one of an unknown key is believed where unsigned ones are")
	}
}

// Whatever bit of a signed manifest is flipped and wherever it is cut off, it is not believed, also where unsigned ones
// are.
func TestSignatureShowsEveryDamage(t *testing.T) {
	signer, trust := newSigner(t)
	lenient := NewTrust(true)
	lenient.AddSigner(signer)
	doc := signed(t, signer)
	seed := mathrand.Uint64()
	t.Logf("seed %d, %d bytes", seed, len(doc))
	rnd := mathrand.New(mathrand.NewPCG(seed, 0))
	for range 10_000 {
		at, bit := rnd.IntN(len(doc)), rnd.IntN(8)
		bad := bytes.Clone(doc)
		bad[at] ^= 1 << bit
		if trust.verify(bad) == nil || lenient.verify(bad) == nil {
			t.Errorf("bit %d of byte %d flipped: believed", bit, at)
		}
	}
	for range 1_000 {
		bad := doc[:rnd.IntN(len(doc))]
		_, err := decodeManifest(bad)
		if trust.verify(bad) == nil || lenient.verify(bad) == nil && err == nil {
			t.Errorf("cut off after %d bytes: believed", len(bad))
		}
	}
	for what, bad := range map[string][]byte{
		"more at the end":      append(bytes.Clone(doc), '\n'),
		"another's signature":  append(bytes.Clone(signed(t, nil)[:len(doc)-signatureLen-2]), doc[len(doc)-signatureLen-2:]...),
		"something in between": bytes.Replace(doc, []byte(`  "signature"`), []byte(`  "name": "x",`+"\n"+`  "signature"`), 1),
	} {
		if !bytes.Equal(bad, doc) && trust.verify(bad) == nil {
			t.Errorf("%s: believed", what)
		}
	}
}

func TestKeysThatAreNone(t *testing.T) {
	private, public := signingKey(t)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	damaged := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("hunter2")})
	for want, text := range map[string][]byte{
		"no key in PEM": []byte("hunter2"), "PUBLIC KEY": public, "not of Ed25519": pemOf(t, "PRIVATE KEY", curve), "damaged": damaged,
	} {
		if _, err := NewSigner(text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("signer: %v, want %q", err, want)
		}
	}
	for want, text := range map[string][]byte{
		"no key in PEM": nil, "not a PUBLIC KEY": append(bytes.Clone(public), private...), "not of Ed25519": pemOf(t, "PUBLIC KEY", &curve.PublicKey),
	} {
		if err := NewTrust(false).Add(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("trust: %v, want %q", err, want)
		}
	}
	two := append(bytes.Clone(public), pemOf(t, "PUBLIC KEY", ed25519.PublicKey(make([]byte, 32)))...)
	trust := NewTrust(false)
	if err := trust.Add(two); err != nil || len(trust.KeyIDs()) != 2 {
		t.Errorf("a file with two keys: %q, %v", trust.KeyIDs(), err)
	}
}

// The keys that openssl makes are taken, the id is what the documentation says, and openssl verifies what is signed.
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
	if err != nil {
		t.Fatal(err)
	}
	signer, err := NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	if id := shell("openssl pkey -pubin -in signing.pub -outform DER | sha256sum | cut -c 1-16"); id != signer.KeyID() {
		t.Errorf("the key's id is %s, and by the documentation %s", signer.KeyID(), id)
	}
	doc := signed(t, signer)
	if err := os.WriteFile(filepath.Join(dir, "x.json"), doc, 0o600); err != nil {
		t.Fatal(err)
	}
	const verify = `head -n -2 x.json > signed
sed -n 's/^  "signature": "ed25519:[0-9a-f]*:\(.*\)"$/\1/p' x.json | base64 -d > signature
openssl pkeyutl -verify -pubin -inkey signing.pub -rawin -in signed -sigfile signature`
	if out := shell(verify); !strings.Contains(out, "Verified Successfully") {
		t.Errorf("openssl says %s", out)
	}
}

// FuzzTrust: no document is a crash, and only what was signed is believed.
func FuzzTrust(f *testing.F) {
	signer, trust := newSigner(f)
	doc := signed(f, signer)
	f.Add(doc)
	f.Add(signed(f, nil))
	f.Add([]byte("  \"signature\": \"ed25519:" + signer.KeyID() + ":" + base64.StdEncoding.EncodeToString(make([]byte, 64)) + "\"\n}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if trust.verify(b) == nil && !bytes.Equal(b, doc) {
			t.Fatalf("%q is believed", b)
		}
		_, _ = decodeManifest(b)
	})
}
