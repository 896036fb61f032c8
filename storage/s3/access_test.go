package s3_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
)

func withParams(params string) func(*storage.Config) {
	return func(c *storage.Config) { c.URL += params }
}

func TestCAOfOneBackend(t *testing.T) {
	t.Parallel()
	b := newBucket(testenv.SharedS3(t))
	front, good := b.front(t)
	dir := t.TempDir()
	bad := filepath.Join(dir, "rubbish.pem")
	if err := os.WriteFile(bad, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	try := func(ca string) error {
		back := b.backend(t, front, "", func(c *storage.Config) {
			c.URL = strings.Replace(c.URL, "http%3A", "https%3A", 1) + "&ca_cert=" + url.QueryEscape(ca)
		})
		return put(t.Context(), back, "default/x.db", 10)
	}
	if err := try(good); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{bad: "has no certificate in PEM", filepath.Join(dir, "none"): "no such file"} {
		if err := try(file); snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "ca_cert") {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestProxyOfOneBackend(t *testing.T) {
	t.Parallel()
	b := newBucket(testenv.SharedS3(t))
	var through sync.Map
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		through.Store(r.In.Method, r.In.URL.Host) // a proxy is asked with the whole URL
		r.Out.Host = r.In.Host
	}})
	t.Cleanup(proxy.Close)
	back := b.backend(t, b.Addr(), "", withParams("&proxy="+url.QueryEscape(proxy.URL)))
	if err := put(t.Context(), back, "default/x.db", 10); err != nil {
		t.Fatal(err)
	}
	if host, ok := through.Load(http.MethodPut); !ok || host != b.Addr() {
		t.Errorf("the proxy was asked for %v", host)
	}
}

// sentHeaders is a proxy in front of the S3 server that notes what requests say. The token of a session does not go on:
// the S3 server knows none.
func sentHeaders(t *testing.T, b bucket) (addr string, of func(operation string) http.Header) {
	var mu sync.Mutex
	seen := map[string]http.Header{}
	proxy := testenv.StartHTTPProxy(t, b.Addr(), nil)
	anew := testenv.Resigned(func(r *http.Request) { r.Header.Del("X-Amz-Security-Token") })
	proxy.Set(func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
		mu.Lock()
		seen[testenv.S3Operation(r)] = r.Header.Clone()
		mu.Unlock()
		if r.Header.Get("X-Amz-Security-Token") == "" {
			forward(w, r)
			return
		}
		anew(w, r, forward)
	})
	return proxy.Addr(), func(operation string) http.Header {
		mu.Lock()
		defer mu.Unlock()
		return seen[operation]
	}
}

// The S3 server of the tests knows no KMS, and takes such headers without a word: what is asked of it is looked at on
// the way.
func TestServerSideEncryptionIsAskedForInBothWaysOfUploading(t *testing.T) {
	t.Parallel()
	b := newBucket(testenv.SharedS3(t))
	addr, sent := sentHeaders(t, b)
	back := b.backend(t, addr, "", withParams("&ssetype=aws:kms&kmskeyid=arn:aws:kms:eu-central-1:1:key/k"))
	for size, operation := range map[int]string{10: "PutObject", 9 * mib: "CreateMultipartUpload"} {
		if err := put(t.Context(), back, "default/x.db", size); err != nil {
			t.Fatal(err)
		}
		h := sent(operation)
		if h.Get("X-Amz-Server-Side-Encryption") != "aws:kms" || h.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id") != "arn:aws:kms:eu-central-1:1:key/k" {
			t.Errorf("%s: asked with %v", operation, h)
		}
	}
}

// A session's token goes with each request, signed.
func TestSessionToken(t *testing.T) {
	b := newBucket(testenv.SharedS3(t))
	addr, sent := sentHeaders(t, b)
	keys, err := b.Credentials().Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", keys.AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", keys.SecretAccessKey)
	t.Setenv("AWS_SESSION_TOKEN", "the-token")
	back := b.backend(t, addr, "")
	if err := put(t.Context(), back, "default/x.db", 10); err != nil {
		t.Fatal(err)
	}
	h := sent("PutObject")
	if h.Get("X-Amz-Security-Token") != "the-token" || !strings.Contains(h.Get("Authorization"), "x-amz-security-token") {
		t.Errorf("sent %v", h)
	}
}

// A role is assumed with the keys at hand, and its own are used from then on.
func TestRole(t *testing.T) {
	b := newBucket(testenv.SharedS3(t))
	addr, sent := sentHeaders(t, b)
	keys, err := b.Credentials().Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var asked url.Values
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		asked = r.PostForm
		w.Header().Set("Content-Type", "text/xml")
		_, _ = fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>`+
			`<AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>of-the-role</SessionToken><Expiration>%s</Expiration>`+
			`</Credentials></AssumeRoleResult></AssumeRoleResponse>`, keys.AccessKeyID, keys.SecretAccessKey, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(sts.Close)
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "mine")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	back := b.backend(t, addr, "", withParams("&role="+url.QueryEscape("arn:aws:iam::1:role/backup")))
	if err := put(t.Context(), back, "default/x.db", 10); err != nil {
		t.Fatal(err)
	}
	if asked.Get("Action") != "AssumeRole" || asked.Get("RoleArn") != "arn:aws:iam::1:role/backup" {
		t.Errorf("STS was asked for %v", asked)
	}
	if h := sent("PutObject"); h.Get("X-Amz-Security-Token") != "of-the-role" {
		t.Errorf("sent %v", h)
	}
}
