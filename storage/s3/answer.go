package s3

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	// maxErrorBody is how much of an answer is read that is not of use: the SDK would read all of it into memory.
	maxErrorBody = 1 << 20
	// maxDocument is how large a page of a listing may be: 1,000 keys of 1,024 bytes, escaped, with all that is said of
	// them.
	maxDocument = 16 << 20
	// maxMarkup is how many tags such a page may have: a decoder needs more memory for a tag than the tag has bytes.
	maxMarkup = 250_000
)

// demand lists the parts that the protocol demands of a good answer to an operation. The SDK takes an answer without
// them for success, or dereferences the nil that it makes of it.
type demand struct {
	headers  []string
	anyOf    []string // headers, one of which is enough
	root     string   // of the XML document in the body; none when empty
	elements []string // of the root, which are not empty
}

// proofs are the headers that prove that a server has stored a body.
var proofs = []string{
	"ETag", "X-Amz-Checksum-Crc32", "X-Amz-Checksum-Crc32c", "X-Amz-Checksum-Crc64nvme", "X-Amz-Checksum-Sha1",
	"X-Amz-Checksum-Sha256",
}

var demands = map[string]demand{
	"PutObject":               {anyOf: proofs},
	"UploadPart":              {headers: []string{"ETag"}},
	"CreateMultipartUpload":   {root: "InitiateMultipartUploadResult", elements: []string{"UploadId"}},
	"CompleteMultipartUpload": {root: "CompleteMultipartUploadResult", elements: []string{"ETag"}},
	"HeadObject":              {headers: []string{"ETag", "Last-Modified"}}, // see measure
	"GetObject":               {headers: []string{"ETag"}},
	"ListObjectsV2":           {root: "ListBucketResult"},
	"ListMultipartUploads":    {root: "ListMultipartUploadsResult"},
	"ListParts":               {root: "ListPartsResult"},
}

// answerError is an answer that breaks the protocol: a part that it demands is missing, or it is not true.
type answerError struct{ text, hint string }

func (e *answerError) Error() string { return e.text }

// badAnswer returns the error for an answer that breaks the protocol.
func badAnswer(format string, args ...any) error {
	const hint = "this is not an answer of S3: check endpoint=, and the proxies and load balancers on the way"
	return &answerError{fmt.Sprintf(format, args...), hint}
}

// unproved returns the error for an upload that a server says it has stored.
func unproved(format string, args ...any) error {
	const hint = "the server does not keep what it is given; look at its disks and its log"
	return &answerError{fmt.Sprintf("the server said that it has stored the object, and "+format, args...), hint}
}

// answerCheck refuses answers that break the protocol, before the SDK reads them.
type answerCheck struct{}

// ID implements [middleware.DeserializeMiddleware].
func (answerCheck) ID() string { return "snapshotd:AnswerCheck" }

// HandleDeserialize implements [middleware.DeserializeMiddleware].
func (answerCheck) HandleDeserialize(
	ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler,
) (out middleware.DeserializeOutput, metadata middleware.Metadata, err error) {
	out, metadata, err = next.HandleDeserialize(ctx, in)
	resp, ok := out.RawResponse.(*smithyhttp.Response)
	if err != nil || !ok {
		return out, metadata, err
	}
	operation := awsmiddleware.GetOperationName(ctx)
	if err = checkAnswer(operation, resp.Response); err != nil {
		_ = resp.Body.Close()
	}
	return out, metadata, err
}

func checkAnswer(operation string, resp *http.Response) error {
	if resp.StatusCode >= http.StatusMultipleChoices {
		return checkRefusal(operation, resp)
	}
	d := demands[operation]
	if err := checkContent(operation, resp); err != nil {
		return err
	}
	if d.root != "" {
		return d.checkDocument(resp)
	}
	if operation != "GetObject" && resp.Body != nil {
		if failed, err := hidesFailure(resp); failed || err != nil {
			return err
		}
	}
	has := func(name string) bool { return resp.Header.Get(name) != "" }
	if missing := slices.DeleteFunc(slices.Clone(d.headers), has); len(missing) > 0 {
		return badAnswer("the server answered %d without %s", resp.StatusCode, strings.Join(missing, ", "))
	}
	if len(d.anyOf) > 0 && !slices.ContainsFunc(d.anyOf, has) {
		return badAnswer("the server answered %d without %s or a checksum", resp.StatusCode, d.anyOf[0])
	}
	if operation == "GetObject" {
		return checkBody(resp)
	}
	return nil
}

// checkContent refuses a body that is a page or is encoded. The type alone says nothing of an answer without a body, or
// with a document that is right: Google calls those text/html. A HEAD of an object that a proxy would compress gives
// the length of the compressed bytes, if any, and that is not the object's.
func checkContent(operation string, resp *http.Response) error {
	enc := encoding(resp.Header)
	switch {
	case strings.HasPrefix(operation, "Head"):
		if enc != "" {
			resp.Header.Del("Content-Length")
		}
	case enc != "" && resp.ContentLength != 0:
		return badAnswer("the server answered %d with a body in the encoding %.40q, which was not asked for",
			resp.StatusCode, enc)
	case operation != "GetObject":
		return nil
	}
	if isHTML(resp.Header) {
		return pageOfHTML(resp)
	}
	return nil
}

func pageOfHTML(resp *http.Response) error {
	return badAnswer("the server answered %d with a page of HTML", resp.StatusCode)
}

// encoding returns how a body is encoded; empty when it is as it was stored. Some servers give the encoding of the
// upload back, which is taken off already.
func encoding(h http.Header) string {
	for v := range strings.SplitSeq(strings.ToLower(strings.Join(h.Values("Content-Encoding"), ",")), ",") {
		if v = strings.TrimSpace(v); v != "" && v != "identity" && v != "aws-chunked" {
			return v
		}
	}
	return ""
}

// checkRefusal lets errors of the protocol pass. A page that says 404 is not the bucket's word that an object is
// missing, and only S3 itself may send to another region: other redirects lead to login pages.
func checkRefusal(operation string, resp *http.Response) error {
	if to, err := resp.Location(); err == nil && resp.StatusCode < http.StatusBadRequest &&
		resp.Header.Get("X-Amz-Bucket-Region") == "" && !isXML(resp.Header) {
		return badAnswer("the server answered %d and sends the client to %s", resp.StatusCode, to.Host)
	}
	if resp.StatusCode == http.StatusNotFound && isHTML(resp.Header) && !strings.HasPrefix(operation, "Head") {
		return badAnswer("the server answered 404 with a page of HTML")
	}
	resp.Body = within(resp.Body, maxErrorBody)
	return nil
}

// checkBody refuses a body whose end nobody can tell from a connection that broke.
func checkBody(resp *http.Response) error {
	framed := resp.ProtoMajor > 1 || slices.Contains(resp.TransferEncoding, "chunked")
	switch {
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent:
		return badAnswer("the server answered %d", resp.StatusCode)
	case resp.StatusCode == http.StatusPartialContent && resp.Header.Get("Content-Range") == "":
		return badAnswer("the server answered 206 without Content-Range")
	case resp.ContentLength < 0 && !framed:
		return badAnswer("the server answered %d without Content-Length", resp.StatusCode)
	}
	return nil
}

// hidesFailure reports whether a good status comes with a body that says otherwise; the status is then made that of an
// error of the server, as the SDK does for other operations.
func hidesFailure(resp *http.Response) (bool, error) {
	doc, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil {
		return false, err
	}
	resp.Body = replay(doc, resp.Body)
	switch {
	case rootOf(doc) == "Error":
	case isHTML(resp.Header) && len(bytes.TrimSpace(doc)) > 0:
		return false, pageOfHTML(resp)
	default:
		return false, nil
	}
	resp.StatusCode = http.StatusInternalServerError
	return true, nil
}

var byteOrderMark = []byte("\ufeff")

// checkDocument refuses a body that is not the XML document of the operation.
func (d demand) checkDocument(resp *http.Response) error {
	doc, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	doc = bytes.TrimPrefix(doc, byteOrderMark)
	switch root := rootOf(doc); {
	case err != nil:
		return err
	case len(doc) > maxDocument:
		return badAnswer("the server answered %d with more than %d bytes", resp.StatusCode, maxDocument)
	case bytes.Count(doc, []byte("<")) > maxMarkup:
		return badAnswer("the server answered %d with more than %d tags", resp.StatusCode, maxMarkup)
	case root == "Error":
		resp.StatusCode = http.StatusInternalServerError
	case len(bytes.TrimSpace(doc)) == 0:
		return badAnswer("the server answered %d with an empty body", resp.StatusCode)
	case root != d.root && isHTML(resp.Header):
		return pageOfHTML(resp)
	case root == "":
		return badAnswer("the server answered %d with a body that is not XML", resp.StatusCode)
	case root != d.root:
		return badAnswer("the server answered %d with a document <%.40s> instead of <%s>", resp.StatusCode, root, d.root)
	}
	resp.Body = replay(doc, resp.Body)
	if resp.StatusCode == http.StatusInternalServerError || len(d.elements) == 0 {
		return nil
	}
	return d.checkElements(doc, resp.StatusCode)
}

func (d demand) checkElements(doc []byte, status int) error {
	var all struct {
		Elements []struct {
			XMLName xml.Name
			Text    string `xml:",chardata"`
		} `xml:",any"`
	}
	if err := xml.Unmarshal(doc, &all); err != nil {
		return badAnswer("the server answered %d with XML that cannot be read: %v", status, err)
	}
	for _, name := range d.elements {
		found := false
		for _, e := range all.Elements {
			found = found || e.XMLName.Local == name && strings.TrimSpace(e.Text) != ""
		}
		if !found {
			return badAnswer("the server answered %d without %s", status, name)
		}
	}
	return nil
}

// rootOf returns the name of a document's root element; empty when it is no XML.
func rootOf(doc []byte) string {
	d := xml.NewDecoder(bytes.NewReader(doc))
	for {
		t, err := d.Token()
		if err != nil {
			return ""
		}
		switch t := t.(type) {
		case xml.StartElement:
			return t.Name.Local
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return ""
			}
		}
	}
}

func isHTML(h http.Header) bool {
	t, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	return t == "text/html" || t == "application/xhtml+xml"
}

func isXML(h http.Header) bool {
	t, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	return t == "application/xml" || t == "text/xml"
}

// within returns a body that ends after a number of bytes.
func within(body io.ReadCloser, most int64) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(body, most), body}
}

// replay returns a body that has been read once more, with the closer of the one it came from.
func replay(doc []byte, from io.Closer) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{bytes.NewReader(doc), from}
}
