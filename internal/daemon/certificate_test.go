package daemon

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/testenv/testca"
)

// certificateUntil writes a certificate that lives for some time and ends at another.
func certificateUntil(t *testing.T, file string, life time.Duration, end time.Time) {
	t.Helper()
	pair := testca.SelfSigned(t, x509.Certificate{NotBefore: end.Add(-life), NotAfter: end})
	testca.Replace(t, file, pair.CertPEM())
}

// certificatesIn are those of a cluster whose catalog is in another etcd, and their files.
func certificatesIn(t *testing.T) (c certificates, saved, records string) {
	t.Helper()
	dir := t.TempDir()
	saved, records = filepath.Join(dir, "saved.crt"), filepath.Join(dir, "records.crt")
	cfg := &config.Cluster{Etcd: config.Etcd{Cert: saved}}
	cfg.Catalog.Endpoints, cfg.Catalog.Cert = []string{"https://other:2379"}, records
	return certificates{&certificateReader{}, certificateFiles(cfg)}, saved, records
}

// The certificate that has to be renewed first counts, and a renewal is seen within seconds.
func TestTheClientCertificateToRenewFirst(t *testing.T) {
	const hour, day = time.Hour, 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		c, saved, records := certificatesIn(t)
		if _, end := c.first(); !end.IsZero() {
			t.Errorf("without files it ends at %s", end)
		}
		time.Sleep(certificateAge)
		now := time.Now().Truncate(time.Second).UTC()
		certificateUntil(t, saved, 365*day, now.Add(3*day))
		certificateUntil(t, records, day, now.Add(20*hour)) // a machine renews it
		if begin, end := c.first(); !end.Equal(now.Add(3*day)) || !begin.Equal(now.Add(-362*day)) {
			t.Errorf("it is valid from %s to %s, want that of a year, which ends in three days", begin, end)
		}
		certificateUntil(t, saved, 365*day, now.Add(365*day))
		if _, end := c.first(); !end.Equal(now.Add(3 * day)) {
			t.Errorf("it ends at %s: the file was read anew at once", end)
		}
		time.Sleep(certificateAge)
		if _, end := c.first(); !end.Equal(now.Add(20 * hour)) {
			t.Errorf("after a renewal it ends at %s", end)
		}
		if err := os.WriteFile(saved, []byte("no certificate"), 0o600); err != nil {
			t.Fatal(err)
		}
		c.drop() // then it is read anew
		if all := c.all(); len(all) != 1 || all[0].File != records {
			t.Errorf("beside a file that is none, there are %+v", all)
		}
		if c.drop(); len(c.reader.files) != 0 {
			t.Errorf("of a cluster that is gone, there are %v", c.reader.files)
		}
	})
	shared := &config.Cluster{Etcd: config.Etcd{Cert: "saved.crt"}} // the catalog is in the etcd that is saved
	shared.Catalog.Cert = "records.crt"
	if files := certificateFiles(shared); len(files) != 1 || files[0] != "saved.crt" {
		t.Errorf("the files are %q", files)
	}
}

// systemd copies credentials at the start of the service. Their place is in a variable, which a shell does not have.
func TestACertificateBelowTheCredentialsIsACopy(t *testing.T) {
	dir := t.TempDir()
	inside, beside := filepath.Join(dir, "credentials", "etcd.crt"), filepath.Join(dir, "credentials.crt")
	if err := os.Mkdir(filepath.Dir(inside), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(inside))
	for file, copied := range map[string]bool{inside: true, beside: false} {
		certificateUntil(t, file, time.Hour, time.Now().Add(time.Hour))
		c := certificates{&certificateReader{}, []string{file}}
		if all := c.all(); len(all) != 1 || all[0].Copied != copied {
			t.Errorf("copied is %t, want %t: %+v", !copied, copied, all)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	for file, copied := range map[string]bool{
		"/run/credentials/snapshotd.service/etcd.crt": true, "/run/credentials.crt": false, "etcd.crt": false,
	} {
		if isCredential(file) != copied {
			t.Errorf("%s: copied is %t", file, !copied)
		}
	}
}

// A file on a disk that does not answer hides no other, and is known when it does.
func TestACertificateOnADiskThatHangsHidesNoOther(t *testing.T) {
	c, saved, records := certificatesIn(t)
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	certificateUntil(t, records, time.Hour, end)
	if err := syscall.Mkfifo(saved, 0o600); err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		c.first()
	}()
	select {
	case <-asked:
	case <-time.After(waitTimeout):
		t.Fatal("the disk is waited for")
	}
	eventually(t, "the other one is known", func() bool {
		_, first := c.first()
		return first.Equal(end)
	})
	pipe, err := os.OpenFile(saved, os.O_WRONLY, 0) // the read goes on
	if err != nil {
		t.Fatal(err)
	}
	if err := pipe.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "the disk is not late any more", func() bool {
		c.reader.mu.Lock()
		defer c.reader.mu.Unlock()
		return c.reader.late == 0 && c.reader.reading == 0
	})
}
