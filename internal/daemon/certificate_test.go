package daemon

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/config"
)

// certificateUntil writes a certificate that ends at a time.
func certificateUntil(t *testing.T, file string, end time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: end.Add(-time.Hour), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The certificate that ends first counts, and it is read anew each time.
func TestTheClientCertificateThatEndsFirst(t *testing.T) {
	dir := t.TempDir()
	saved, records := filepath.Join(dir, "saved.crt"), filepath.Join(dir, "records.crt")
	cfg := &config.Cluster{Etcd: config.Etcd{Cert: saved}}
	cfg.Catalog.Endpoints, cfg.Catalog.Cert = []string{"https://other:2379"}, records
	f := facts{certs: certificateFiles(cfg)}
	if _, end := f.certificate(); !end.IsZero() {
		t.Errorf("without files it ends at %s", end)
	}
	first := time.Now().Add(time.Hour).Truncate(time.Second).UTC()
	certificateUntil(t, saved, first.Add(time.Hour))
	certificateUntil(t, records, first)
	if begin, end := f.certificate(); !end.Equal(first) || !begin.Equal(first.Add(-time.Hour)) {
		t.Errorf("it is valid from %s to %s, want the end %s", begin, end, first)
	}
	certificateUntil(t, records, first.Add(2*time.Hour))
	if _, end := f.certificate(); !end.Equal(first.Add(time.Hour)) {
		t.Errorf("after a renewal it ends at %s", end)
	}
	if err := os.WriteFile(saved, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if all := certificates(f.certs); len(all) != 1 || all[0].File != records {
		t.Errorf("beside a file that is none, there are %+v", all)
	}
	cfg.Catalog.Endpoints = nil // the catalog is in the etcd that is saved
	if files := certificateFiles(cfg); len(files) != 1 || files[0] != saved {
		t.Errorf("the files are %q", files)
	}
}
