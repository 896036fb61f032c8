package telemetry_test

import (
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/telemetry"
)

// The certificate is asked for at each scrape, because it is renewed while the service runs.
func TestTheEndOfAClientCertificateIsKnown(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	var begin, end time.Time
	tel.AddCertificate("prod", func() (time.Time, time.Time) { return begin, end })
	if text := scrape(t, tel, ""); strings.Contains(text, "snapshotd_etcd_certificate") {
		t.Errorf("a cluster without a certificate has\n%s", only(text, "snapshotd_etcd_certificate"))
	}
	for _, last := range []string{"3000", "5000"} {
		begin, end = time.Unix(1000, 0), time.Unix(3000, 0)
		if last == "5000" {
			end = time.Unix(5000, 0)
		}
		has(t, tel, `snapshotd_etcd_certificate_not_before_timestamp_seconds{cluster="prod"} 1000`)
		has(t, tel, `snapshotd_etcd_certificate_not_after_timestamp_seconds{cluster="prod"} `+last)
	}
	tel.Forget("prod", "")
	if text := scrape(t, tel, ""); strings.Contains(text, "snapshotd_etcd_certificate") {
		t.Error("the cluster is removed, and its certificate is still there")
	}
}

// A file may be on a disk that hangs: clusters are added and removed meanwhile, and one that is removed is asked no
// more.
func TestACertificateIsReadBesideChangesOfTheClusters(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	asked := 0
	tel.AddCertificate("prod", func() (begin, end time.Time) {
		asked++
		added := make(chan struct{})
		go func() {
			defer close(added)
			tel.AddCertificate("other", func() (begin, end time.Time) { return begin, end })
		}()
		select {
		case <-added:
		case <-time.After(10 * time.Second):
			t.Error("a cluster cannot be added while the file of another one is read")
		}
		return begin, end
	})
	scrape(t, tel, "")
	tel.Forget("prod", "")
	scrape(t, tel, "")
	if asked != 1 {
		t.Errorf("a cluster that was removed was asked %d times", asked-1)
	}
}
