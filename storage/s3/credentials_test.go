package s3_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Keys in a file are read again when the file changes, without a restart; a file that is broken for a moment changes
// nothing.
func TestCredentialsFileThatChanges(t *testing.T) {
	b := newBucket(testenv.SharedS3(t))
	good, err := b.Credentials().Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "credentials")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	keys := func(id, secret string) {
		t.Helper()
		write("[backup]\naws_access_key_id = " + id + "\naws_secret_access_key = " + secret + "\n")
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")

	keys(good.AccessKeyID, "old"+good.SecretAccessKey)
	back := b.backend(t, b.Addr(), "", withParams("&profile=backup"))
	for range 2 {
		err := put(t.Context(), back, "default/x.db", 10)
		if snapshot.ReasonOf(err) != snapshot.ReasonBackendAccessDenied || strings.Contains(err.Error(), good.SecretAccessKey) {
			t.Fatalf("with keys that are not known: %v", err)
		}
	}
	keys(good.AccessKeyID, good.SecretAccessKey)
	if err := put(t.Context(), back, "default/x.db", 10); err != nil {
		t.Fatalf("with the keys of the changed file: %v", err)
	}
	write("[bac")
	if err := put(t.Context(), back, "default/y.db", 10); err != nil {
		t.Errorf("with a file that is half written: %v", err)
	}
	keys(good.AccessKeyID, "older"+good.SecretAccessKey)
	if err := put(t.Context(), back, "default/z.db", 10); snapshot.ReasonOf(err) != snapshot.ReasonBackendAccessDenied {
		t.Errorf("with a secret that is not known any more: %v", err)
	}
	keys("OLDER"+good.AccessKeyID, "older"+good.SecretAccessKey)
	if err := put(t.Context(), back, "default/z.db", 10); snapshot.ReasonOf(err) != snapshot.ReasonBackendAccessDenied {
		t.Errorf("with keys that are not known any more: %v", err)
	}
}

// What the metadata service or STS answers is not what the bucket answers: no permission of the bucket is to blame.
func TestCredentialsThatCannotBeHad(t *testing.T) {
	b := newBucket(testenv.SharedS3(t))
	refuse := func(status int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	none := filepath.Join(t.TempDir(), "none")
	const refused = `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>you may not</Message></Error></ErrorResponse>`
	for name, tc := range map[string]struct {
		env    map[string]string
		params string
		reason snapshot.Reason
		want   string
	}{
		"none at all": {
			map[string]string{"AWS_EC2_METADATA_DISABLED": "true"}, "",
			snapshot.ReasonBackendAccessDenied, "HeadObject: there are no credentials to sign the request with (give credentials: AWS_ACCESS_KEY_ID",
		},
		"a metadata service that refuses": {
			map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": refuse(http.StatusForbidden, ""), "AWS_EC2_METADATA_V1_DISABLED": "true"}, "",
			snapshot.ReasonBackendAccessDenied, "HeadObject: there are no credentials to sign the request with (give credentials: AWS_ACCESS_KEY_ID",
		},
		"a role that may not be had": {
			map[string]string{"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ENDPOINT_URL_STS": refuse(http.StatusForbidden, refused)},
			"&role=" + url.QueryEscape("arn:aws:iam::1:role/backup"),
			snapshot.ReasonBackendAccessDenied, "HeadObject: get credentials: AssumeRole: 403 AccessDenied: you may not (check role=",
		},
		"an STS that is down": {
			map[string]string{"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1"},
			"&role=" + url.QueryEscape("arn:aws:iam::1:role/backup"),
			snapshot.ReasonBackendUnavailable, "HeadObject: get credentials: AssumeRole: dial tcp 127.0.0.1:1: connect: connection refused",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, v := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"} {
				t.Setenv(v, "")
			}
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
			t.Setenv("AWS_CONFIG_FILE", none)
			t.Setenv("AWS_MAX_ATTEMPTS", "1") // the tests of answers are about repetitions
			for k, v := range tc.env {
				t.Setenv(k, v)
			}
			back := b.backend(t, b.Addr(), "", withParams(tc.params))
			err := put(t.Context(), back, "default/x.db", 10)
			if snapshot.ReasonOf(err) != tc.reason || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: %v\nwant %s", snapshot.ReasonOf(err), err, tc.want)
			}
		})
	}
}

func TestAServerThatHangsUp(t *testing.T) {
	t.Parallel()
	b := newBucket(testenv.SharedS3(t))
	front := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(front.Close)
	err := put(t.Context(), b.backend(t, front.Listener.Addr().String(), ""), "default/x.db", 10)
	if snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable || !strings.Contains(err.Error(), "HeadObject: the connection broke off (EOF)") {
		t.Errorf("%v", err)
	}
}
