package s3

import (
	"context"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/snapshotd/snapshotd/internal/disk"
	"github.com/snapshotd/snapshotd/storage/stall"
)

// fileCredentials are those that the SDK finds, found anew when one of its files has changed: the SDK reads them once,
// and keys in files have no time at which they expire.
type fileCredentials struct {
	load  func(context.Context) (aws.CredentialsProvider, error)
	limit time.Duration // of the wait for whoever gives them

	mu      sync.Mutex
	current aws.CredentialsProvider
	stamp   string
}

// Retrieve implements [aws.CredentialsProvider]. It is asked for every request. Files that cannot be read now, because
// they are just being written for example, leave the credentials as they are until the next request.
func (f *fileCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	f.mu.Lock()
	if stamp := disk.Stamp(credentialFiles()...); stamp != f.stamp {
		if fresh, err := f.load(ctx); err == nil && fresh != nil {
			f.current, f.stamp = fresh, stamp
		}
	}
	current := f.current
	f.mu.Unlock()
	return f.ask(ctx, current)
}

// hintSilent is the advice about a service that gives no credentials and no error either.
const hintSilent = "STS, or the service that gives a machine or a pod its credentials, does not answer; check the " +
	"network to it and the proxies, VPC endpoints and load balancers on the way"

// ask waits for the credentials as long as nothing may move on a call of the bucket. They come from STS, the agent of
// EKS or ECS, or another service, which the SDK asks with a client of its own that waits for ever.
//
// The SDK asks once for all requests that wait, and goes on when they give up. So the connection gets a deadline, too:
// otherwise later requests would wait for the same silence, also after the service is back.
func (f *fileCredentials) ask(ctx context.Context, provider aws.CredentialsProvider) (aws.Credentials, error) {
	asking, cancel := context.WithTimeout(ctx, f.limit)
	defer cancel()
	asking = httptrace.WithClientTrace(asking, &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
		_ = c.Conn.SetDeadline(time.Now().Add(f.limit)) // the next request on the connection sets its own
	}})
	found, err := provider.Retrieve(asking)
	if err != nil && ctx.Err() == nil && asking.Err() != nil {
		err = stall.NoAnswer(f.limit, hintSilent)
	}
	return found, err
}

// credentialFiles returns where the SDK looks for credentials.
func credentialFiles() []string {
	home, _ := os.UserHomeDir() // without one, the SDK finds none either
	files := []string{os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), os.Getenv("AWS_CONFIG_FILE")}
	for i, name := range []string{"credentials", "config"} {
		if files[i] == "" {
			files[i] = filepath.Join(home, ".aws", name)
		}
	}
	return files
}
