package s3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
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
		down   bool // nothing is connected to, and the SDK tries again after pauses of its own
	}{
		"none at all": {
			map[string]string{"AWS_EC2_METADATA_DISABLED": "true"}, "",
			snapshot.ReasonBackendAccessDenied, "HeadObject: there are no credentials to sign the request with (give credentials: AWS_ACCESS_KEY_ID", false,
		},
		"a metadata service that refuses": {
			map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": refuse(http.StatusForbidden, ""), "AWS_EC2_METADATA_V1_DISABLED": "true"}, "",
			snapshot.ReasonBackendAccessDenied, "HeadObject: there are no credentials to sign the request with (give credentials: AWS_ACCESS_KEY_ID", false,
		},
		"a role that may not be had": {
			map[string]string{"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ENDPOINT_URL_STS": refuse(http.StatusForbidden, refused)},
			"&role=" + url.QueryEscape("arn:aws:iam::1:role/backup"),
			snapshot.ReasonBackendAccessDenied, "HeadObject: get credentials: AssumeRole: 403 AccessDenied: you may not (check role=", false,
		},
		"an agent of a pod that is down": {
			map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1"}, "",
			snapshot.ReasonBackendUnavailable, "HeadObject: get credentials: dial tcp 127.0.0.1:1: connect: connection refused (STS, or the service", true,
		},
		"an STS that is down": {
			map[string]string{"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1"},
			"&role=" + url.QueryEscape("arn:aws:iam::1:role/backup"),
			snapshot.ReasonBackendUnavailable, "HeadObject: get credentials: AssumeRole: dial tcp 127.0.0.1:1: connect: connection refused", true,
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
			check := func(t *testing.T) {
				back := b.backend(t, b.Addr(), "", withParams(tc.params))
				err := put(t.Context(), back, "default/x.db", 10)
				if snapshot.ReasonOf(err) != tc.reason || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("%s: %v\nwant %s", snapshot.ReasonOf(err), err, tc.want)
				}
			}
			if tc.down {
				synctest.Test(t, check)
				return
			}
			check(t)
		})
	}
}

// A service that takes a request and says nothing holds up a call no longer than a bucket that does so, and nothing of it
// once it is back.
func TestAServiceOfCredentialsThatIsSilent(t *testing.T) {
	bucket := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "x.db") {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(bucket.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("pod"), 0o600); err != nil {
		t.Fatal(err)
	}
	expires := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	sts := func(operation string) string {
		return fmt.Sprintf("<%[1]sResponse><%[1]sResult><Credentials><AccessKeyId>id</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"+
			"<SessionToken>t</SessionToken><Expiration>%[2]s</Expiration></Credentials></%[1]sResult></%[1]sResponse>", operation, expires)
	}
	const role = "arn:aws:iam::1:role/backup"
	for name, tc := range map[string]struct {
		env    map[string]string
		at     string // the variable that has the service's address
		params string
		answer string
	}{
		"STS, for role=": {
			map[string]string{"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "secret"}, "AWS_ENDPOINT_URL_STS",
			"&role=" + url.QueryEscape(role), sts("AssumeRole"),
		},
		"STS, for a service account": {
			map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_ROLE_ARN": role}, "AWS_ENDPOINT_URL_STS",
			"", sts("AssumeRoleWithWebIdentity"),
		},
		"the agent of a pod": {
			nil, "AWS_CONTAINER_CREDENTIALS_FULL_URI",
			"", `{"AccessKeyId": "id", "SecretAccessKey": "s", "Token": "t", "Expiration": "` + expires + `"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var silent atomic.Bool
			silent.Store(true)
			service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if silent.Load() {
					<-r.Context().Done() // the client hangs up
					return
				}
				_, _ = io.WriteString(w, tc.answer)
			}))
			t.Cleanup(service.Close)
			t.Cleanup(service.CloseClientConnections)
			for _, v := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"} {
				t.Setenv(v, "")
			}
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
			t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
			t.Setenv("AWS_MAX_ATTEMPTS", "1")
			t.Setenv(tc.at, service.URL)
			for k, v := range tc.env {
				t.Setenv(k, v)
			}
			back, err := storage.New(storage.Config{
				Name: "s3", StallTimeout: 200 * time.Millisecond,
				URL: "s3://backups?region=us-east-1&use_path_style=true&endpoint=" + url.QueryEscape(bucket.URL) + tc.params,
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = back.Close(t.Context()) })
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()

			_, err = back.Stat(ctx, "default/x.db")
			e, ok := errors.AsType[*snapshot.Error](err)
			if !ok || e.Reason != snapshot.ReasonBackendUnavailable || e.Retry == 0 ||
				!strings.Contains(err.Error(), "HeadObject: get credentials: there was no answer within 200ms (STS, or the service") {
				t.Fatalf("while it is silent: %v", err)
			}
			silent.Store(false)
			for !errors.Is(err, snapshot.ErrNotFound) {
				if _, err = back.Stat(ctx, "default/x.db"); !errors.Is(err, snapshot.ErrNotFound) &&
					snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable {
					t.Fatalf("when it is back: %v", err)
				}
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
