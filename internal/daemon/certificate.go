package daemon

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"time"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/server/status"
)

// certificateFiles returns the files of the client certificates with which a cluster and its catalog are reached.
func certificateFiles(cfg *config.Cluster) (files []string) {
	if cfg.Etcd.Cert != "" {
		files = append(files, cfg.Etcd.Cert)
	}
	if cfg.Catalog.Separate() && cfg.Catalog.Cert != "" {
		files = append(files, cfg.Catalog.Cert)
	}
	return files
}

// certificates reads when client certificates begin and end. Files that cannot be used are left out: each connection
// fails with an error that says why.
func certificates(files []string) (all []status.Certificate) {
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		block, _ := pem.Decode(data)
		if block == nil {
			continue
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			all = append(all, status.Certificate{File: file, Begin: cert.NotBefore, End: cert.NotAfter})
		}
	}
	return all
}

// certificate returns the begin and the end of the client certificate of a cluster that ends first; zero when it has none.
func (f facts) certificate() (begin, end time.Time) {
	for _, c := range certificates(f.certs) {
		if end.IsZero() || c.End.Before(end) {
			begin, end = c.Begin, c.End
		}
	}
	return begin, end
}
