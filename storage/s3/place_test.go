package s3_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
)

func TestEndpointsThatCannotBeRight(t *testing.T) {
	for query, want := range map[string]string{
		"endpoint=https://s3.example.com/backups&use_path_style=true":  "ends with the bucket; write it without: https://s3.example.com",
		"endpoint=https://example.com/s3/backups/&use_path_style=true": "ends with the bucket; write it without: https://example.com/s3",
		"endpoint=https://backups.s3.eu-central-1.amazonaws.com":       "has the bucket in its host; write it without: https://s3.eu-central-1.amazonaws.com",
		"endpoint=https://Backups.S3.eu-central-1.amazonaws.com":       "has the bucket in its host; write it without: https://s3.eu-central-1.amazonaws.com",
		"endpoint=http://10.0.0.1:9000":                                "is an IP address, before which no bucket's name can stand; add use_path_style=true",
		"endpoint=http://[fd00::1]:9000&use_path_style=false":          "is an IP address",
		"endpoint=http://10.0.0.1:9000&use_path_style=true":            "",
		"endpoint=http://10.0.0.1:9000&hostname_immutable=true":        "",
		"endpoint=https://backups.example.com&use_path_style=true":     "",
		"endpoint=https://s3.example.com/backups/etcd&use_path_style=true": "has the bucket in its path; write it without: https://s3.example.com, " +
			"and what is behind the bucket as prefix=etcd/; for a server that is itself at this path, add hostname_immutable=true",
		"endpoint=https://s3.example.com/backups/etcd/one/":                               "has the bucket in its path; write it without: https://s3.example.com, and what is behind the bucket as prefix=etcd/one/;",
		"endpoint=https://example.com/s3/backups/etcd&use_path_style=true":                "has the bucket in its path; write it without: https://example.com/s3, and what is behind the bucket as prefix=etcd/;",
		"endpoint=https://example.com/backups/v1/s3/backups/x&use_path_style=true":        "has the bucket in its path; write it without: https://example.com/backups/v1/s3, and",
		"endpoint=https://example.com/backups/v1/s3/backups&use_path_style=true":          "ends with the bucket; write it without: https://example.com/backups/v1/s3",
		"endpoint=https://s3.example.com/backups/etcd&hostname_immutable=true":            "",
		"endpoint=https://s3.example.com/backups/s3":                                      "",
		"endpoint=https://example.com/backups/v1/s3&use_path_style=true":                  "",
		"endpoint=https://example.com/backups/s3-gateway/&use_path_style=true":            "",
		"endpoint=https://example.com/objects/backups/gateway&use_path_style=true":        "",
		"endpoint=https://example.com/backups-of-all/gateway&use_path_style=true":         "",
		"endpoint=https://bucket.vpce-1.s3.us-east-1.vpce.amazonaws.com&region=us-east-1": "",
	} {
		_, err := storage.New(storage.Config{Name: "one", URL: "s3://backups?" + query})
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", query, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), `backend "one": parameter "endpoint" `+want)):
			t.Errorf("%s: got %v, want %s", query, err, want)
		}
	}
}

// A server at a path that begins with the bucket's name is asked there.
func TestServerAtThePathOfTheBucket(t *testing.T) {
	t.Parallel()
	b := newBucket(testenv.SharedS3(t))
	paths := make(chan string, 100)
	proxy := testenv.StartHTTPProxy(t, b.Addr(), func(w http.ResponseWriter, r *http.Request) bool {
		paths <- r.URL.Path
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	for _, at := range []struct{ path, param string }{
		{"/" + b.name + "/gateway", "&hostname_immutable=true"}, {"/" + b.name + "/v1/s3", "&use_path_style=true"},
	} {
		back := b.backend(t, proxy.Addr(), "", func(c *storage.Config) {
			c.URL = "s3://" + b.name + "?endpoint=" + url.QueryEscape("http://"+proxy.Addr()+at.path) + at.param
		})
		if _, err := back.Stat(t.Context(), "default/x.db"); snapshot.ReasonOf(err) != snapshot.ReasonBackendAccessDenied {
			t.Errorf("%s: %v", at.path, err)
		}
		if len(paths) == 0 {
			t.Errorf("%s: nothing was asked for", at.path)
		}
		for len(paths) > 0 {
			if got, want := <-paths, at.path+"/"+b.name; got != want && got != want+"/default/x.db" {
				t.Errorf("%s: asked for %s, want %s", at.path, got, want)
			}
		}
	}
}

// A host that begins with the bucket's name may be right; the error says so when the server is not there.
func TestEndpointThatMayHaveTheBucketInItsHost(t *testing.T) {
	t.Parallel()
	b := newBucket(testenv.SharedS3(t))
	back := b.backend(t, b.Addr(), "", func(c *storage.Config) {
		c.URL = strings.Replace(c.URL, "127.0.0.1", b.name+".localhost", 1)
	})
	err := put(t.Context(), back, "default/x.db", 1)
	if snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable || !strings.Contains(err.Error(), "begins with the bucket's name") {
		t.Errorf("got %v", err)
	}
}

func TestCredentialsWithALineBreak(t *testing.T) {
	b := newBucket(testenv.SharedS3(t))
	good, err := b.Credentials().Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ key, secret, token string }{
		"access key":    {good.AccessKeyID + "\n", good.SecretAccessKey, ""},
		"secret key":    {good.AccessKeyID, good.SecretAccessKey + "\r\n", ""},
		"session token": {good.AccessKeyID, good.SecretAccessKey, "to\nken"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_ACCESS_KEY_ID", test.key)
			t.Setenv("AWS_SECRET_ACCESS_KEY", test.secret)
			t.Setenv("AWS_SESSION_TOKEN", test.token)
			err := put(t.Context(), b.backend(t, b.Addr(), ""), "default/x.db", 1)
			if snapshot.ReasonOf(err) != snapshot.ReasonBackendAccessDenied || !strings.Contains(err.Error(), "the "+name+" has a line break") {
				t.Errorf("got %v (%s)", err, snapshot.ReasonOf(err))
			}
			if strings.Contains(err.Error(), good.SecretAccessKey) {
				t.Errorf("the secret is in %v", err)
			}
		})
	}
}

func TestProxyThatDoesNotServe(t *testing.T) {
	t.Parallel()
	b := newBucket(testenv.SharedS3(t))
	front, ca := b.front(t)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	t.Cleanup(refusing.Close)
	for _, test := range []struct{ name, proxy, scheme, want string }{
		{"dead, http", "http://" + dead.Addr().String(), "http", "connection refused"},
		{"dead, https", "http://" + dead.Addr().String(), "https", "connection refused"},
		{"refuses", refusing.URL, "https", "it answered 407 Proxy Authentication Required"},
	} {
		back := b.backend(t, map[string]string{"http": b.Addr(), "https": front}[test.scheme], "", func(c *storage.Config) {
			c.URL = strings.Replace(c.URL, "http%3A", test.scheme+"%3A", 1) + "&ca_cert=" + url.QueryEscape(ca) + "&proxy=" + url.QueryEscape(test.proxy)
		})
		err := put(t.Context(), back, "default/x.db", 1)
		addr := strings.TrimPrefix(test.proxy, "http://")
		if snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable || !strings.Contains(err.Error(), "HeadObject: the proxy "+addr+": ") ||
			!strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "NO_PROXY") {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestKeysThatS3DoesNotTake(t *testing.T) {
	t.Parallel()
	b := newBucket(testenv.SharedS3(t))
	back := b.backend(t, b.Addr(), "some/where")
	for _, key := range []string{"x\n.db", "default/" + strings.Repeat("x", 1020)} {
		_, statErr := back.Stat(t.Context(), key)
		_, getErr := back.Get(t.Context(), key, repository.Range{})
		for call, err := range map[string]error{"put": put(t.Context(), back, key, 1), "stat": statErr, "get": getErr, "delete": back.Delete(t.Context(), key)} {
			if snapshot.ReasonOf(err) != snapshot.ReasonInvalidArgument {
				t.Errorf("%s %.20q: got %v (%s)", call, key, err, snapshot.ReasonOf(err))
			}
		}
	}
}
