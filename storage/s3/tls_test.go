package s3_test

import (
	"encoding/pem"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
)

// front puts TLS before the server, and returns its address and the file of its CA.
func (b bucket) front(t *testing.T) (addr, ca string) {
	t.Helper()
	return frontOf(t, b.Addr())
}

func frontOf(t *testing.T, target string) (addr, ca string) {
	t.Helper()
	front := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: target})
		r.Out.Host = r.In.Host // it is signed
	}})
	t.Cleanup(front.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return front.Listener.Addr().String(), ca
}

// TestTLSAndChecksums: over TLS the SDK sends checksums otherwise than over plain text, or, for servers that do not
// know them, none at all.
func TestTLSAndChecksums(t *testing.T) {
	b := newBucket(testenv.SharedS3(t))
	front, ca := b.front(t)
	const old = "&request_checksum_calculation=when_required&response_checksum_validation=when_required"
	for _, test := range []struct{ name, scheme, params string }{
		{"TLS", "https", ""}, {"TLS without checksums", "https", old}, {"plain text without checksums", "http", old},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("AWS_CA_BUNDLE", ca)
			at := b.Addr()
			if test.scheme == "https" {
				at = front
			}
			back := b.backend(t, at, "", func(c *storage.Config) {
				c.URL = strings.Replace(c.URL, "http%3A", test.scheme+"%3A", 1) + test.params
			})
			for _, size := range []int{0, 100, 9 * mib} {
				if err := put(t.Context(), back, "default/x.db", size); err != nil {
					t.Fatal(err)
				}
				if o, err := back.Stat(t.Context(), "default/x.db"); err != nil || o.Size != int64(size) {
					t.Errorf("got %+v, %v", o, err)
				}
			}
		})
	}
	back := b.backend(t, front, "", func(c *storage.Config) {
		c.URL = strings.Replace(c.URL, "http%3A", "https%3A", 1)
	})
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	err := put(t.Context(), back, "default/x.db", 1)
	if snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable || !strings.Contains(err.Error(), "AWS_CA_BUNDLE") {
		t.Errorf("with a CA that is not known: %v", err)
	}
}
