package storage

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/snapshotd/snapshotd/snapshot"
)

const hintNoBucket = "create it, or correct the bucket, endpoint or region of the URL; it is not created by itself"

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

// answered classifies the answer of an S3 server.
func answered(code string, status int, text string) verdict {
	denied := func(hint string) verdict { return verdict{snapshot.ReasonBackendAccessDenied, text, hint, 0} }
	switch code {
	case "NoSuchBucket":
		return verdict{snapshot.ReasonBackendNotFound, text, hintNoBucket, 0}
	case "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
		return verdict{snapshot.ReasonBackendNotFound, text, "the bucket may be in another region; set region= in the URL", 0}
	case "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage":
		return verdict{snapshot.ReasonNoSpace, text, "free space there, or a quota is used up", time.Minute}
	case "InvalidAccessKeyId", "InvalidToken", "ExpiredToken", "XAdminUserNotFound":
		return denied("the access key is not known there or has expired; check AWS_ACCESS_KEY_ID, or the profile")
	case "SignatureDoesNotMatch":
		return denied("the secret key is wrong; check AWS_SECRET_ACCESS_KEY, or the profile")
	case "RequestTimeTooSkewed":
		return denied("the clocks of this machine and the server differ")
	}
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return denied("the credentials need s3:ListBucket, s3:ListBucketMultipartUploads and s3:GetObject, PutObject, DeleteObject, AbortMultipartUpload, ListMultipartUploadParts")
	case status == http.StatusMovedPermanently || status == http.StatusTemporaryRedirect:
		return verdict{snapshot.ReasonBackendNotFound, text, "the bucket is in another region; set region= in the URL", 0}
	case status == http.StatusInsufficientStorage:
		return verdict{snapshot.ReasonNoSpace, text, "free space there, or a quota is used up", time.Minute}
	case status >= 400 && status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout && status != http.StatusConflict:
		return verdict{snapshot.ReasonBackendUnavailable, text, "", 0}
	default:
		return verdict{snapshot.ReasonBackendUnavailable, text, "", retryAfter}
	}
}

// unsigned classifies that a request was not sent because there was nothing to sign it with. What was answered then is not
// the bucket's answer, but that of the machine's metadata service or of the one that gives roles their credentials.
func unsigned(err error) (verdict, bool) {
	_, signing := errors.AsType[*v4.SigningError](err)
	if !signing && !strings.Contains(err.Error(), "get identity: ") {
		return verdict{}, false
	}
	const hint = "give credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role of the machine"
	op, asked := operations(err)
	switch {
	case asked == nil:
		return verdict{snapshot.ReasonBackendAccessDenied, plain(err), hint, 0}, true
	case asked.ServiceID == metadataService:
		return verdict{snapshot.ReasonBackendAccessDenied, op + "there are no credentials to sign the request with", hint, 0}, true
	}
	text := op + "get credentials: " + plain(asked)
	if _, status := apiError(err); status == http.StatusForbidden || status == http.StatusUnauthorized || status == http.StatusBadRequest {
		return verdict{snapshot.ReasonBackendAccessDenied, text, "check role=, the profile, and the credentials that these are based on", 0}, true
	}
	return verdict{snapshot.ReasonBackendUnavailable, text, "", retryAfter}, true
}

// metadataService is what the SDK calls the service of a machine of EC2 that knows its role.
const metadataService = "ec2imds"

// operations returns the name of the operation that failed, for the beginning of a message, and the innermost one that it
// asked for, which is nil when there was none.
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
	case interface{ Unwrap() []error }: // gocloud.dev's errors: the cause, and one that stands for the code
		if all := e.Unwrap(); len(all) > 0 {
			return all[0]
		}
	}
	return nil
}
