package s3

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage/driver"
)

const (
	hintNoBucket    = "create it, or correct the bucket, endpoint or region of the URL; it is not created by itself"
	hintPermissions = "the credentials need s3:ListBucket, s3:ListBucketMultipartUploads and s3:GetObject, PutObject, DeleteObject, " +
		"AbortMultipartUpload, ListMultipartUploadParts"
)

// apiError returns the code and HTTP status with which a server answered; empty and 0 when it did not.
func apiError(err error) (code string, status int) {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		code = e.ErrorCode()
	}
	if e, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && e.Response != nil && e.Response.Response != nil {
		status = e.HTTPStatusCode()
	}
	return code, status
}

// explain tells apart what a server answered, what kept a request from being sent, and a configuration that is not
// complete.
func explain(err error) driver.Verdict {
	text := plain(err)
	if _, ok := errors.AsType[*bucketError](err); ok {
		return driver.Missing(text, hintNoBucket)
	}
	if _, ok := errors.AsType[*replacedError](err); ok {
		return driver.Unavailable(replacedText, "read it again")
	}
	if e, ok := errors.AsType[*configError](err); ok {
		return driver.Unavailable(text, e.hint)
	}
	if strings.Contains(text, "checksum did not match") { // the SDK has no other name for it
		const hint = "the server's copy is damaged: use another backend's or another snapshot"
		return driver.Verdict{Reason: snapshot.ReasonChecksumMismatch, Text: text, Hint: hint, Retry: driver.RetryAfter}
	}
	if v, ok := unsigned(err); ok {
		return v
	}
	if code, status := apiError(err); code != "" || status >= http.StatusMultipleChoices {
		return answered(code, status, text)
	}
	if hint := hintTLS(err); hint != "" {
		return driver.Unavailable(text, hint)
	}
	return driver.Verdict{Text: text}
}

// answered classifies the answer of an S3 server.
func answered(code string, status int, text string) driver.Verdict {
	switch code {
	case "NoSuchBucket":
		return driver.Missing(text, hintNoBucket)
	case "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
		return driver.Missing(text, "the bucket may be in another region; set region= in the URL")
	case "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage":
		return driver.NoSpace(text)
	case "InvalidAccessKeyId", "InvalidToken", "ExpiredToken", "XAdminUserNotFound":
		return driver.Denied(text, "the access key is not known there or has expired; check AWS_ACCESS_KEY_ID, or the profile")
	case "SignatureDoesNotMatch":
		return driver.Denied(text, "the secret key is wrong; check AWS_SECRET_ACCESS_KEY, or the profile")
	case "RequestTimeTooSkewed":
		return driver.Denied(text, "the clocks of this machine and the server differ")
	}
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return driver.Denied(text, hintPermissions)
	case status == http.StatusMovedPermanently || status == http.StatusTemporaryRedirect:
		return driver.Missing(text, "the bucket is in another region; set region= in the URL")
	case status == http.StatusInsufficientStorage:
		return driver.NoSpace(text)
	case status >= 400 && status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout && status != http.StatusConflict:
		return driver.Verdict{Reason: snapshot.ReasonBackendUnavailable, Text: text}
	default:
		return driver.Unavailable(text, "")
	}
}

// unsigned classifies that a request was not sent because there was nothing to sign it with. The answer in such an
// error is not the bucket's, but that of the machine's metadata service or of the one that gives roles their
// credentials.
func unsigned(err error) (driver.Verdict, bool) {
	_, signing := errors.AsType[*v4.SigningError](err)
	if !signing && !strings.Contains(err.Error(), "get identity: ") {
		return driver.Verdict{}, false
	}
	const hint = "give credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role of the machine"
	op, asked := operations(err)
	switch {
	case asked == nil:
		return driver.Denied(plain(err), hint), true
	case asked.ServiceID == metadataService:
		return driver.Denied(op+"there are no credentials to sign the request with", hint), true
	}
	text := op + "get credentials: " + plain(asked)
	if _, status := apiError(err); status == http.StatusForbidden || status == http.StatusUnauthorized || status == http.StatusBadRequest {
		return driver.Denied(text, "check role=, the profile, and the credentials that these are based on"), true
	}
	return driver.Unavailable(text, ""), true
}

// metadataService is what the SDK calls the service of a machine of EC2 that knows its role.
const metadataService = "ec2imds"

// operations returns the name of the operation that failed, for the beginning of a message, and the innermost one that
// it asked for, which is nil when there was none.
func operations(err error) (op string, asked *smithy.OperationError) {
	outer, ok := errors.AsType[*smithy.OperationError](err)
	if !ok {
		return "", nil
	}
	for e, ok := outer, true; ok; e, ok = errors.AsType[*smithy.OperationError](e.Err) {
		if e != outer {
			asked = e
		}
	}
	return outer.OperationName + ": ", asked
}

func hintTLS(err error) string {
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	_, name := errors.AsType[x509.HostnameError](err)
	switch {
	case unknown:
		return "give the CA that signed the server's certificate in AWS_CA_BUNDLE, or with ca_cert=FILE in the URL"
	case invalid:
		return "the server's certificate has expired or is not for servers, or the clocks differ"
	case name:
		return "the server's certificate is for other names; use one of them in endpoint="
	case errors.Is(err, http.ErrSchemeMismatch):
		return "the server speaks plain text there; write http:// in endpoint="
	default:
		return ""
	}
}

// plain returns an error in its own words, without the layers of the SDK: they repeat one another, and the address with
// all its parameters.
func plain(err error) string {
	op := ""
	if e, ok := errors.AsType[*smithy.OperationError](err); ok {
		op = e.OperationName + ": "
	}
	_, status := apiError(err)
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		text := e.ErrorCode()
		if status != 0 {
			text = fmt.Sprintf("%d %s", status, text)
		}
		if msg := e.ErrorMessage(); msg != "" && msg != e.ErrorCode() {
			text += ": " + msg
		}
		return op + text
	}
	if status >= http.StatusMultipleChoices {
		return op + fmt.Sprintf("%d %s", status, http.StatusText(status))
	}
	for {
		inner := peel(err)
		if inner == nil && op != "" && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
			return op + "the connection broke off (" + err.Error() + ")"
		}
		if inner == nil {
			return op + err.Error()
		}
		err = inner
	}
}

// peel takes off one layer that says nothing, or what is said anyway.
func peel(err error) error {
	//nolint:errorlint // one layer after the other is the point
	switch e := err.(type) {
	case *url.Error:
		return e.Err
	case *smithyhttp.RequestSendError:
		return e.Err
	case interface { // the three kinds of the SDK's response error; there may have been no response
		HTTPStatusCode() int
		Unwrap() error
	}:
		return e.Unwrap()
	case *smithy.OperationError:
		return e.Err
	case *smithy.CanceledError:
		return e.Err
	case *retry.MaxAttemptsError:
		return e.Err
	case transfermanager.MultipartUploadError:
		return errors.Unwrap(e)
	}
	return nil
}
