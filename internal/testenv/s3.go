package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const s3Region = "us-east-1"

// S3 is a real S3 server of its own process: versitygw on a directory, or MinIO.
type S3 struct {
	tb     testing.TB
	binary string
	root   string
	data   string
	args   []string
	env    []string
	health string // a path
	addr   string
	cmd    *exec.Cmd

	newUser func(s *S3, bucket, policy string) aws.Credentials
	done    chan struct{} // closed when cmd has ended
}

// s3Keys are the credentials of all servers of this process: its environment can name only one pair.
var s3Keys = aws.Credentials{AccessKeyID: "TEST" + rand.Text()[:16], SecretAccessKey: rand.Text()}

// S3Env returns the credentials of the servers as variables for the environment of a process.
func S3Env() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + s3Keys.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + s3Keys.SecretAccessKey,
		"AWS_EC2_METADATA_DISABLED=true",
	}
}

// StartS3 starts a server that ends with the test, and waits until it answers.
func StartS3(tb testing.TB) *S3 {
	tb.Helper()
	return startS3(tb, false)
}

// StartVersionedS3 starts a server whose buckets can have versions, and so object lock.
func StartVersionedS3(tb testing.TB) *S3 {
	tb.Helper()
	return startS3(tb, true)
}

// SharedS3 returns the server that tests of this process share, each with buckets of its own. The first caller starts
// it, and [RunWaiting] ends it. A test that stops its server needs one of its own.
func SharedS3(tb testing.TB) *S3 {
	tb.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.s3 == nil {
		root, err := os.MkdirTemp("", "shared-s3-")
		if err != nil {
			tb.Fatal(err)
		}
		s := newS3(tb, root, false)
		s.Start()
		shared.s3 = s
	}
	s := *shared.s3
	s.tb = tb
	return &s
}

// shared are the servers that tests of this process share.
var shared struct {
	sync.Mutex
	s3 *S3
}

func stopShared() {
	shared.Lock()
	defer shared.Unlock()
	if s := shared.s3; s != nil {
		s.Stop()
		_ = os.RemoveAll(s.root)
		shared.s3 = nil
	}
}

func startS3(tb testing.TB, versions bool) *S3 {
	tb.Helper()
	s := newS3(tb, tb.TempDir(), versions)
	s.run()
	return s
}

// newS3 returns a server that keeps all that it has in a directory.
func newS3(tb testing.TB, root string, versions bool) *S3 {
	tb.Helper()
	s := &S3{
		tb: tb, binary: Tool(tb, "servers", "github.com/versity/versitygw/cmd/versitygw"),
		root: root, data: filepath.Join(root, "data"), addr: freeAddr(tb),
	}
	s.mkdir(s.data)
	s.health, s.env = "/healthy", []string{
		"ROOT_ACCESS_KEY=" + s3Keys.AccessKeyID, "ROOT_SECRET_KEY=" + s3Keys.SecretAccessKey,
	}
	s.args = []string{"--port", s.addr, "--region", s3Region, "--health", s.health, "--keep-alive", "--quiet"}
	if versions { // and users
		dir := filepath.Join(root, "users")
		s.mkdir(dir)
		s.args = append(s.args, "--iam-dir", dir)
	}
	s.args = append(s.args, "posix")
	if !keepsAttributes(s.data) {
		sidecar := filepath.Join(root, "attributes")
		s.mkdir(sidecar)
		s.args = append(s.args, "--sidecar", sidecar)
	}
	if versions {
		dir := filepath.Join(root, "versions")
		s.mkdir(dir)
		s.args = append(s.args, "--versioning-dir", dir)
	}
	s.args = append(s.args, s.data)
	s.newUser = (*S3).account
	return s
}

// run starts the server and ends it with the test.
func (s *S3) run() {
	s.Start()
	s.tb.Cleanup(func() {
		s.Stop()
		if out, err := os.ReadFile(s.log()); s.tb.Failed() && err == nil && len(out) > 0 {
			s.tb.Logf("S3 server:\n%s", out)
		}
	})
}

// keepsAttributes reports whether the server can keep metadata in extended attributes there.
func keepsAttributes(dir string) bool {
	return syscall.Setxattr(dir, "user.testenv", []byte("1"), 0) == nil
}

func freeAddr(tb testing.TB) string {
	tb.Helper()
	u, err := url.Parse(freeURL(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return u.Host
}

func (s *S3) mkdir(dir string) {
	s.tb.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		s.tb.Fatal(err)
	}
}

func (s *S3) log() string { return filepath.Join(s.root, "log") }

// Start starts the server again after Stop, on the same address and with the same data.
func (s *S3) Start() {
	s.tb.Helper()
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.cmd = exec.Command(s.binary, s.args...)
	s.cmd.Dir = s.root
	s.cmd.Env = append(os.Environ(), append(s.env, "GOGC=400")...) // memory is cheaper than the time of the collector
	s.cmd.Stdout, s.cmd.Stderr = log, log
	dieWithParent(s.cmd)
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	s.done = make(chan struct{})
	cmd, done := s.cmd, s.done
	go func() {
		defer close(done)
		_ = cmd.Wait()
		_ = log.Close()
	}()
	s.waitHealthy()
}

func (s *S3) waitHealthy() {
	s.tb.Helper()
	for end := time.Now().Add(StartTimeout); ; time.Sleep(20 * time.Millisecond) {
		err := s.healthy()
		if err == nil {
			return
		}
		select {
		case <-s.done:
			out, _ := os.ReadFile(s.log())
			s.tb.Fatalf("the S3 server has ended\n%s", out)
		default:
		}
		if time.Now().After(end) {
			out, _ := os.ReadFile(s.log())
			s.tb.Fatalf("waiting for the S3 server: %v\n%s", err, out)
		}
	}
}

func (s *S3) healthy() error {
	ctx, cancel := context.WithTimeout(s.tb.Context(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+s.health, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// Stop kills the server; its data stay.
func (s *S3) Stop() {
	if s.done == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.done
}

// Addr returns the server's address, such as 127.0.0.1:40001.
func (s *S3) Addr() string { return s.addr }

// Dir returns where the server keeps its buckets, each a directory.
func (s *S3) Dir() string { return s.data }

// URL returns the URL of a backend in a bucket.
func (s *S3) URL(bucket, prefix string) string { return s.URLAt(s.addr, bucket, prefix) }

// URLAt is URL through a proxy at addr.
func (s *S3) URLAt(addr, bucket, prefix string) string {
	q := url.Values{}
	q.Set("endpoint", "http://"+addr)
	q.Set("region", s3Region)
	q.Set("use_path_style", "true")
	if prefix != "" {
		q.Set("prefix", prefix)
	}
	u := url.URL{Scheme: "s3", Host: bucket, RawQuery: q.Encode()}
	return u.String()
}

// Env is [S3Env].
func (s *S3) Env() []string { return S3Env() }

// Credentials returns the credentials for clients inside the test.
func (s *S3) Credentials() aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return s3Keys, nil
	})
}

// Client returns a client of the server.
func (s *S3) Client() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String("http://" + s.addr), Region: s3Region, UsePathStyle: true, Credentials: s.Credentials(),
	})
}

// MakeBucket makes a bucket.
func (s *S3) MakeBucket(name string) {
	s.tb.Helper()
	if _, err := s.Client().CreateBucket(s.tb.Context(), &s3.CreateBucketInput{Bucket: aws.String(name)}); err != nil {
		s.tb.Fatal(err)
	}
}
