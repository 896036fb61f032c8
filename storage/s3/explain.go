package s3

import (
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage/driver"
	"github.com/snapshotd/snapshotd/storage/stall"
)

const (
	hintRegion      = "the bucket may be in another region; set region= in the URL"
	hintConditional = "a server that does not know If-None-Match needs conditional_writes=false in the URL"
	hintTrailer     = "a server that does not take checksums behind the body needs " +
		"request_checksum_calculation=when_required in the URL"
	hintParts = "a server that takes fewer than 10,000 parts of an upload needs max_parts= in the URL, for example " +
		"max_parts=1000"
	hintBucketHost = "the host of endpoint= begins with the bucket's name, which the client adds by itself; write " +
		"it without"
	hintCold     = "the object is in a storage class whose objects cannot be read at once; restore it in the bucket first"
	hintKey      = "the access key is not known there or has expired; check AWS_ACCESS_KEY_ID, or the profile"
	hintClocks   = "the clocks of this machine and the server differ"
	hintNoBucket = "create it, or correct the bucket, endpoint or region of the URL; it is not created by itself"
	hintPartSize = "the server wants larger parts of an upload; give fewer of them with max_parts= in the URL, for " +
		"example max_parts=100"
	hintBodySize = "a proxy before the server limits the size of a request; let it pass 8 MiB, and more for databases " +
		"over 70 GiB (client_max_body_size of nginx)"
	hintTransfer = "the bytes arrived changed or not at all; look at the network, and the proxies before the server"
	hintPage     = "this is a page of HTML: a proxy or a firewall before the server refuses, and not the bucket"
	hintLogin    = "the network wants a login first"

	hintPermissions = "the credentials need s3:ListBucket, s3:ListBucketMultipartUploads and s3:GetObject, PutObject, " +
		"DeleteObject, AbortMultipartUpload, ListMultipartUploadParts"
)

// explain tells apart the answers of a server, causes that kept a request from being sent, and a configuration that is
// not complete.
func explain(err error) driver.Verdict {
	text := plain(err)
	if v, ok := ownError(err, text); ok {
		return v
	}
	if isWrongSum(err) {
		const hint = "the server's copy is damaged: use another backend's or another snapshot"
		return driver.Verdict{Reason: snapshot.ReasonChecksumMismatch, Text: text, Hint: hint, Retry: driver.RetryAfter}
	}
	if v, ok := unsigned(err); ok {
		return v
	}
	code, status := apiError(err)
	v := driver.Verdict{Text: text}
	if code != "" || status >= http.StatusMultipleChoices {
		v = answered(code, status, text)
		if v.Reason == snapshot.ReasonBackendAccessDenied && isPage(err) {
			v.Hint = hintPage
		}
	} else if hint := hintName(err) + hintTLS(err); hint != "" {
		v = driver.Unavailable(text, hint)
	}
	if req, ok := errors.AsType[*requestError](err); ok {
		v.Hint = req.hint(err, v.Hint)
	}
	return v
}

// ownError explains the errors of this package.
func ownError(err error, text string) (driver.Verdict, bool) {
	if _, ok := errors.AsType[*bucketError](err); ok {
		return driver.Missing(text, hintNoBucket), true
	}
	if _, ok := errors.AsType[*replacedError](err); ok {
		return driver.Unavailable(replacedText, "read it again"), true
	}
	if e, ok := errors.AsType[*configError](err); ok {
		return driver.Unavailable(text, e.hint), true
	}
	if _, ok := errors.AsType[*credentialError](err); ok {
		return driver.Denied(text, hintCredential), true
	}
	if e, ok := errors.AsType[*proxyError](err); ok {
		op, _ := operations(err)
		return driver.Unavailable(op+e.Error(), hintProxy), true
	}
	if e, ok := errors.AsType[*answerError](err); ok {
		return driver.Unavailable(text, e.hint), true
	}
	return driver.Verdict{}, false
}

// byCode are the verdicts on errors that S3 servers give a code of their own; the text is added.
var byCode = map[string]driver.Verdict{
	"NoSuchBucket": driver.Missing("", hintNoBucket),

	"PermanentRedirect":                  lasting("", hintRegion),
	"AuthorizationHeaderMalformed":       lasting("", hintRegion),
	"IllegalLocationConstraintException": lasting("", hintRegion),
	"InvalidObjectState":                 lasting("", hintCold),

	"NoSuchUpload": driver.Unavailable("", ""), // it was swept or aborted while it was under way

	// Many servers give these with 400, like a request that is wrong.
	"InvalidPart":                 driver.Unavailable("", ""), // the server has lost it
	"RequestTimeout":              driver.Unavailable("", hintTransfer),
	"IncompleteBody":              driver.Unavailable("", hintTransfer),
	"BadDigest":                   driver.Unavailable("", hintTransfer),
	"XAmzContentChecksumMismatch": driver.Unavailable("", hintTransfer),
	"SlowDown":                    driver.Unavailable("", ""),
	"Throttling":                  driver.Unavailable("", ""),
	"ThrottlingException":         driver.Unavailable("", ""),
	"RequestLimitExceeded":        driver.Unavailable("", ""),
	"BandwidthLimitExceeded":      driver.Unavailable("", ""),

	"EntityTooSmall": lasting("", hintPartSize),
	"EntityTooLarge": lasting("", hintBodySize),

	"KeyTooLongError":         {Reason: snapshot.ReasonInvalidArgument},
	"InvalidObjectName":       {Reason: snapshot.ReasonInvalidArgument},
	"XMinioInvalidObjectName": {Reason: snapshot.ReasonInvalidArgument},

	"QuotaExceeded":                  driver.NoSpace(""),
	"XMinioStorageFull":              driver.NoSpace(""),
	"XMinioAdminBucketQuotaExceeded": driver.NoSpace(""),
	"InsufficientStorage":            driver.NoSpace(""),

	"StorageCapExceeded": driver.NoSpace(""),

	"InvalidAccessKeyId":    driver.Denied("", hintKey),
	"InvalidClientTokenId":  driver.Denied("", hintKey),
	"TokenRefreshRequired":  driver.Denied("", hintKey),
	"ExpiredTokenException": driver.Denied("", hintKey),
	"RequestExpired":        driver.Denied("", hintClocks),
	"InvalidToken":          driver.Denied("", hintKey),
	"ExpiredToken":          driver.Denied("", hintKey),
	"XAdminUserNotFound":    driver.Denied("", hintKey),
	"SignatureDoesNotMatch": driver.Denied("", "the secret key is wrong; check AWS_SECRET_ACCESS_KEY, or the profile"),
	"RequestTimeTooSkewed":  driver.Denied("", hintClocks),
}

// answered classifies the answer of an S3 server: by its code if that says more than the status.
func answered(code string, status int, text string) driver.Verdict {
	if v, ok := byCode[code]; ok {
		v.Text = text
		return v
	}
	switch {
	case status == http.StatusForbidden && isCap(text):
		return driver.NoSpace(text)
	case status == http.StatusProxyAuthRequired:
		return lasting(text, hintProxy)
	case status == http.StatusNetworkAuthenticationRequired:
		return lasting(text, hintLogin)
	case status == http.StatusRequestEntityTooLarge:
		return lasting(text, hintBodySize)
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return driver.Denied(text, hintPermissions)
	case status == http.StatusMovedPermanently || status == http.StatusTemporaryRedirect:
		return lasting(text, hintRegion)
	case status == http.StatusInsufficientStorage:
		return driver.NoSpace(text)
	case isLasting(status):
		return lasting(text, "")
	default:
		return driver.Unavailable(text, "")
	}
}

// isCap reports whether a refusal is that of an account which may not store more, for which not every server has a
// code.
func isCap(text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(text, "storage cap") || strings.Contains(text, "storage quota")
}

// isPage reports whether a server has answered with a page for people.
func isPage(err error) bool {
	e, ok := errors.AsType[*smithyhttp.ResponseError](err)
	return ok && e.Response != nil && e.Response.Response != nil && isHTML(e.Response.Header)
}

// isLasting reports whether a server will answer a request so again.
func isLasting(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusRequestTimeout, http.StatusConflict:
		return false
	case http.StatusNotImplemented:
		return true
	}
	return status >= 400 && status < 500
}

// lasting returns the verdict that a retry does not help until somebody has changed something.
func lasting(text, hint string) driver.Verdict {
	return driver.Verdict{Reason: snapshot.ReasonBackendUnavailable, Text: text, Hint: hint}
}

// malformed are the statuses with which servers refuse a request that they do not understand.
var malformed = []int{http.StatusBadRequest, http.StatusLengthRequired, http.StatusNotImplemented}

// hint names the parameters that let a request do without the features that the server may lack.
func (e *requestError) hint(err error, given string) string {
	code, status := apiError(err)
	puzzled := given == "" && slices.Contains(malformed, status)
	var hints []string
	add := func(applies bool, text string) {
		if applies {
			hints = append(hints, text)
		}
	}
	add(given != "", given)
	add(puzzled && e.conditional, hintConditional)
	add((puzzled || code == "SignatureDoesNotMatch") && e.trailer, hintTrailer)
	add(puzzled && e.later, hintParts)
	_, unnamed := errors.AsType[*net.DNSError](err)
	add(e.bucketHost && (unnamed || status == http.StatusNotFound), hintBucketHost)
	return strings.Join(hints, "; ")
}

func hintName(err error) string {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "check endpoint= and region=; a server that has no name for each bucket needs use_path_style=true"
	}
	return ""
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
	silent, isSilent := errors.AsType[*stall.Error](err)
	send, unsent := errors.AsType[*smithyhttp.RequestSendError](err)
	switch {
	case isSilent:
		return driver.Unavailable(op+"get credentials: "+silent.Error(), silent.Hint), true
	case asked == nil && unsent: // the SDK does not name what it asks the agent of EKS or ECS
		return driver.Unavailable(op+"get credentials: "+plain(send), hintSilent), true
	case asked == nil:
		return driver.Denied(plain(err), hint), true
	case asked.ServiceID == metadataService:
		return driver.Denied(op+"there are no credentials to sign the request with", hint), true
	}
	text := op + "get credentials: " + plain(asked)
	switch _, status := apiError(err); status {
	case http.StatusForbidden, http.StatusUnauthorized, http.StatusBadRequest:
		return driver.Denied(text, "check role=, the profile, and the credentials that these are based on"), true
	}
	return driver.Unavailable(text, ""), true
}

// metadataService is the SDK's name of the service of EC2 that knows a machine's role.
const metadataService = "ec2imds"

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
