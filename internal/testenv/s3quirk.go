package testenv

import (
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// S3Quirk is a way in which some servers differ from S3, imitated in front of a real one.
type S3Quirk struct {
	Name  string
	Fault HTTPFault
}

// S3Quirks are quirks that a client can do nothing about: it must tell of them, and must not take them for success.
var S3Quirks = []S3Quirk{
	{"listing that is truncated and has no token", TruncatedWithoutToken},
	{"PutObject: 200 and an empty body", On("PutObject", Says(http.StatusOK, "", ""))},
	{"PutObject: a login page", On("PutObject", LoginPage)},
	{"PutObject: stored nowhere", On("PutObject",
		Says(http.StatusOK, "", "", "ETag", `"d41d8cd98f00b204e9800998ecf8427e"`))},
	{"CreateMultipartUpload: 200 and an empty body", On("CreateMultipartUpload", Says(http.StatusOK, "", ""))},
	{"CreateMultipartUpload: a login page", On("CreateMultipartUpload", LoginPage)},
	{"UploadPart: 200 and an empty body", On("UploadPart", Says(http.StatusOK, "", ""))},
	{"CompleteMultipartUpload: 200 and an empty body", On("CompleteMultipartUpload", Says(http.StatusOK, "", ""))},
	{"CompleteMultipartUpload: a login page", On("CompleteMultipartUpload", LoginPage)},
	{"listing: 200 and an empty body", On("ListObjectsV2", Says(http.StatusOK, "", ""))},
	{"listing: a login page", On("ListObjectsV2", LoginPage)},
	{"HeadObject: a login page", On("HeadObject", LoginPage)},
	{"GetObject: a login page", On("GetObject", LoginPage)},
	{"GetObject: 502", On("GetObject", Says(http.StatusBadGateway, "text/html", "<html><h1>502 Bad Gateway</h1></html>"))},
	{"GetObject: 403", On("GetObject", Refuses(http.StatusForbidden, "AccessDenied"))},
	{"GetObject: a cold storage class", On("GetObject", Refuses(http.StatusForbidden, "InvalidObjectState"))},
	{"everything: a login page", LoginPage},
	{"everything: a redirect", Says(http.StatusFound, "text/html", "", "Location", "https://login.example.org/")},
	{"listing: pages in a circle", On("ListObjectsV2", PagesInACircle)},
	{"listing: pages for ever", On("ListObjectsV2", PagesForEver())},
	{"listing: compressed", On("ListObjectsV2", Compresses)},
	{"listing: a name twice", On("ListObjectsV2", Edits(func(a *Answer) {
		if i, j := strings.Index(a.Body, "<Contents>"), strings.Index(a.Body, "</Contents>"); i >= 0 {
			a.Body = a.Body[:i] + a.Body[i:j] + "</Contents>" + a.Body[i:]
		}
	}))},
	{"GetObject: compressed", On("GetObject", Compresses)},
	{"GetObject: another ETag each time", On("GetObject", anotherETag())},
	{"DeleteObject: nothing is deleted", On("DeleteObject", Says(http.StatusNoContent, "", ""))},
	{"DeleteObject: a login page", On("DeleteObject", LoginPage)},
	{"listing: a cached one of another prefix", On("ListObjectsV2", AnotherListing)},
	{"listing: more tags than memory", On("ListObjectsV2",
		Repeats("<ListBucketResult><IsTruncated>false</IsTruncated>", "<Contents/>", 1<<20))},
	{"listing: deeper than memory", On("ListObjectsV2", Repeats("<ListBucketResult>", "<a>", 4<<20))},
	{"listing: a document without an end", On("ListObjectsV2",
		Repeats("<ListBucketResult>", "<!-- and so on -->", 1<<20))},
	{"listing: entities in entities", On("ListObjectsV2", Says(http.StatusOK, "application/xml", entities))},
	{"everything: headers without an end", EndlessHeaders},
	{"GetObject: 206 that does not say of what", On("GetObject", Edits(func(a *Answer) {
		a.Status = http.StatusPartialContent
		a.Header.Del("Content-Range")
	}))},
	{"GetObject: 416", On("GetObject", Refuses(http.StatusRequestedRangeNotSatisfiable, "InvalidRange"))},
	{"GetObject: an error behind half of the bytes", On("GetObject", ErrorBehindHalf)},
	{"CompleteMultipartUpload: EntityTooSmall", On("CompleteMultipartUpload",
		Refuses(http.StatusBadRequest, "EntityTooSmall"))},
	{"UploadPart: a proxy's 413", On("UploadPart",
		Says(http.StatusRequestEntityTooLarge, "text/html", "<html><h1>413 Request Entity Too Large</h1></html>"))},
	{"UploadPart: the token has expired", On("UploadPart", Refuses(http.StatusBadRequest, "ExpiredToken"))},
	{"everything: a firewall's page with 403", Says(http.StatusForbidden, "text/html", "<html><h1>Blocked</h1></html>")},
	{"AbortMultipartUpload: 403", On("AbortMultipartUpload", Refuses(http.StatusForbidden, "AccessDenied"))},
}

// S3Lacks are features of S3 that some servers do without. A client works without them, without any parameter.
var S3Lacks = []S3Quirk{
	{"Range", IgnoresRange},
	{"If-None-Match, without a word", IgnoresConditions},
	{"listing of uploads", On("ListMultipartUploads", Refuses(http.StatusMethodNotAllowed, "MethodNotAllowed"))},
	{"listing of uploads, with 400", On("ListMultipartUploads", Refuses(http.StatusBadRequest, "InvalidArgument"))},
	{"a signed Accept-Encoding", RefusesSignedAcceptEncoding},
	{"Expect", RefusesExpect},
	{"a length in HEAD", On("HeadObject", Edits(func(a *Answer) { a.Header.Del("Content-Length") }))},
	{"a true length in HEAD: that of the compressed object", On("HeadObject", Edits(func(a *Answer) {
		a.Header.Set("Content-Encoding", "gzip")
		a.Header.Set("Content-Length", "7")
	}))},
	{"types of answers", CallsThemHTML},
	{"one form of ETags, and metadata", OtherETags},
	{"an end without a token", TokenAtTheEnd},
	{"names as they are", NamesAsURLs},
	{"XML without marks and blanks before it", On("ListObjectsV2",
		Edits(func(a *Answer) { a.Body = "\ufeff\r\n" + a.Body }))},
	{"XML namespaces", On("ListObjectsV2", Edits(func(a *Answer) {
		a.Body = strings.ReplaceAll(a.Body, ` xmlns="http://s3.amazonaws.com/doc/2006-03-01/"`, "")
	}))},
	{"ranges that end behind the object", RefusesRangeBehindEnd},
	{"HTTP/1.1", When(func(r *http.Request) bool {
		return r.Method == http.MethodGet && S3Operation(r) != "GetObject"
	}, AnswersHTTP10)},
	{"an object at once", ShowsLater(4)},
	{"metadata", On("HeadObject", Edits(func(a *Answer) { a.Header.Del("X-Amz-Meta-Snapshotd-Put") }))},
}

// On lets a fault have the requests of one operation, as [S3Operation] names it.
func On(operation string, fault HTTPFault) HTTPFault {
	return When(func(r *http.Request) bool { return S3Operation(r) == operation }, fault)
}

// When lets a fault have some requests.
func When(is func(*http.Request) bool, fault HTTPFault) HTTPFault {
	return func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
		if is(r) {
			fault(w, r, forward)
			return
		}
		forward(w, r)
	}
}

// Times lets a fault have the first n requests.
func Times(n int64, fault HTTPFault) HTTPFault {
	var had atomic.Int64
	return When(func(*http.Request) bool { return had.Add(1) <= n }, fault)
}

// Says answers with a body, and headers as pairs of name and value.
func Says(status int, contentType, body string, header ...string) HTTPFault {
	return func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		_, _ = io.Copy(io.Discard, r.Body)
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		for pair := range slices.Chunk(header, 2) {
			w.Header()[pair[0]] = []string{pair[1]}
		}
		if r.Method == http.MethodHead {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// LoginPage answers as a network does that wants a password first.
func LoginPage(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
	const page = `<!DOCTYPE html><html><head><title>Sign in</title></head>` +
		`<body><form action="/login">Password<input></form></body></html>`
	Says(http.StatusOK, "text/html; charset=utf-8", page)(w, r, forward)
}

// Refuses answers with an error of S3.
func Refuses(status int, code string) HTTPFault {
	return func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		_, _ = io.Copy(io.Discard, r.Body)
		s3Error(w, status, code)
	}
}

func s3Error(w http.ResponseWriter, status int, code string) {
	const doc = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>made by a test</Message></Error>`
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, doc, code)
}

// Answer is the server's answer, to be edited.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Edits changes the answers of the server.
func Edits(edit func(*Answer)) HTTPFault {
	return func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
		got := httptest.NewRecorder()
		forward(got, r)
		a := &Answer{Status: got.Code, Header: got.Header(), Body: got.Body.String()}
		if r.Method != http.MethodHead {
			a.Header.Del("Content-Length") // it is set anew
		}
		edit(a)
		maps.Copy(w.Header(), a.Header)
		w.WriteHeader(a.Status)
		_, _ = io.WriteString(w, a.Body)
	}
}

// Resigned changes requests and signs them again, as if the client had sent them so.
func Resigned(edit func(*http.Request)) HTTPFault {
	return func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
		edit(r)
		r.Header.Del("Authorization")
		at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		if err == nil {
			sign := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
			err = sign.SignHTTP(r.Context(), s3Keys, r, r.Header.Get("X-Amz-Content-Sha256"), "s3", s3Region, at)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		forward(w, r)
	}
}

var nextToken = regexp.MustCompile(`<NextContinuationToken>.*</NextContinuationToken>`)

// TruncatedWithoutToken says of each page of a listing that there are more, and not how to get them.
var TruncatedWithoutToken = On("ListObjectsV2", Edits(func(a *Answer) {
	a.Body = strings.Replace(nextToken.ReplaceAllString(a.Body, ""), "<IsTruncated>false<", "<IsTruncated>true<", 1)
}))

// IgnoresRange does not know Range: it gives whole objects.
var IgnoresRange = When(func(r *http.Request) bool { return r.Header.Get("Range") != "" },
	Resigned(func(r *http.Request) { r.Header.Del("Range") }))

// IgnoresConditions stores whatever If-None-Match says.
var IgnoresConditions = When(isConditional, Resigned(func(r *http.Request) { r.Header.Del("If-None-Match") }))

// RefusesConditions does not know If-None-Match.
var RefusesConditions = When(isConditional, Refuses(http.StatusNotImplemented, "NotImplemented"))

func isConditional(r *http.Request) bool { return r.Header.Get("If-None-Match") != "" }

// RefusesTrailers does not know checksums that follow the body.
func RefusesTrailers(status int, code string) HTTPFault {
	return When(func(r *http.Request) bool { return r.Header.Get("X-Amz-Trailer") != "" }, Refuses(status, code))
}

// RefusesSignedAcceptEncoding is Google's: a proxy there changes the header before the signature is looked at.
var RefusesSignedAcceptEncoding = When(func(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Authorization"), "accept-encoding")
}, Refuses(http.StatusForbidden, "SignatureDoesNotMatch"))

// RefusesExpect does not know Expect: 100-continue. It takes the body all the same when the client sends it, so that
// the answer is not lost with the connection.
var RefusesExpect = When(func(r *http.Request) bool { return r.Header.Get("Expect") != "" },
	func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		h, ok := w.(http.Hijacker)
		if !ok {
			return
		}
		conn, _, err := h.Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn)
	})

// MostParts takes so many parts of an upload.
func MostParts(n int) HTTPFault {
	return When(func(r *http.Request) bool {
		part, err := strconv.Atoi(r.URL.Query().Get("partNumber"))
		return err == nil && part > n
	}, Refuses(http.StatusBadRequest, "InvalidArgument"))
}

// PagesInACircle gives three pages of a listing, of objects or of uploads, each of which leads to the next, for ever.
func PagesInACircle(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
	next := map[string]string{"": "a", "a": "b", "b": "c", "c": "a"}
	q := r.URL.Query()
	emptyPage(w, r, next[q.Get("continuation-token")+q.Get("key-marker")])
}

// PagesForEver gives one page of a listing after the other without a name, each with a token of its own.
func PagesForEver() HTTPFault {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		emptyPage(w, r, fmt.Sprintf("a%09d", 1_000_000_000-n.Add(1))) // markers do not grow, either
	}
}

// emptyPage answers with a page of a listing that has no name, and says that there are more.
func emptyPage(w http.ResponseWriter, r *http.Request, token string) {
	root := "ListBucketResult"
	if r.URL.Query().Has("uploads") {
		root = "ListMultipartUploadsResult"
	}
	const doc = `<%[1]s><IsTruncated>true</IsTruncated><NextContinuationToken>%[2]s</NextContinuationToken>` +
		`<NextKeyMarker>%[2]s</NextKeyMarker></%[1]s>`
	Says(http.StatusOK, "application/xml", fmt.Sprintf(doc, root, token))(w, r, nil)
}

// Compresses does what some proxies do to answers.
var Compresses = Edits(func(a *Answer) {
	var b strings.Builder
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, a.Body)
	_ = z.Close()
	a.Body = b.String()
	a.Header.Set("Content-Encoding", "gzip")
})

// anotherETag is that of an object which is replaced all the time.
func anotherETag() HTTPFault {
	var n atomic.Int64
	return Edits(func(a *Answer) { a.Header.Set("ETag", fmt.Sprintf(`"%032x"`, n.Add(1))) })
}
