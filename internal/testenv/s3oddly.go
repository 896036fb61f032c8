package testenv

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// AnotherListing answers like a cache that does not look at parameters: with a listing of another prefix, which is
// empty.
func AnotherListing(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
	const doc = `<ListBucketResult><Name>b</Name><Prefix>another/</Prefix><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys>` +
		`<IsTruncated>false</IsTruncated></ListBucketResult>`
	Says(http.StatusOK, "application/xml", doc)(w, r, nil)
}

// Repeats answers with a document that repeats a part so many times, and has no end.
func Repeats(begin, part string, times int) HTTPFault {
	return func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		w.Header().Set("Content-Type", "application/xml")
		_, _ = io.WriteString(w, begin)
		const chunk = 1 << 12
		many := strings.Repeat(part, chunk)
		for n := 0; n < times && r.Context().Err() == nil; n += chunk {
			if _, err := io.WriteString(w, many); err != nil {
				return
			}
		}
	}
}

// entities is a document that is small, and large when it is read by the rules of XML.
const entities = `<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">` +
	`<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;">]>` +
	`<ListBucketResult><IsTruncated>false</IsTruncated><Name>&c;</Name></ListBucketResult>`

// EndlessHeaders answers with one header after the other.
func EndlessHeaders(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
	h, ok := w.(http.Hijacker)
	if !ok {
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	conn, _, err := h.Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
	for n := 0; err == nil; n++ {
		_, err = fmt.Fprintf(conn, "X-Header-%d: %s\r\n", n, strings.Repeat("x", 1000))
	}
}

// ErrorBehindHalf gives the half of an object and an error behind it, in an answer that does not say its length.
func ErrorBehindHalf(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
	got := httptest.NewRecorder()
	forward(got, r)
	maps.Copy(w.Header(), got.Header())
	w.Header().Del("Content-Length")
	w.WriteHeader(got.Code)
	_, _ = w.Write(got.Body.Bytes()[:got.Body.Len()/2])
	_ = http.NewResponseController(w).Flush()
	_, _ = io.WriteString(w, "<Error><Code>InternalError</Code></Error>")
}

// CallsThemHTML is Google's: documents and empty answers are text/html.
var CallsThemHTML = When(func(r *http.Request) bool {
	return r.Method != http.MethodHead && S3Operation(r) != "GetObject"
}, Edits(func(a *Answer) {
	if a.Status < http.StatusMultipleChoices {
		a.Header.Set("Content-Type", "text/html; charset=UTF-8")
	}
}))

// OtherETags is a server that keeps no metadata, and whose ETags have quotes in some answers.
var OtherETags = When(func(r *http.Request) bool {
	return slices.Contains([]string{"HeadObject", "PutObject"}, S3Operation(r))
},
	Edits(func(a *Answer) {
		a.Header.Del("X-Amz-Meta-Snapshotd-Put")
		if a.Header.Get("Last-Modified") == "" {
			a.Header.Set("ETag", strings.Trim(a.Header.Get("ETag"), `"`))
		}
	}))

// TokenAtTheEnd says that there are no more names, gives a token, and begins again when it comes back.
var TokenAtTheEnd = On("ListObjectsV2", func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
	edit := Edits(func(a *Answer) {
		a.Body = strings.Replace(a.Body, "<IsTruncated>false</IsTruncated>",
			"<IsTruncated>false</IsTruncated><NextContinuationToken>again</NextContinuationToken>", 1)
	})
	if r.URL.Query().Get("continuation-token") != "again" {
		edit(w, r, forward)
		return
	}
	Resigned(func(r *http.Request) {
		q := r.URL.Query()
		q.Del("continuation-token")
		r.URL.RawQuery = q.Encode()
	})(w, r, func(w http.ResponseWriter, r *http.Request) { edit(w, r, forward) })
})

var listedName = regexp.MustCompile(`<(Key|Prefix)>[^<]*</`)

// NamesAsURLs gives names in the form of a URL, and says so.
var NamesAsURLs = On("ListObjectsV2", Edits(func(a *Answer) {
	a.Body = listedName.ReplaceAllStringFunc(a.Body, func(s string) string {
		return strings.NewReplacer("-", "%2D", ".", "%2E").Replace(s)
	})
	a.Body = strings.Replace(a.Body, "<EncodingType></EncodingType>", "<EncodingType>url</EncodingType>", 1)
}))

// RefusesRangeBehindEnd refuses a range whose last byte the object does not have.
var RefusesRangeBehindEnd = On("GetObject", func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
	_, last, _ := strings.Cut(r.Header.Get("Range"), "-")
	Edits(func(a *Answer) {
		_, total, _ := strings.Cut(a.Header.Get("Content-Range"), "/")
		size, _ := strconv.ParseInt(total, 10, 64)
		if end, err := strconv.ParseInt(last, 10, 64); err == nil && total != "" && end >= size {
			a.Status, a.Body = http.StatusRequestedRangeNotSatisfiable, "<Error><Code>InvalidRange</Code></Error>"
			a.Header = http.Header{"Content-Type": {"application/xml"}}
		}
	})(w, r, forward)
})

// AnswersHTTP10 gives a document without a length, which ends with the connection.
func AnswersHTTP10(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
	got := httptest.NewRecorder()
	forward(got, r)
	h, ok := w.(http.Hijacker)
	if !ok {
		return
	}
	conn, _, err := h.Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprintf(conn, "HTTP/1.0 %d %s\r\nContent-Type: application/xml\r\n\r\n",
		got.Code, http.StatusText(got.Code))
	_, _ = conn.Write(got.Body.Bytes())
}

// ShowsLater shows an object only when it was looked for so many times after it was stored.
func ShowsLater(looks int) HTTPFault {
	var mu sync.Mutex
	hidden := map[string]int{}
	return func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
		mu.Lock()
		switch S3Operation(r) {
		case "PutObject", "CompleteMultipartUpload":
			hidden[r.URL.Path] = looks
		case "HeadObject":
			hidden[r.URL.Path]--
		}
		unseen := S3Operation(r) == "HeadObject" && hidden[r.URL.Path] > 0
		mu.Unlock()
		if unseen {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		forward(w, r)
	}
}
