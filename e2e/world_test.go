//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/snapshotd/snapshotd/internal/loader"
	"github.com/snapshotd/snapshotd/internal/testenv"
)

// world is an etcd with data, a bucket and a directory.
type world struct {
	etcd   *testenv.Cluster
	s3     *testenv.S3
	dir    string
	bucket string
}

func newWorld(t *testing.T, bytes int64, opts ...testenv.ClusterOption) *world {
	t.Helper()
	w := &world{etcd: testenv.StartCluster(t, 1, opts...), s3: testenv.StartS3(t), dir: t.TempDir(), bucket: "snapshots"}
	w.s3.MakeBucket(w.bucket)
	if bytes > 0 {
		if err := loader.Load(t.Context(), w.etcd.Client(t), loader.Config{Bytes: bytes, Seed: 1}); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// args are the arguments of serve for both backends; endpoint, when not empty, replaces the S3 server's address.
func (w *world) args(t *testing.T, endpoint string) []string {
	t.Helper()
	return []string{
		"--etcd-endpoints", strings.Join(w.etcd.Endpoints(), ","),
		"--data-dir", t.TempDir(), "--node-name", "node-1",
		"--backend", "local=file://" + w.dir,
		"--backend", "s3=" + w.s3URL(endpoint),
	}
}

func (w *world) s3URL(endpoint string) string {
	if endpoint == "" {
		endpoint = w.s3.Addr()
	}
	return w.s3.URLAt(endpoint, w.bucket, "etcd")
}

func (w *world) options() options { return options{env: w.s3.Env()} }

// traced are the options of a service that tells all that it does to otlp, at once.
func (w *world) traced(otlp *testenv.OTLP) options {
	o := w.options()
	o.env = append(o.env, "OTEL_EXPORTER_OTLP_ENDPOINT="+otlp.GRPC, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
		"OTEL_BSP_SCHEDULE_DELAY=100")
	return o
}

// must runs a program that has to exit with code 0 and returns its standard output.
func (w *world) must(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), w.s3.Env()...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, stderr.String())
	}
	return string(out)
}

// object reads an object of the bucket.
func (w *world) object(t *testing.T, key string) []byte {
	t.Helper()
	out, err := w.s3.Client().GetObject(t.Context(), &s3.GetObjectInput{
		Bucket: aws.String(w.bucket), Key: aws.String("etcd/" + key),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// objects returns all keys of the bucket below the prefix but the marker.
func (w *world) objects(t *testing.T) []string {
	t.Helper()
	var keys []string
	pages := s3.NewListObjectsV2Paginator(w.s3.Client(), &s3.ListObjectsV2Input{Bucket: aws.String(w.bucket)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			if !strings.HasSuffix(*o.Key, "snapshotd-store.json") {
				keys = append(keys, *o.Key)
			}
		}
	}
	return keys
}

// files returns all files of the directory but the marker.
func (w *world) files(t *testing.T) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != "snapshotd-store.json" {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// writeConfig writes the configuration of node-1, with a data directory of its own, and returns its file.
func writeConfig(t *testing.T, format string, args ...any) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "snapshotd.yaml")
	doc := fmt.Sprintf("data_dir: %s\nnode_name: node-1\n", t.TempDir()) + fmt.Sprintf(format, args...)
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
