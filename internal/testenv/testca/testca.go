// Package testca signs certificates for tests. It is apart from testenv so that a test of certificates links no server.
package testca

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// CA is an authority: it signs certificates, and lists of revoked ones.
type CA struct{ Pair }

// Pair is a certificate and its key.
type Pair struct {
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// New returns an authority with a certificate that it has signed itself.
func New(tb testing.TB, name string) *CA {
	tb.Helper()
	return &CA{SelfSigned(tb, x509.Certificate{
		Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
	})}
}

// Sign signs a certificate: for a server and a client on loopback, good from two days before its end until an hour from
// now, with a serial number of its own, unless the template says otherwise.
func (a *CA) Sign(tb testing.TB, template x509.Certificate) Pair {
	tb.Helper()
	return sign(tb, template, a)
}

// SelfSigned returns a certificate as [CA.Sign] does that is its own authority.
func SelfSigned(tb testing.TB, template x509.Certificate) Pair {
	tb.Helper()
	template.IsCA, template.BasicConstraintsValid = true, true
	if template.KeyUsage == 0 {
		template.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign
	}
	return sign(tb, template, nil)
}

func sign(tb testing.TB, template x509.Certificate, by *CA) Pair {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template.SerialNumber = cmp.Or(template.SerialNumber, big.NewInt(time.Now().UnixNano()))
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	if template.NotBefore.IsZero() {
		template.NotBefore = template.NotAfter.Add(-48 * time.Hour)
	}
	if template.ExtKeyUsage == nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	if template.IPAddresses == nil {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	parent, signer := &template, key
	if by != nil {
		parent, signer = by.Cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, &key.PublicKey, signer)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return Pair{Cert: cert, key: key}
}

// Revoke returns a list of revoked certificates in DER.
func (a *CA) Revoke(tb testing.TB, serials ...int64) []byte {
	tb.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, s := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.Cert, a.key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// Pool returns a pool with the certificate alone.
func (p Pair) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.Cert)
	return pool
}

// CertPEM returns the certificate in PEM.
func (p Pair) CertPEM() []byte { return PEM("CERTIFICATE", p.Cert.Raw) }

// KeyPEM returns the key in PEM.
func (p Pair) KeyPEM(tb testing.TB) []byte {
	tb.Helper()
	der, err := x509.MarshalECPrivateKey(p.key)
	if err != nil {
		tb.Fatal(err)
	}
	return PEM("EC PRIVATE KEY", der)
}

// TLS returns the pair for a TLS configuration.
func (p Pair) TLS() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{p.Cert.Raw}, PrivateKey: p.key, Leaf: p.Cert}
}

// Write writes NAME.crt and NAME.key, in place of those that are there, as programs do that renew certificates.
func (p Pair) Write(tb testing.TB, dir, name string) (cert, key string) {
	tb.Helper()
	cert, key = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	Replace(tb, cert, p.CertPEM())
	Replace(tb, key, p.KeyPEM(tb))
	return cert, key
}

// PEM encodes DER.
func PEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// Replace replaces a file at once.
func Replace(tb testing.TB, file string, data []byte) {
	tb.Helper()
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		tb.Fatal(err)
	}
}
