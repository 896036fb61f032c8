package s3

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// signer signs requests with the secret key that they come with. The SDK's own derives a key from it once a day for
// each access key, so that a secret that is put right under the same access key would be refused until the day is over.
type signer struct {
	mu     sync.Mutex
	secret string
	signer *v4.Signer
}

// credentialError is that a credential is none. The credential itself is not in it.
type credentialError struct{ name string }

func (e *credentialError) Error() string {
	return "the " + e.name + " has a line break, a blank at its end or another character that no key has"
}

const hintCredential = "take it out of the variable or file; echo, for example, writes a line break behind a key"

// SignHTTP implements the s3 package's HTTPSignerV4.
func (s *signer) SignHTTP(
	ctx context.Context, keys aws.Credentials, r *http.Request, hash, service, region string, at time.Time,
	opts ...func(*v4.SignerOptions),
) error {
	for name, value := range map[string]string{
		"access key": keys.AccessKeyID, "secret key": keys.SecretAccessKey, "session token": keys.SessionToken,
	} {
		if strings.TrimSpace(value) != value || strings.ContainsFunc(value, unicode.IsControl) {
			return &credentialError{name}
		}
	}
	// Accept-Encoding is not signed: Google's servers see another value than the one that was sent.
	const unsigned = "Accept-Encoding"
	kept := r.Header[unsigned]
	delete(r.Header, unsigned)
	err := s.of(keys.SecretAccessKey).SignHTTP(ctx, keys, r, hash, service, region, at, opts...)
	if kept != nil {
		r.Header[unsigned] = kept
	}
	return err
}

func (s *signer) of(secret string) *v4.Signer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.signer == nil || s.secret != secret {
		s.secret = secret
		s.signer = v4.NewSigner(func(o *v4.SignerOptions) {
			o.DisableURIPathEscaping = true // S3 signs paths as they are sent
		})
	}
	return s.signer
}
