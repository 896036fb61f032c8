package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
)

const (
	smallKey = "default/small.db"
	largeKey = "default/large.db"
	newKey   = "default/new.db"

	largeSize = 9 * mib // two parts
)

// stocked returns a bucket with a small and a large object, and the large one's content.
func stocked(t *testing.T) (bucket, []byte) {
	t.Helper()
	b := newBucket(testenv.SharedS3(t))
	direct := b.backend(t, b.Addr(), "")
	content := random()[:largeSize]
	for key, data := range map[string][]byte{smallKey: content[:10], largeKey: content} {
		if err := direct.Put(t.Context(), key, bytes.NewReader(data), putOptions(false)); err != nil {
			t.Fatal(err)
		}
	}
	return b, content
}

// Calls of a backend, as the tables below name them.
var calls = map[string]func(context.Context, *storage.Backend) error{
	"put":         func(ctx context.Context, b *storage.Backend) error { return put(ctx, b, newKey, 10) },
	"put large":   func(ctx context.Context, b *storage.Backend) error { return put(ctx, b, newKey, largeSize) },
	"replace":     func(ctx context.Context, b *storage.Backend) error { return put(ctx, b, smallKey, 11) },
	"stat":        func(ctx context.Context, b *storage.Backend) error { _, err := b.Stat(ctx, smallKey); return err },
	"stat absent": func(ctx context.Context, b *storage.Backend) error { _, err := b.Stat(ctx, newKey); return err },
	"delete":      func(ctx context.Context, b *storage.Backend) error { return b.Delete(ctx, smallKey) },
	"get": func(ctx context.Context, b *storage.Backend) error {
		r, err := b.Get(ctx, smallKey, repository.Range{})
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r)
		return errors.Join(err, r.Close())
	},
	"get large": func(ctx context.Context, b *storage.Backend) error {
		r, err := b.Get(ctx, largeKey, repository.Range{})
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r)
		return errors.Join(err, r.Close())
	},
	"get part": func(ctx context.Context, b *storage.Backend) error {
		r, err := b.Get(ctx, smallKey, repository.Range{Offset: 2, Length: 5})
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r)
		return errors.Join(err, r.Close())
	},
	"list": func(ctx context.Context, b *storage.Backend) (last error) {
		for _, err := range b.List(ctx, "default/") {
			last = err
		}
		return last
	},
	"sweep": func(ctx context.Context, b *storage.Backend) error {
		_, err := b.Sweep(ctx, "default/", repository.SweepOptions{})
		return err
	},
}

// An answer that breaks the protocol, or is not true, is an error of the backend that shows the answer.
// It is never success, never "there is nothing", and never the end of the process.
func TestInvalidAnswersAreErrors(t *testing.T) {
	t.Parallel()
	const sayEtag = "ETag"
	edited := func(operation string, edit func(*testenv.Answer)) testenv.HTTPFault {
		return testenv.On(operation, testenv.Edits(edit))
	}
	replaced := func(operation, old, new string) testenv.HTTPFault {
		return edited(operation, func(a *testenv.Answer) { a.Body = strings.Replace(a.Body, old, new, 1) })
	}
	without := func(operation, header string) testenv.HTTPFault {
		return edited(operation, func(a *testenv.Answer) { a.Header.Del(header) })
	}
	says := func(operation, contentType, body string, header ...string) testenv.HTTPFault {
		return testenv.On(operation, testenv.Says(http.StatusOK, contentType, body, header...))
	}
	login := func(operation string) testenv.HTTPFault { return testenv.On(operation, testenv.LoginPage) }
	noLength := testenv.When(func(r *http.Request) bool {
		return testenv.S3Operation(r) == "HeadObject" || r.Header.Get("Range") == "bytes=0-0"
	},
		testenv.Edits(func(a *testenv.Answer) {
			if a.Status < http.StatusMultipleChoices {
				a.Header.Del("Content-Length")
				a.Header.Del("Content-Range")
				a.Status, a.Body = http.StatusOK, ""
			}
		}))
	const html = "the server answered 200 with a page of HTML"
	const denied = "says that there is no such object (404), and GetObject gives it"
	const completed = "<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>"
	inChunks(t, 25, []invalidAnswer{
		{"list", "truncated without a token", testenv.TruncatedWithoutToken, "there are more names, and not how to get them"},
		{"list", "the same page for ever", says("ListObjectsV2", "application/xml", "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken></ListBucketResult>"), "the same page again and again"},
		{"list", "nothing of whether there is more", edited("ListObjectsV2", func(a *testenv.Answer) {
			a.Body = strings.NewReplacer("<IsTruncated>false</IsTruncated>", "", "<MaxKeys>1000<", "<MaxKeys>2<").Replace(a.Body)
		}), "does not say whether there are more names"},
		{"list", "no time", replaced("ListObjectsV2", "<LastModified>", "<Modified>"), "ListObjectsV2: "},
		{"list", "no size", replaced("ListObjectsV2", "<Size>9437184</Size>", ""), `does not give the size and time of "default/large.db"`},
		{"list", "a size below 0", replaced("ListObjectsV2", "<Size>9437184</Size>", "<Size>-1</Size>"), `does not give the size and time of "default/large.db"`},
		{"list", "names that were not asked for", replaced("ListObjectsV2", "<Key>default/large.db", "<Key>another/large.db"), `gives "another/large.db", which was not asked for`},
		{"list", "an empty body", says("ListObjectsV2", "", ""), "ListObjectsV2: the server answered 200 with an empty body"},
		{"list", "another document", says("ListObjectsV2", "application/xml", "<ListAllMyBucketsResult/>"), "a document <ListAllMyBucketsResult> instead of <ListBucketResult>"},
		{"list", "no XML", says("ListObjectsV2", "application/json", `{"ok":true}`), "a body that is not XML"},
		{"list", "half of it", edited("ListObjectsV2", func(a *testenv.Answer) { a.Body = a.Body[:len(a.Body)-30] }), "ListObjectsV2: "},
		{"list", "a login page", login("ListObjectsV2"), "ListObjectsV2: " + html},
		{"list", "an error with 200", says("ListObjectsV2", "", "<Error><Code>InternalError</Code></Error>"), "InternalError"},
		{"list", "404 with a page", testenv.On("ListObjectsV2", testenv.Says(http.StatusNotFound, "text/html", "<html>404</html>")), "answered 404 with a page of HTML"},
		{"list", "pages in a circle", testenv.On("ListObjectsV2", testenv.PagesInACircle), "the same page again and again"},
		{"list", "pages without names for ever", testenv.On("ListObjectsV2", testenv.PagesForEver()), "pages without a new name"},
		{"list", "a document without content", says("ListObjectsV2", "application/xml", "<ListBucketResult/>"), "does not say whether there are more names"},
		{"list", "fewer names than it says", replaced("ListObjectsV2", "<KeyCount>2<", "<KeyCount>3<"), "says that it gives 3 names, and gives 2"},
		{"list", "a name twice", edited("ListObjectsV2", func(a *testenv.Answer) {
			a.Body = strings.Replace(a.Body, "default/small.db", "default/large.db", 1)
		}), "the listing is not in order"},
		{"list", "names out of order", edited("ListObjectsV2", func(a *testenv.Answer) {
			a.Body = strings.NewReplacer("default/small.db", "default/large.db", "default/large.db", "default/small.db").Replace(a.Body)
		}), "the listing is not in order"},
		{"list", "compressed", testenv.On("ListObjectsV2", testenv.Compresses), `a body in the encoding "gzip"`},
		{"list", "a redirect", testenv.On("ListObjectsV2", testenv.Says(302, "", "", "Location", "https://login.example.org/?secret=1")), "answered 302 and sends the client to login.example.org"},
		{"put", "a redirect", testenv.On("PutObject", testenv.Says(307, "text/html", "<html>", "Location", "https://login.example.org/")), "sends the client to login.example.org"},
		{"put", "a redirect of the look at it", testenv.On("HeadObject", testenv.Says(303, "", "", "Location", "/login")), "answered 303 and sends the client to"},
		{"get", "compressed", testenv.On("GetObject", testenv.Compresses), `a body in the encoding "gzip"`},
		{"get", "a redirect", testenv.On("GetObject", testenv.Says(308, "", "", "Location", "https://login.example.org/")), "sends the client to login.example.org"},
		{"get part", "more than a part", testenv.On("GetObject", testenv.Edits(func(a *testenv.Answer) { a.Body += "more" })), "gives more bytes than it said"},
		{"get part", "less than a part", testenv.On("GetObject", testenv.Edits(func(a *testenv.Answer) { a.Body = a.Body[:2] })), "unexpected EOF"},
		{"get part", "another part", testenv.On("GetObject", testenv.Edits(func(a *testenv.Answer) { a.Header.Set("Content-Range", "bytes 0-4/10") })), "where bytes=2-6 was asked for"},
		{"get part", "a part without an end", testenv.On("GetObject", testenv.Edits(func(a *testenv.Answer) { a.Header.Set("Content-Range", "bytes 2-99999999999999999999/9") })), "where bytes=2-6 was asked for"},
		{"delete", "nothing is deleted", testenv.On("DeleteObject", testenv.Says(204, "", "")), "said that it has deleted the object, and still has it"},
		{"delete", "a redirect", testenv.On("DeleteObject", testenv.Says(302, "", "", "Location", "/login")), "answered 302 and sends the client to"},
		{"sweep", "pages in a circle", testenv.On("ListMultipartUploads", testenv.PagesInACircle), "the same page again and again"},
		{"sweep", "pages for ever", testenv.On("ListMultipartUploads", testenv.PagesForEver()), "pages without a new name"},
		{"put", "an empty body", says("PutObject", "", ""), "PutObject: the server answered 200 without ETag or a checksum"},
		{"put", "a login page", login("PutObject"), "PutObject: " + html},
		{"put", "an error with 200", says("PutObject", "", "<Error><Code>InternalError</Code></Error>", sayEtag, "x"), "InternalError"},
		{"put", "stored nowhere", says("PutObject", "", "", sayEtag, `"1"`), "said that it has stored the object, and has none"},
		{"put", "stored by half", halves, "said that it has stored the object, and has 5 bytes of 10"},
		{"put", "a HEAD and a GET without a length", noLength, "HeadObject: the server gives no length"},
		{"replace", "stored nowhere", says("PutObject", "", "", sayEtag, `"1"`), "said that it has stored the object, and still has the one before it"},
		{"put large", "no id: an empty body", says("CreateMultipartUpload", "", ""), "CreateMultipartUpload: the server answered 200 with an empty body"},
		{"put large", "no id: an empty document", says("CreateMultipartUpload", "", "<InitiateMultipartUploadResult><UploadId></UploadId></InitiateMultipartUploadResult>"), "answered 200 without UploadId"},
		{"put large", "no id: a login page", login("CreateMultipartUpload"), "CreateMultipartUpload: " + html},
		{"put large", "a part without an ETag", without("UploadPart", "ETag"), "UploadPart: the server answered 200 without ETag"},
		{"put large", "a part: a login page", login("UploadPart"), "UploadPart: " + html},
		{"put large", "completed with an empty body", says("CompleteMultipartUpload", "", ""), "CompleteMultipartUpload: the server answered 200 with an empty body"},
		{"put large", "completed with a login page", login("CompleteMultipartUpload"), "CompleteMultipartUpload: " + html},
		{"put large", "completed without an ETag", says("CompleteMultipartUpload", "", "<CompleteMultipartUploadResult/>"), "answered 200 without ETag"},
		{"put large", "completed nowhere", says("CompleteMultipartUpload", "", completed), "said that it has stored the object, and has none"},
		{"stat", "no length", noLength, "HeadObject: the server gives no length"},
		{"list", "another listing, which is empty", testenv.On("ListObjectsV2", testenv.AnotherListing), `lists "another", which was not asked for`},
		{"list", "tags without an end", testenv.On("ListObjectsV2", testenv.Repeats("<ListBucketResult>", "<Contents/>", 1<<20)), "more than 250000 tags"},
		{"list", "tags in tags", testenv.On("ListObjectsV2", testenv.Repeats("<ListBucketResult>", "<a>", 4<<20)), "more than 250000 tags"},
		{"list", "a document without an end", testenv.On("ListObjectsV2", testenv.Repeats("<ListBucketResult>", "<!-- and so on -->", 1<<20)), "more than 16777216 bytes"},
		{"list", "a bad character", replaced("ListObjectsV2", "default/small", "default/&#x1;small"), "illegal character"},
		{"list", "headers without an end", testenv.On("ListObjectsV2", testenv.EndlessHeaders), "headers exceeded"},
		{"get", "206 for all of it", edited("GetObject", func(a *testenv.Answer) { a.Status = 206 }), "answered 206 without Content-Range"},
		{"get part", "206 that does not say of what", without("GetObject", "Content-Range"), "answered 206 without Content-Range"},
		{"get", "416", testenv.On("GetObject", testenv.Refuses(416, "InvalidRange")), "GetObject: 416"},
		{"get part", "416", testenv.On("GetObject", testenv.Refuses(416, "InvalidRange")), "GetObject: 416"},
		{"get", "an error behind half of the bytes", testenv.On("GetObject", testenv.ErrorBehindHalf), "more bytes than it said"},
		{"get large", "an error behind half of the bytes", testenv.On("GetObject", testenv.ErrorBehindHalf), "fewer bytes of a part than it said"},
		{"get", "half of the bytes", testenv.On("GetObject", cutBy(5)), "gave 5 bytes of an object of which it says that it has 10"},
		{"get large", "half of the bytes", testenv.On("GetObject", cutBy(mib)), "GetObject: "},
		{"stat", "no ETag", without("HeadObject", "ETag"), "HeadObject: the server answered 200 without ETag"},
		{"stat", "a login page", login("HeadObject"), "HeadObject: " + html},
		{"stat absent", "a page says so", pagesSayAbsent, "answered 404 with a page of HTML"},
		{"stat", "a HEAD that denies it", deniesInHead, denied},
		{"delete", "a HEAD that denies it", deniesInHead, denied},
		{"get", "a login page", login("GetObject"), "GetObject: " + html},
		{"get", "no ETag", without("GetObject", "ETag"), "GetObject: the server answered 200 without ETag"},
		{"get", "404 with a page", testenv.On("GetObject", testenv.Says(http.StatusNotFound, "text/html", "<html>404</html>")), "answered 404 with a page of HTML"},
		{"get", "502 with a page", testenv.On("GetObject", testenv.Says(http.StatusBadGateway, "text/html", "<html>502</html>")), "GetObject: 502"},
		{"get", "nothing", says("GetObject", "", ""), "GetObject: the server answered 200 without ETag"},
		{"delete", "a login page", login("DeleteObject"), "DeleteObject: " + html},
		{"sweep", "a login page", login("ListMultipartUploads"), "ListMultipartUploads: " + html},
		{"sweep", "an empty body", says("ListMultipartUploads", "", ""), "ListMultipartUploads: the server answered 200 with an empty body"},
		{"sweep", "truncated without a marker", says("ListMultipartUploads", "", "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated></ListMultipartUploadsResult>"), "there are more, and not how to get them"},
	}, func(t *testing.T, b bucket, _ []byte, test invalidAnswer) {
		t.Run(test.call+": "+test.name, func(t *testing.T) { test.check(t, b) })
	})
}

// invalidAnswer is a fault of a server, in the answers to a call of a backend.
type invalidAnswer struct {
	call  string
	name  string
	fault testenv.HTTPFault
	want  string // part of the error
}

func (test invalidAnswer) check(t *testing.T, b bucket) {
	t.Cleanup(func() { b.clean(t, newKey) })
	proxy := testenv.StartHTTPProxy(t, b.Addr(), nil)
	proxy.Set(test.fault)
	err := calls[test.call](t.Context(), b.backend(t, proxy.Addr(), ""))
	if snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable || errors.Is(err, snapshot.ErrNotFound) {
		t.Fatalf("got %v (%s), want BACKEND_UNAVAILABLE", err, snapshot.ReasonOf(err))
	}
	if !strings.Contains(err.Error(), test.want) {
		t.Errorf("got %q, want %q in it", err, test.want)
	}
	direct := b.backend(t, b.Addr(), "")
	if o, err := direct.Stat(t.Context(), newKey); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("it is visible: %+v, %v", o, err)
	}
	if left := b.uploads(t); len(left) > 0 && test.name != "completed nowhere" { // those are swept
		t.Errorf("left behind: %q", left)
	}
	if o, err := direct.Stat(t.Context(), smallKey); err != nil || o.Size != 10 {
		t.Errorf("the object from before: %+v, %v", o, err)
	}
}

// inChunks runs tests side by side that wait most of the time: so many at a time share a stocked bucket.
func inChunks[T any](t *testing.T, size int, tests []T, run func(t *testing.T, b bucket, content []byte, test T)) {
	for chunk := range slices.Chunk(tests, size) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			b, content := stocked(t)
			for _, test := range chunk {
				run(t, b, content, test)
			}
		})
	}
}

// Whatever a server answers, a call that succeeds has told the truth.
func TestNoQuirkIsTakenForSuccess(t *testing.T) {
	t.Parallel()
	inChunks(t, 8, testenv.S3Quirks, func(t *testing.T, b bucket, content []byte, quirk testenv.S3Quirk) {
		t.Run(quirk.Name, func(t *testing.T) {
			direct := b.backend(t, b.Addr(), "")
			t.Cleanup(func() { b.clean(t, newKey) })
			proxy := testenv.StartHTTPProxy(t, b.Addr(), nil)
			proxy.Set(quirk.Fault)
			back := b.backend(t, proxy.Addr(), "")
			touches := func(operations ...string) bool {
				return slices.ContainsFunc(append(operations, "HeadObject", "everything"), func(o string) bool {
					return strings.HasPrefix(quirk.Name, o)
				})
			}
			puts := map[string]int64{"put": 10}
			if touches("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "AbortMultipartUpload") {
				puts["put large"] = largeSize
			}
			for call, size := range puts {
				if err := calls[call](t.Context(), back); err == nil {
					if o, err := direct.Stat(t.Context(), newKey); err != nil || o.Size != size {
						t.Errorf("%s: said to be stored, and there is %+v, %v", call, o, err)
					}
				} else if o, err := direct.Stat(t.Context(), newKey); !errors.Is(err, snapshot.ErrNotFound) {
					t.Errorf("%s: said to have failed, and there is %+v, %v", call, o, err)
				}
				b.clean(t, newKey)
			}
			if o, err := back.Stat(t.Context(), smallKey); errors.Is(err, snapshot.ErrNotFound) || err == nil && o.Size != 10 {
				t.Errorf("stat: %+v, %v", o, err)
			}
			if touches("GetObject") {
				if r, err := back.Get(t.Context(), largeKey, repository.Range{}); err == nil {
					if got, err := all(r, len(content)); err == nil && !bytes.Equal(got, content) {
						t.Errorf("get: %d other bytes", len(got))
					}
					_ = r.Close()
				}
			}
			var names []string
			for o, err := range back.List(t.Context(), "default/") {
				if err != nil {
					return
				}
				names = append(names, o.Key)
			}
			if !slices.Equal(names, []string{largeKey, smallKey}) {
				t.Errorf("list: %q, and no error", names)
			}
		})
	})
}

// clean removes the object and the uploads that a test has left under a key.
func (b bucket) clean(t *testing.T, key string) {
	ctx := context.WithoutCancel(t.Context())
	direct := b.backend(t, b.Addr(), "")
	if err := direct.Delete(ctx, key); err != nil {
		t.Error(err)
	}
	if _, err := direct.Sweep(ctx, "default/", repository.SweepOptions{OlderThan: time.Now().Add(time.Hour)}); err != nil {
		t.Error(err)
	}
}

// halves stores the half of an object.
var halves = testenv.On("PutObject", testenv.Resigned(func(r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	body = body[:len(body)/2]
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Amz-Checksum-") || strings.HasPrefix(name, "X-Amz-Sdk-Checksum") {
			r.Header.Del(name)
		}
	}
	r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	r.Header.Set("Content-Length", fmt.Sprint(len(body)))
}))

// deniesInHead is a proxy that does not pass a HEAD on.
var deniesInHead = testenv.On("HeadObject", testenv.Says(http.StatusNotFound, "", ""))

// An object is not gone because a HEAD is told so.
func TestObjectThatAHeadDenies(t *testing.T) {
	t.Parallel()
	b, content := stocked(t)
	direct := b.backend(t, b.Addr(), "")
	if err := direct.Put(t.Context(), newKey, strings.NewReader(""), putOptions(false)); err != nil {
		t.Fatal(err)
	}
	proxy := testenv.StartHTTPProxy(t, b.Addr(), nil)
	proxy.Set(deniesInHead)
	back := b.backend(t, proxy.Addr(), "")
	for key, size := range map[string]int{newKey: 0, smallKey: 10, largeKey: len(content)} {
		_, statErr := back.Stat(t.Context(), key)
		for call, err := range map[string]error{"stat": statErr, "delete": back.Delete(t.Context(), key)} {
			if snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable || errors.Is(err, snapshot.ErrNotFound) {
				t.Errorf("%s %s: got %v (%s), want BACKEND_UNAVAILABLE", call, key, err, snapshot.ReasonOf(err))
			}
		}
		if o, err := direct.Stat(t.Context(), key); err != nil || o.Size != int64(size) {
			t.Errorf("%s: there is %+v, %v", key, o, err)
		}
	}
	t.Run("is neither replaced nor removed by a put", func(t *testing.T) {
		for _, param := range []string{"", "&conditional_writes=false"} {
			for _, ifAbsent := range []bool{true, false} {
				err := b.backend(t, proxy.Addr(), "", withParams(param)).Put(t.Context(), smallKey, strings.NewReader("x"), putOptions(ifAbsent))
				if reason := snapshot.ReasonOf(err); reason != snapshot.ReasonBackendUnavailable && reason != snapshot.ReasonObjectExists {
					t.Errorf("%q, %t: got %v (%s)", param, ifAbsent, err, reason)
				}
				if o, err := direct.Stat(t.Context(), smallKey); err != nil || o.Size != 10 {
					t.Errorf("%q, %t: there is %+v, %v", param, ifAbsent, o, err)
				}
			}
		}
	})
	t.Run("is not stored for sure", func(t *testing.T) {
		err := back.Put(t.Context(), "default/new.json", strings.NewReader("x"), putOptions(true))
		if snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable {
			t.Errorf("got %v (%s), want BACKEND_UNAVAILABLE", err, snapshot.ReasonOf(err))
		}
		// It stays: another replica may have read it already, and built on it.
		if o, err := direct.Stat(t.Context(), "default/new.json"); err != nil || o.Size != 1 {
			t.Errorf("there is %+v, %v", o, err)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		if _, err := back.Stat(t.Context(), "default/none.db"); !errors.Is(err, snapshot.ErrNotFound) {
			t.Errorf("stat: %v", err)
		}
		if err := back.Delete(t.Context(), "default/none.db"); err != nil {
			t.Errorf("delete: %v", err)
		}
	})
	t.Run("stored meanwhile", func(t *testing.T) {
		proxy.Set(testenv.On("HeadObject", testenv.Times(1, testenv.Says(http.StatusNotFound, "", ""))))
		if o, err := back.Stat(t.Context(), smallKey); err != nil || o.Size != 10 {
			t.Errorf("got %+v, %v", o, err)
		}
	})
}

// pagesSayAbsent answers as a server without S3 does.
func pagesSayAbsent(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
	testenv.Says(http.StatusNotFound, "text/html", "<html>404</html>")(w, r, forward)
}

// An upload whose answer breaks the protocol has taken place if its object is there.
func TestAnUploadCountsWhenItsObjectIsThere(t *testing.T) {
	t.Parallel()
	b, _ := stocked(t)
	for call, operation := range map[string]string{"put": "PutObject", "put large": "CompleteMultipartUpload"} {
		proxy := testenv.StartHTTPProxy(t, b.Addr(), nil)
		proxy.Set(testenv.On(operation, testenv.Edits(func(a *testenv.Answer) {
			a.Header, a.Body = http.Header{"Content-Type": {"text/html"}}, "<html>"
		})))
		back := b.backend(t, proxy.Addr(), "")
		if err := calls[call](t.Context(), back); err != nil {
			t.Errorf("%s: %v", call, err)
		}
		wantStored(t, b, call)
		if err := back.Delete(t.Context(), newKey); err != nil {
			t.Errorf("%s: %v", call, err)
		}
	}
}

// A server that keeps no metadata is told by the ETag that it gives.
func TestServerThatKeepsNoMetadata(t *testing.T) {
	t.Parallel()
	b, _ := stocked(t)
	proxy := testenv.StartHTTPProxy(t, b.Addr(), nil)
	proxy.Set(testenv.On("HeadObject", testenv.Edits(func(a *testenv.Answer) { a.Header.Del("X-Amz-Meta-Snapshotd-Put") })))
	for _, call := range []string{"put", "put large", "replace"} {
		if err := calls[call](t.Context(), b.backend(t, proxy.Addr(), "")); err != nil {
			t.Errorf("%s: %v", call, err)
		}
		wantStored(t, b, call)
	}
}

// wantStored checks that the bucket has what one of the calls has put.
func wantStored(t *testing.T, b bucket, call string) {
	t.Helper()
	put := map[string]struct {
		key  string
		size int
	}{"put": {newKey, 10}, "put large": {newKey, largeSize}, "replace": {smallKey, 11}}[call]
	in, err := b.backend(t, b.Addr(), "").Get(t.Context(), put.key, repository.Range{})
	if err != nil {
		t.Fatalf("%s: %v", call, err)
	}
	got, err := io.ReadAll(in)
	if err := errors.Join(err, in.Close()); err != nil || !bytes.Equal(got, make([]byte, put.size)) {
		t.Errorf("%s: there are %d bytes, which are others than the %d that were put; %v", call, len(got), put.size, err)
	}
}

func page(status int) testenv.HTTPFault {
	return testenv.Says(status, "text/html", "<html><h1>"+http.StatusText(status)+"</h1></html>")
}

// cutBy ends an answer early, and says so in its length: a cache that has a part of an object does.
func cutBy(n int) testenv.HTTPFault {
	return testenv.Edits(func(a *testenv.Answer) { a.Body = a.Body[:max(0, len(a.Body)-n)] })
}

// A refusal has the reason and the way out of its cause.
func TestRefusals(t *testing.T) {
	t.Parallel()
	b, _ := stocked(t)
	for _, test := range []struct {
		call   string
		fault  testenv.HTTPFault
		reason snapshot.Reason
		retry  bool
		want   string
	}{
		{"get", testenv.On("GetObject", testenv.Refuses(403, "InvalidObjectState")), snapshot.ReasonBackendUnavailable, false, "restore it in the bucket first"},
		{"get", testenv.On("GetObject", testenv.Refuses(403, "AccessDenied")), snapshot.ReasonBackendAccessDenied, false, "s3:GetObject"},
		{"get", testenv.On("GetObject", testenv.Refuses(503, "SlowDown")), snapshot.ReasonBackendUnavailable, true, "503 SlowDown"},
		{"stat", testenv.On("HeadObject", testenv.Says(403, "", "")), snapshot.ReasonBackendAccessDenied, false, "s3:ListBucket"},
		{"stat absent", nil, snapshot.ReasonObjectNotFound, false, "not found"},
		{"put", testenv.On("PutObject", testenv.Refuses(301, "PermanentRedirect")), snapshot.ReasonBackendUnavailable, false, "set region="},
		{"put", testenv.On("PutObject", page(413)), snapshot.ReasonBackendUnavailable, false, "limits the size of a request"},
		{"put", testenv.On("PutObject", page(407)), snapshot.ReasonBackendUnavailable, false, "check the proxy"},
		{"put", page(511), snapshot.ReasonBackendUnavailable, false, "wants a login"},
		{"put", testenv.On("PutObject", page(403)), snapshot.ReasonBackendAccessDenied, false, "a proxy or a firewall"},
		{"put", testenv.On("PutObject", testenv.Refuses(400, "RequestTimeout")), snapshot.ReasonBackendUnavailable, true, "look at the network"},
		{"put", testenv.On("PutObject", testenv.Refuses(400, "BadDigest")), snapshot.ReasonBackendUnavailable, true, "arrived changed"},
		{"put", testenv.On("PutObject", testenv.Refuses(400, "IncompleteBody")), snapshot.ReasonBackendUnavailable, true, "look at the network"},
		{"put", testenv.On("PutObject", testenv.Refuses(400, "TokenRefreshRequired")), snapshot.ReasonBackendAccessDenied, false, "has expired"},
		{"put", testenv.On("PutObject", testenv.Refuses(403, "RequestExpired")), snapshot.ReasonBackendAccessDenied, false, "the clocks"},
		{"put", testenv.On("PutObject", testenv.Says(403, "application/xml", "<Error><Code>AccessDenied</Code><Message>Cannot upload files, storage cap exceeded.</Message></Error>")), snapshot.ReasonNoSpace, true, "free space"},
		{"put", testenv.On("PutObject", testenv.Says(503, "", "", "Retry-After", "86400", "X-Amz-Retry-After", "86400000")), snapshot.ReasonBackendUnavailable, true, "503"},
		{"put large", testenv.On("CompleteMultipartUpload", testenv.Refuses(400, "EntityTooSmall")), snapshot.ReasonBackendUnavailable, false, "larger parts"},
		{"put large", testenv.On("CompleteMultipartUpload", testenv.Refuses(400, "InvalidPart")), snapshot.ReasonBackendUnavailable, true, "InvalidPart"},
		{"put large", testenv.On("UploadPart", testenv.Refuses(400, "ExpiredToken")), snapshot.ReasonBackendAccessDenied, false, "has expired"},
		{"put large", testenv.On("UploadPart", page(413)), snapshot.ReasonBackendUnavailable, false, "limits the size of a request"},
	} {
		proxy := testenv.StartHTTPProxy(t, b.Addr(), nil)
		proxy.Set(test.fault)
		err := calls[test.call](t.Context(), b.backend(t, proxy.Addr(), ""))
		e, ok := errors.AsType[*snapshot.Error](err)
		if !ok || e.Reason != test.reason || e.Retry > 0 != test.retry || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v (%s), want %s and %q", test.call, err, snapshot.ReasonOf(err), test.reason, test.want)
		}
	}
}

// Servers without a feature are used without it, or are refused with the parameter that helps.
func TestServersThatLackAFeature(t *testing.T) {
	t.Parallel()
	b, content := stocked(t)
	back := func(t *testing.T, fault testenv.HTTPFault, params string) (*storage.Backend, *testenv.HTTPProxy) {
		t.Helper()
		proxy := testenv.StartHTTPProxy(t, b.Addr(), nil)
		proxy.Set(fault)
		return b.backend(t, proxy.Addr(), "", withParams(params)), proxy
	}
	putNew := func(t *testing.T, b *storage.Backend, size int, ifAbsent bool) error {
		t.Helper()
		opts := putOptions(ifAbsent)
		opts.SizeHint = int64(size)
		err := b.Put(t.Context(), newKey, bytes.NewReader(random()[:size]), opts)
		if err == nil {
			err = b.Delete(t.Context(), newKey)
		}
		return err
	}
	refused := func(t *testing.T, err error, param string) {
		t.Helper()
		e, ok := errors.AsType[*snapshot.Error](err)
		if !ok || e.Reason != snapshot.ReasonBackendUnavailable || e.Retry != 0 || !strings.Contains(e.Hint, param) {
			t.Errorf("got %v, want BACKEND_UNAVAILABLE, no retry, and %s", err, param)
		}
	}
	t.Run("conditional writes", func(t *testing.T) {
		for _, size := range []int{10, 9 * mib} {
			plain, _ := back(t, testenv.RefusesConditions, "")
			refused(t, putNew(t, plain, size, true), "conditional_writes=false")
			without, _ := back(t, testenv.RefusesConditions, "&conditional_writes=false")
			if err := putNew(t, without, size, true); err != nil {
				t.Error(err)
			}
		}
		for name, fault := range map[string]testenv.HTTPFault{"refused": testenv.RefusesConditions, "ignored": testenv.IgnoresConditions} {
			without, _ := back(t, fault, "&conditional_writes="+fmt.Sprint(name == "ignored"))
			err := without.Put(t.Context(), smallKey, strings.NewReader("x"), putOptions(true))
			if !errors.Is(err, snapshot.ErrExists) || snapshot.ReasonOf(err) != snapshot.ReasonObjectExists {
				t.Errorf("%s: over an object: %v", name, err)
			}
		}
	})
	t.Run("a conflict that passes", func(t *testing.T) {
		const put, complete = "PutObject", "CompleteMultipartUpload"
		for _, test := range []struct {
			operation string
			size      int
			conflict  testenv.HTTPFault
			times     int64
		}{
			{put, 10, testenv.Refuses(409, "ConditionalRequestConflict"), 1},
			{complete, 9 * mib, testenv.Refuses(409, "ConditionalRequestConflict"), 1},
			{put, 10, testenv.Refuses(409, "Conflict"), 1},
			{put, 10, page(409), 1},
			{put, 10, testenv.Says(409, "", ""), 2},
			{complete, 9 * mib, testenv.Says(409, "", ""), 1},
		} {
			again, proxy := back(t, testenv.On(test.operation, testenv.Times(test.times, test.conflict)), "")
			if err := putNew(t, again, test.size, true); err != nil || int64(proxy.Counts()[test.operation]) != test.times+1 {
				t.Errorf("%s was sent %d times: %v", test.operation, proxy.Counts()[test.operation], err)
			}
		}
	})
	t.Run("a conflict that is none of the condition's", func(t *testing.T) {
		once, proxy := back(t, testenv.On("PutObject", testenv.Refuses(409, "InvalidBucketState")), "")
		if err := putNew(t, once, 10, false); err == nil || proxy.Counts()["PutObject"] != 1 {
			t.Errorf("it was sent %d times: %v", proxy.Counts()["PutObject"], err)
		}
	})
	t.Run("a conflict that stays", func(t *testing.T) {
		still, _ := back(t, testenv.On("PutObject", testenv.Refuses(409, "ConditionalRequestConflict")), "")
		if e, ok := errors.AsType[*snapshot.Error](putNew(t, still, 10, true)); !ok || e.Retry == 0 {
			t.Errorf("got %v, want a retry", e)
		}
	})
	t.Run("checksums behind the body", func(t *testing.T) {
		for status, code := range map[int]string{501: "NotImplemented", 400: "InvalidArgument"} {
			for _, size := range []int{10, 9 * mib} {
				proxy := testenv.StartHTTPProxy(t, b.Addr(), nil)
				proxy.Set(testenv.RefusesTrailers(status, code))
				front, ca := frontOf(t, proxy.Addr())
				overTLS := func(params string) *storage.Backend {
					return b.backend(t, front, "", withParams("&ca_cert="+url.QueryEscape(ca)+params), func(c *storage.Config) {
						c.URL = strings.Replace(c.URL, "http%3A", "https%3A", 1)
					})
				}
				refused(t, putNew(t, overTLS(""), size, false), "request_checksum_calculation=when_required")
				if err := putNew(t, overTLS("&request_checksum_calculation=when_required"), size, false); err != nil {
					t.Error(err)
				}
			}
		}
	})
	t.Run("a signed Accept-Encoding", func(t *testing.T) {
		google, _ := back(t, testenv.RefusesSignedAcceptEncoding, "")
		for _, size := range []int{10, 9 * mib} {
			if err := putNew(t, google, size, true); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("Expect", func(t *testing.T) {
		old, proxy := back(t, testenv.RefusesExpect, "")
		for range 2 {
			if err := putNew(t, old, 7*mib, false); err != nil {
				t.Error(err)
			}
		}
		if n := proxy.Counts()["PutObject"]; n != 3 {
			t.Errorf("PutObject was sent %d times; the second upload should know", n)
		}
	})
	t.Run("parts", func(t *testing.T) {
		few, _ := back(t, testenv.MostParts(2), "")
		refused(t, putNew(t, few, 17*mib, false), "max_parts=")
		if err := putNew(t, few, 16*mib, false); err != nil {
			t.Error(err)
		}
		told, proxy := back(t, testenv.MostParts(2), "&max_parts=2")
		if err := putNew(t, told, 17*mib, false); err != nil || proxy.Counts()["UploadPart"] > 2 {
			t.Errorf("%v in %d parts", err, proxy.Counts()["UploadPart"])
		}
	})
	t.Run("a listing of uploads", func(t *testing.T) {
		for status, code := range map[int]string{405: "MethodNotAllowed", 400: "InvalidArgument", 501: "NotImplemented"} {
			none, _ := back(t, testenv.On("ListMultipartUploads", testenv.Refuses(status, code)), "")
			if n, err := none.Sweep(t.Context(), "default/", repository.SweepOptions{}); n != 0 || err != nil {
				t.Errorf("%d: swept %d, %v", status, n, err)
			}
		}
		expired, _ := back(t, testenv.On("ListMultipartUploads", testenv.Refuses(400, "ExpiredToken")), "")
		if _, err := expired.Sweep(t.Context(), "default/", repository.SweepOptions{}); snapshot.ReasonOf(err) != snapshot.ReasonBackendAccessDenied {
			t.Errorf("with a token that has expired: %v", err)
		}
	})
	t.Run("Range", func(t *testing.T) {
		whole, proxy := back(t, testenv.IgnoresRange, "")
		for n := range 2 {
			before := proxy.Counts()["GetObject"]
			r, err := whole.Get(t.Context(), largeKey, repository.Range{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := all(r, len(content))
			if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, content) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			if made := proxy.Counts()["GetObject"] - before; n == 1 && made != 1 {
				t.Errorf("it took %d requests, though the server was known", made)
			}
		}
		for _, x := range []repository.Range{{Offset: 8*mib - 50, Length: 100}, {Offset: 1}, {Offset: 0, Length: 5}, {Offset: 18 * mib, Length: 5}} {
			first, _ := back(t, testenv.IgnoresRange, "")
			r, err := first.Get(t.Context(), largeKey, x)
			if err != nil {
				t.Fatal(err)
			}
			want := content[min(x.Offset, int64(len(content))):]
			if x.Length > 0 {
				want = want[:min(x.Length, int64(len(want)))]
			}
			if got, err := all(r, len(want)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%+v: got %d bytes, %v", x, len(got), err)
			}
			_ = r.Close()
		}
	})
}
