package s3

import (
	"context"
	"net/http"
	"sync"
	"time"

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

// SignHTTP implements the s3 package's HTTPSignerV4.
func (s *signer) SignHTTP(ctx context.Context, keys aws.Credentials, r *http.Request, hash, service, region string, at time.Time, opts ...func(*v4.SignerOptions)) error {
	return s.of(keys.SecretAccessKey).SignHTTP(ctx, keys, r, hash, service, region, at, opts...)
}

func (s *signer) of(secret string) *v4.Signer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.signer == nil || s.secret != secret {
		s.secret = secret
		s.signer = v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }) // S3 signs paths as they are sent
	}
	return s.signer
}
