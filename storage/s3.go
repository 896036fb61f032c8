package storage

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/logging"
	"go.opentelemetry.io/contrib/instrumentation/github.com/aws/aws-sdk-go-v2/otelaws" //nolint:staticcheck // deprecated without a successor; it is what makes spans of the SDK's requests
	"go.opentelemetry.io/otel/propagation"
	gcaws "gocloud.dev/aws"
	"gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"

	"github.com/snapshotd/snapshotd/snapshot"
)

// defaultRegion is signed with when a server of one's own is named and no region: such servers take any, or this one.
const defaultRegion = "us-east-1"

// s3Store is a bucket, or what is below a prefix in it.
type s3Store struct {
	loc         *location
	stall       time.Duration
	limit       snapshot.Limiter // may be nil
	credentials aws.CredentialsProvider

	mu   sync.Mutex
	conn *s3Conn
}

// s3Conn is an open bucket. Opening reads the SDK's configuration and asks the server nothing.
type s3Conn struct {
	client    *s3.Client
	bucket    *blob.Bucket
	http      *http.Client
	checksums aws.RequestChecksumCalculation
	upload    uploadOptions
}

func (s *s3Store) uri(key string) string {
	u := url.URL{Scheme: "s3", Host: s.loc.bucket, Path: "/" + s.key(key)}
	return u.String()
}

// key returns the key in the bucket.
func (s *s3Store) key(key string) string { return s.loc.prefix + key }

func (s *s3Store) open(ctx context.Context) (*s3Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		conn, err := s.connect(ctx)
		if err != nil {
			return nil, err
		}
		s.conn = conn
	}
	return s.conn, nil
}

func (s *s3Store) connect(ctx context.Context) (*s3Conn, error) {
	opts, configure, params := s.options()
	stamp := stampOf(credentialFiles()) // before they are read
	cfg, err := gcaws.V2ConfigFromURLParams(ctx, params)
	if err != nil {
		return nil, &configError{err, configHint}
	}
	switch {
	case s.credentials != nil:
		cfg.Credentials = s.credentials
	case cfg.Credentials != nil && !aws.IsCredentialsProvider(cfg.Credentials, aws.AnonymousCredentials{}) &&
		!aws.IsCredentialsProvider(cfg.Credentials, (*aws.AnonymousCredentials)(nil)):
		cfg.Credentials = &fileCredentials{current: cfg.Credentials, stamp: stamp, load: func(ctx context.Context) (aws.CredentialsProvider, error) {
			fresh, err := gcaws.V2ConfigFromURLParams(ctx, params)
			return fresh.Credentials, err
		}}
	}
	if cfg.Region == "" {
		if !params.Has(endpointParam) {
			return nil, &configError{errors.New("no region is set"), configHint}
		}
		cfg.Region = defaultRegion
	}
	client, err := s.newHTTPClient(cfg.HTTPClient)
	if err != nil {
		return nil, &configError{err, "the file is needed to know the server; mend it, or the URL"}
	}
	conn := &s3Conn{http: client, checksums: cfg.RequestChecksumCalculation, upload: uploadOptionsOf(s.loc.params)}
	cfg.Logger = logging.Nop{} // it would write to standard error
	cfg.HTTPClient = &watchedClient{client: conn.http, limit: s.stall, uploads: s.limit}
	if retryer := cfg.Retryer; retryer != nil {
		cfg.Retryer = func() aws.Retryer { return noRetryOfStalls{retryer()} }
	}
	// Spans of the requests; the server is not told of them.
	otelaws.AppendMiddlewares(&cfg.APIOptions, otelaws.WithTextMapPropagator(propagation.NewCompositeTextMapPropagator()))

	conn.client = s3.NewFromConfig(cfg, configure)
	conn.bucket, err = s3blob.OpenBucket(ctx, conn.client, s.loc.bucket, &opts)
	return conn, err
}

// options takes those parameters out that gocloud.dev/aws does not know. They were checked when the URL was read.
func (s *s3Store) options() (opts s3blob.Options, configure func(*s3.Options), rest url.Values) {
	rest = url.Values{}
	set := map[string]bool{}
	for name, values := range s.loc.params {
		value := values[0]
		switch name {
		case sseTypeParam:
			for _, sse := range types.ServerSideEncryption("").Values() {
				if strings.EqualFold(string(sse), value) {
					opts.EncryptionType = sse
				}
			}
		case kmsKeyParam:
			opts.KMSEncryptionID = value
		case storageClassParam, tagsParam, lockModeParam, lockDaysParam: // see uploadOptions
		case caCertParam, proxyParam: // see newHTTPClient
		case pathStyleParam, legacyPathStyleParam, disableHTTPSParam, accelerateParam:
			set[name], _ = strconv.ParseBool(value)
		default:
			rest[name] = slices.Clone(values)
		}
	}
	configure = func(o *s3.Options) {
		o.UsePathStyle = set[pathStyleParam] || set[legacyPathStyleParam]
		o.UseAccelerate = set[accelerateParam]
		o.EndpointOptions.DisableHTTPS = set[disableHTTPSParam]
		o.HTTPSignerV4 = &signer{}
	}
	return opts, configure, rest
}

const configHint = "set region= in the URL, or check the profile and the AWS_ variables"

// configError is that the configuration, or the SDK's, is not complete or cannot be read.
type configError struct {
	error
	hint string
}

func (e *configError) Unwrap() error { return e.error }

func (s *s3Store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return nil
	}
	conn := s.conn
	s.conn = nil
	conn.http.CloseIdleConnections()
	return conn.bucket.Close()
}

// noRetryOfStalls does not try again what stalled: the server had its time.
type noRetryOfStalls struct{ aws.Retryer }

func (r noRetryOfStalls) IsErrorRetryable(err error) bool {
	if _, stalled := errors.AsType[*stallError](err); stalled {
		return false
	}
	return r.Retryer.IsErrorRetryable(err)
}

// missing tells an object that does not exist from a bucket that does not: the answer to a HEAD has no body that would
// say. An object is said not to exist only when the bucket was seen.
func (s *s3Store) missing(ctx context.Context, conn *s3Conn, err error) error {
	code, status := apiError(err)
	switch {
	case status != http.StatusNotFound:
		return err
	case code == "NoSuchKey":
		return snapshot.ErrNotFound
	case code != "" && code != "NotFound" && code != "UnknownError":
		return err // it is something else that was not found
	}
	if _, err := conn.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String(s.loc.bucket)}); err != nil {
		if _, status := apiError(err); status == http.StatusNotFound {
			return &bucketError{s.loc.bucket, err}
		}
		return err
	}
	return snapshot.ErrNotFound
}

// bucketError is that there is no such bucket: nothing is known of what is in it.
type bucketError struct {
	bucket string
	err    error
}

func (e *bucketError) Error() string { return "the bucket " + e.bucket + " does not exist" }
func (e *bucketError) Unwrap() error { return e.err }
