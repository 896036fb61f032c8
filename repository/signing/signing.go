// Package signing signs manifests, and tells which manifests are trusted.
package signing

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/snapshotd/snapshotd/snapshot"
)

// A signed manifest ends with two lines of exactly this form, the second of them "}". Every byte before them is signed.
// So the document stays JSON, needs no canonical form, and `head -n -2` gives the bytes that openssl verifies.
var signatureLine = regexp.MustCompile(`^  "signature": "ed25519:([0-9a-f]{16}):([A-Za-z0-9+/]{86}==)"\n}\n$`)

// Member is the name of the signature in a document.
const Member = "signature"

// signatureLen is the length of those two lines.
const signatureLen = len(`  "signature": "ed25519:0123456789abcdef:`) + 88 + len("\"\n}\n")

// Signer signs manifests. Ed25519 needs no random numbers for a signature, so the same manifest always gets the same
// bytes, and a copy that another replica signs again is no difference.
type Signer struct {
	key ed25519.PrivateKey
	id  string
}

// NewSigner reads an Ed25519 private key, PKCS#8 in PEM, as `openssl genpkey -algorithm ed25519` writes it. Errors do
// not repeat the text.
func NewSigner(pemText []byte) (*Signer, error) {
	block, _ := pem.Decode(pemText)
	if block == nil {
		return nil, errors.New("there is no key in PEM")
	}
	if block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("it is a %q, not an unencrypted PRIVATE KEY in PKCS#8", block.Type)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the private key is damaged")
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("the private key is not of Ed25519")
	}
	id, err := keyID(private.Public())
	return &Signer{private, id}, err
}

// Sign returns a manifest with its signature. The document ends with the closing brace in a line of its own.
func (s *Signer) Sign(doc []byte) []byte {
	signed := append(bytes.TrimSuffix(bytes.Clone(doc), []byte("\n}\n")), ",\n"...)
	sig := base64.StdEncoding.EncodeToString(ed25519.Sign(s.key, signed))
	return fmt.Appendf(signed, "  \"signature\": \"ed25519:%s:%s\"\n}\n", s.id, sig)
}

// Trust says which manifests are trusted. A nil Trust accepts all of them. Several keys are trusted at the same time
// while one takes the place of another: snapshots that the old key signed are kept for months.
type Trust struct {
	keys           map[string]ed25519.PublicKey
	acceptUnsigned bool
}

// NewTrust returns a Trust that knows no key yet. With acceptUnsigned it also accepts manifests without any signature,
// but never one whose signature is wrong or of an unknown key.
func NewTrust(acceptUnsigned bool) *Trust {
	return &Trust{keys: map[string]ed25519.PublicKey{}, acceptUnsigned: acceptUnsigned}
}

// Add makes it trust manifests signed with one of the Ed25519 public keys in a text of PEM, as `openssl pkey -pubout`
// writes it.
func (t *Trust) Add(pemText []byte) error {
	block, rest := pem.Decode(pemText)
	if block == nil {
		return errors.New("there is no key in PEM")
	}
	for ; block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "PUBLIC KEY" {
			return fmt.Errorf("it is a %q, not a PUBLIC KEY", block.Type)
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return errors.New("the public key is damaged")
		}
		if err := t.add(key); err != nil {
			return err
		}
	}
	return nil
}

// AddSigner makes it trust the manifests of a signer.
func (t *Trust) AddSigner(s *Signer) {
	_ = t.add(s.key.Public()) // it is of Ed25519
}

func (t *Trust) add(key any) error {
	public, ok := key.(ed25519.PublicKey)
	if !ok {
		return errors.New("the public key is not of Ed25519")
	}
	id, err := keyID(public)
	if err == nil {
		t.keys[id] = public
	}
	return err
}

// KeyIDs returns the ids of the keys, in ascending order.
func (t *Trust) KeyIDs() []string {
	var ids []string
	for id := range t.keys {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// keyID returns the id of a public key: the first 16 hex digits of the sha256 of the key in DER. It is short enough for
// a log, and the same in every format of the key.
func keyID(public any) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("encode a public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:8]), nil
}

// AcceptsUnsigned reports whether a manifest without a signature, or a file without a manifest, is accepted.
func (t *Trust) AcceptsUnsigned() bool { return t == nil || t.acceptUnsigned }

// Signed reports whether a document ends as [Signer.Sign] makes it end.
func Signed(doc []byte) bool { return findSignature(doc) != nil }

// findSignature returns the last two lines of a signed manifest, the id of the key, and the signature; nil when the
// document does not end like one.
func findSignature(doc []byte) [][]byte {
	at := max(len(doc)-signatureLen, 0)
	if !bytes.HasSuffix(doc[:at], []byte(",\n")) {
		return nil
	}
	return signatureLine.FindSubmatch(doc[at:])
}

// Verify returns why a manifest is not trusted.
func (t *Trust) Verify(doc []byte) error {
	if t == nil {
		return nil
	}
	m := findSignature(doc)
	if m == nil {
		// One damaged bit must not make a signed manifest look like one that never was.
		if t.acceptUnsigned && !bytes.Contains(doc, []byte("signature")) && !bytes.Contains(doc, []byte("ed25519:")) {
			return nil
		}
		return errors.New("it is not signed, or its signature is damaged")
	}
	key, ok := t.keys[string(m[1])]
	if !ok {
		return fmt.Errorf("it is signed with key %s, and the trusted keys are %s", m[1], snapshot.Join(t.KeyIDs()))
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(string(m[2]))
	if err != nil || !ed25519.Verify(key, doc[:len(doc)-signatureLen], sig) {
		return fmt.Errorf("the signature with key %s is wrong: the manifest is not as it was written", m[1])
	}
	return nil
}
