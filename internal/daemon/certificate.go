package daemon

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/server/status"
)

// Limits of the cost of certificates: each cluster is asked for them at each scrape, and in each judgement.
const (
	certificateAge   = 10 * time.Second // a file that was read is not read again before
	certificateReads = 8                // at a time; those of a disk that hangs each keep a thread
)

// certificates are the client certificates with which a cluster and its catalog are reached.
type certificates struct {
	reader *certificateReader // of all clusters
	files  []string
}

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

// all returns when the certificates begin and end. Files that cannot be used are left out: each connection fails with
// an error that says why.
func (c certificates) all() (all []status.Certificate) {
	for _, file := range c.files {
		if cert := c.reader.of(file); cert.File != "" {
			all = append(all, cert)
		}
	}
	return all
}

// first returns the begin and the end of the certificate that has to be renewed first; zero without one.
func (c certificates) first() (begin, end time.Time) {
	var first status.Certificate
	for _, cert := range c.all() {
		if first.File == "" || cert.RenewBy().Before(first.RenewBy()) {
			first = cert
		}
	}
	return first.Begin, first.End
}

// drop forgets the files. Another cluster that shares one reads it again.
func (c certificates) drop() {
	c.reader.mu.Lock()
	defer c.reader.mu.Unlock()
	for _, file := range c.files {
		delete(c.reader.files, file)
	}
}

// certificateReader reads the files of certificates, which clusters often share. The zero value is ready for use.
type certificateReader struct {
	mu      sync.Mutex
	files   map[string]*certificateFile
	reading int // files
	late    int // of these, those that have not answered in time
}

type certificateFile struct {
	cert status.Certificate // without its file when that cannot be used
	read time.Time
	done chan struct{} // closed when the read under way has ended; nil without one
	late bool          // that read has not ended in time
}

// of returns a certificate as it was not long ago. While a disk does not answer, it waits for none, and returns what is
// known.
func (r *certificateReader) of(file string) status.Certificate {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.files[file]
	if f == nil {
		if r.files == nil {
			r.files = map[string]*certificateFile{}
		}
		f = &certificateFile{}
		r.files[file] = f
	}
	if f.done == nil && time.Since(f.read) >= certificateAge && r.reading < certificateReads {
		f.done = make(chan struct{})
		r.reading++
		// Not in this goroutine: opening a file on a disk that hangs cannot be ended, and a scrape must go on.
		go r.read(file, f)
	}
	if f.done != nil && r.late == 0 {
		r.wait(f)
	}
	return f.cert
}

// wait waits for the read of a file, but not for a disk that hangs. The lock is free meanwhile.
func (r *certificateReader) wait(f *certificateFile) {
	done := f.done
	r.mu.Unlock()
	select {
	case <-done:
	case <-time.After(diskTimeout):
	}
	r.mu.Lock()
	if f.done == done && !f.late {
		f.late = true
		r.late++
	}
}

func (r *certificateReader) read(file string, f *certificateFile) {
	cert := readCertificate(file)
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.late {
		r.late--
	}
	r.reading--
	close(f.done)
	// Also when it was late: the next question finds the answer of the disk.
	*f = certificateFile{cert: cert, read: time.Now()}
}

// readCertificate returns the certificate in a file; the zero value when there is none.
func readCertificate(file string) status.Certificate {
	data, err := os.ReadFile(file)
	if err != nil {
		return status.Certificate{}
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return status.Certificate{}
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return status.Certificate{}
	}
	return status.Certificate{File: file, Copied: isCredential(file), Begin: cert.NotBefore, End: cert.NotAfter}
}

// isCredential reports whether a file is a credential of a unit (LoadCredential=), which systemd copies at the start.
func isCredential(file string) bool {
	for _, dir := range []string{os.Getenv("CREDENTIALS_DIRECTORY"), "/run/credentials"} {
		if within, err := filepath.Rel(dir, file); dir != "" && err == nil && filepath.IsLocal(within) {
			return true
		}
	}
	return false
}
