package s3

import (
	"context"
	"os"
	"path/filepath"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/snapshotd/snapshotd/internal/disk"
)

// fileCredentials are those that the SDK finds, found anew when one of its files has changed: the SDK reads them once,
// and keys in files have no time at which they expire.
type fileCredentials struct {
	load func(context.Context) (aws.CredentialsProvider, error)

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
	return current.Retrieve(ctx)
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
