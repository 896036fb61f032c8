package s3_test

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// A server that lacks a feature, or says the same in another way, is used like any other.
func TestLacksAreDoneWithout(t *testing.T) {
	t.Parallel()
	inChunks(t, 3, testenv.S3Lacks, func(t *testing.T, b bucket, content []byte, lack testenv.S3Quirk) {
		t.Helper()
		t.Run(lack.Name, func(t *testing.T) { checkLack(t, b, content, lack) })
	})
}

func checkLack(t *testing.T, b bucket, content []byte, lack testenv.S3Quirk) {
	t.Helper()
	t.Cleanup(func() { b.clean(t, newKey) })
	proxy := testenv.StartHTTPProxy(t, b.Addr(), nil)
	proxy.Set(lack.Fault)
	back := b.backend(t, proxy.Addr(), "")
	for _, call := range []string{"put", "put large"} {
		if err := calls[call](t.Context(), back); err != nil {
			t.Errorf("%s: %v", call, err)
		}
		stored, derr := b.backend(t, b.Addr(), "").Stat(t.Context(), newKey)
		if o, err := back.Stat(t.Context(), newKey); err != nil || derr != nil || o.Size != stored.Size {
			t.Errorf("stat after %s: %+v, %v of %+v, %v", call, o, err, stored, derr)
		}
		if err := back.Delete(t.Context(), newKey); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	if _, err := back.Stat(t.Context(), newKey); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("stat of nothing: %v", err)
	}
	end := int64(len(content))
	for _, x := range []repository.Range{
		{}, {Length: 100}, {Offset: end - 50, Length: 2 * end}, {Offset: end - mib}, {Offset: end - 3, Length: 100}, {Offset: end},
	} {
		want := content[x.Offset:]
		if x.Length > 0 {
			want = want[:min(x.Length, int64(len(want)))]
		}
		r, err := back.Get(t.Context(), largeKey, x)
		if err != nil {
			t.Errorf("get %+v: %v", x, err)
			continue
		}
		got, err := all(r, len(want))
		if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("get %+v: %d bytes, %v", x, len(got), err)
		}
	}
	if names, err := listed(t, back); err != nil || !slices.Equal(names, []string{largeKey, smallKey}) {
		t.Errorf("list: %q, %v", names, err)
	}
	if _, err := back.Sweep(t.Context(), "default/", repository.SweepOptions{OlderThan: time.Now()}); err != nil {
		t.Errorf("sweep: %v", err)
	}
}

func listed(t *testing.T, b repository.Backend) (names []string, last error) {
	t.Helper()
	for o, err := range b.List(t.Context(), "default/") {
		if last = err; err == nil {
			names = append(names, o.Key)
		}
	}
	return names, last
}

// An object whose key XML cannot hold hides no other one.
func TestBadNameDoesNotEndAListing(t *testing.T) {
	t.Parallel()
	b, _ := stocked(t)
	proxy := testenv.StartHTTPProxy(t, b.Addr(), nil)
	proxy.Set(testenv.On("ListObjectsV2", func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
		key, answer := "default/&#x1;.db", forward
		if r.URL.Query().Get("encoding-type") == "url" {
			key = "default/%01.db"
			answer = func(w http.ResponseWriter, r *http.Request) { testenv.NamesAsURLs(w, r, forward) }
		}
		testenv.Edits(func(a *testenv.Answer) {
			a.Body = strings.Replace(a.Body, "<Contents>", "<Contents><Key>"+key+"</Key><Size>1</Size>"+
				"<LastModified>2026-01-01T00:00:00Z</LastModified></Contents><Contents>", 1)
		})(w, r, answer)
	}))
	names, err := listed(t, b.backend(t, proxy.Addr(), ""))
	if err != nil || !slices.Equal(names, []string{"default/\x01.db", largeKey, smallKey}) {
		t.Errorf("got %q, %v", names, err)
	}
}

// The client takes the server's time when it is told that its own is wrong.
func TestClockOfTheServerIsTaken(t *testing.T) {
	t.Parallel()
	b, _ := stocked(t)
	proxy := testenv.StartHTTPProxy(t, b.Addr(), nil)
	proxy.Set(func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
		now := time.Now().UTC()
		ahead := now.Add(3 * time.Hour)
		w.Header().Set("Date", ahead.Format(http.TimeFormat))
		at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		if err != nil || ahead.Sub(at).Abs() > 15*time.Minute {
			testenv.Refuses(http.StatusForbidden, "RequestTimeTooSkewed")(w, r, forward)
			return
		}
		testenv.Resigned(func(r *http.Request) { r.Header.Set("X-Amz-Date", now.Format("20060102T150405Z")) })(w, r, func(w http.ResponseWriter, r *http.Request) {
			testenv.Edits(func(a *testenv.Answer) { a.Header.Set("Date", ahead.Format(http.TimeFormat)) })(w, r, forward)
		})
	})
	if names, err := listed(t, b.backend(t, proxy.Addr(), "")); err != nil || len(names) != 2 {
		t.Errorf("got %q, %v", names, err)
	}
}

// Parts of an upload whose listing has no end are an error, and the upload stays.
func TestPartsWithoutAnEnd(t *testing.T) {
	t.Parallel()
	b, _ := stocked(t)
	in := &s3.CreateMultipartUploadInput{Bucket: aws.String(b.name), Key: aws.String("default/etcd-snapshot-node-1700000000.db.zst")}
	if _, err := b.Client().CreateMultipartUpload(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	const doc = "<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>%</NextPartNumberMarker></ListPartsResult>"
	next := map[string]string{"": "1", "1": "2", "2": "3", "3": "1"}
	proxy := testenv.StartHTTPProxy(t, b.Addr(), nil)
	proxy.Set(testenv.On("ListParts", func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		marker := next[r.URL.Query().Get("part-number-marker")]
		testenv.Says(http.StatusOK, "application/xml", strings.Replace(doc, "%", marker, 1))(w, r, nil)
	}))
	old := repository.SweepOptions{OlderThan: time.Now().Add(time.Hour)}
	n, err := b.backend(t, proxy.Addr(), "").Sweep(t.Context(), "default/", old)
	if n != 0 || snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable || !strings.Contains(err.Error(), "again and again") {
		t.Errorf("swept %d, %v", n, err)
	}
	if left := b.uploads(t); len(left) != 1 {
		t.Errorf("left are %q", left)
	}
}
