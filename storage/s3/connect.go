package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	gcaws "gocloud.dev/aws"

	"github.com/snapshotd/snapshotd/internal/disk"
	"github.com/snapshotd/snapshotd/storage/stall"
)

const (
	dialTimeout = 10 * time.Second
	idleTimeout = 30 * time.Second
	maxHeaders  = 1 << 20
	// defaultRegion is signed with when an endpoint is named and no region: such servers take any, or this one.
	defaultRegion = "us-east-1"
	configHint    = "set region= in the URL, or check the profile and the AWS_ variables"
)

// connection is a client of the bucket's server, as the URL and the SDK's configuration describe it.
type connection struct {
	client    *s3.Client
	http      *http.Client
	checksums aws.RequestChecksumCalculation
	upload    uploadOptions
	features  features
}

// configError is that the configuration, or the SDK's, is not complete or cannot be read.
type configError struct {
	error
	hint string
}

func (e *configError) Unwrap() error { return e.error }

// connect reads the SDK's configuration. It asks the server nothing.
func (s *Store) connect(ctx context.Context) (*connection, error) {
	cfg, err := s.config(ctx)
	if err != nil {
		return nil, err
	}
	client, err := s.newHTTPClient(cfg.HTTPClient)
	if err != nil {
		return nil, &configError{err, "the file is needed to know the server; mend it, or the URL"}
	}
	cfg.Logger = logging.Nop{} // it would write to standard error
	cfg.HTTPClient = &stall.Client{
		HTTP: client, Limit: s.opts.StallTimeout, Uploads: s.opts.UploadLimit, Slow: completes,
		Short: func(r *http.Request) bool {
			return r.Method != http.MethodGet || r.URL.Query().Get("x-id") != "GetObject"
		},
	}
	if base := cfg.Retryer; base != nil {
		cfg.Retryer = func() aws.Retryer { return retryer{base()} }
	}
	c := &connection{http: client, checksums: cfg.RequestChecksumCalculation, upload: uploadOptionsOf(s.params)}
	cfg.APIOptions = append(cfg.APIOptions, tracing{s.bucket}.add, addChecks(&requestNotes{&c.features, s.bucketInHost()}))
	c.client = s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = s.pathStyle()
		o.UseAccelerate = s.isSet(accelerateParam)
		o.EndpointOptions.DisableHTTPS = s.isSet(disableHTTPSParam)
		o.HTTPSignerV4 = &signer{}
	})
	return c, nil
}

func (s *Store) pathStyle() bool { return s.isSet(pathStyleParam) || s.isSet(legacyPathStyleParam) }

func (s *Store) isSet(param string) bool {
	v, err := strconv.ParseBool(s.params.Get(param))
	return err == nil && v
}

// config returns the SDK's configuration with the parameters of the URL that are not of this package.
func (s *Store) config(ctx context.Context) (aws.Config, error) {
	rest := url.Values{}
	for name, values := range s.params {
		if !slices.Contains(ownParams, name) {
			rest[name] = slices.Clone(values)
		}
	}
	stamp := disk.Stamp(credentialFiles()...) // before they are read
	cfg, err := gcaws.V2ConfigFromURLParams(ctx, rest)
	if err != nil {
		return cfg, &configError{err, configHint}
	}
	if cfg.Credentials != nil && !aws.IsCredentialsProvider(cfg.Credentials, aws.AnonymousCredentials{}) &&
		!aws.IsCredentialsProvider(cfg.Credentials, (*aws.AnonymousCredentials)(nil)) {
		load := func(ctx context.Context) (aws.CredentialsProvider, error) {
			fresh, err := gcaws.V2ConfigFromURLParams(ctx, rest)
			return fresh.Credentials, err
		}
		cfg.Credentials = &fileCredentials{current: cfg.Credentials, stamp: stamp, load: load, limit: s.opts.StallTimeout}
	}
	if cfg.Region == "" {
		if !s.params.Has(endpointParam) {
			return cfg, &configError{errors.New("no region is set"), configHint}
		}
		cfg.Region = defaultRegion
	}
	return cfg, nil
}

// completes reports whether a request is CompleteMultipartUpload: the server puts parts together before it answers.
func completes(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}

// newHTTPClient returns a client like the SDK's own (with the CA bundle of its configuration, if there is one), that
// gives up connecting in time, with the CA and through the proxy that the URL names.
func (s *Store) newHTTPClient(base aws.HTTPClient) (*http.Client, error) {
	buildable, ok := base.(*awshttp.BuildableClient)
	if !ok {
		buildable = awshttp.NewBuildableClient()
	}
	timeout := min(dialTimeout, s.opts.StallTimeout)
	transport := buildable.GetTransport()
	transport.DialContext = (&net.Dialer{Timeout: timeout, KeepAlive: 15 * time.Second}).DialContext
	transport.TLSHandshakeTimeout = timeout
	transport.IdleConnTimeout = idleTimeout
	transport.MaxResponseHeaderBytes = maxHeaders
	if file := s.params.Get(caCertParam); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("parameter %q: %w", caCertParam, err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("parameter %q: %s has no certificate in PEM", caCertParam, file)
		}
		if transport.TLSClientConfig == nil {
			transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		transport.TLSClientConfig.RootCAs = roots
	}
	if proxy, err := url.Parse(s.params.Get(proxyParam)); err == nil && proxy.Host != "" { // it was checked
		transport.Proxy = http.ProxyURL(proxy)
	}
	(&proxies{}).watch(transport)
	return &http.Client{
		Transport: transport,
		// The signature is for the first address; the SDK makes an error of a redirect.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}
