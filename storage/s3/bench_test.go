package s3_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/storage"
)

// BenchmarkS3Read reads 256 MiB with one request, and as this package does it, in turns: on loopback, and through a
// proxy with 30 ms to the first byte of each answer and 50 MB/s for each connection.
func BenchmarkS3Read(b *testing.B) {
	server := testenv.StartS3(b)
	server.MakeBucket("bench")
	content := make([]byte, 256*mib)
	_, _ = rand.NewChaCha8([32]byte{}).Read(content)
	for name, addr := range map[string]string{"loopback": server.Addr(), "far away": farAway(b, server.Addr())} {
		b.Run(name, func(b *testing.B) {
			back, err := storage.New(storage.Config{Name: "s3", URL: server.URLAt(addr, "bench", "")})
			if err != nil {
				b.Fatal(err)
			}
			if err := back.Put(b.Context(), "x.db", bytes.NewReader(content), putOptions(false)); err != nil {
				b.Fatal(err)
			}
			client := s3.New(s3.Options{BaseEndpoint: aws.String("http://" + addr), Region: "us-east-1", UsePathStyle: true, Credentials: server.Credentials()})
			single := func(ctx context.Context) (io.ReadCloser, error) {
				out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("bench"), Key: aws.String("x.db")})
				if err != nil {
					return nil, err
				}
				return out.Body, nil
			}
			parts := func(ctx context.Context) (io.ReadCloser, error) { return back.Get(ctx, "x.db", repository.Range{}) }
			var took [2]time.Duration
			for b.Loop() {
				for i, open := range []func(context.Context) (io.ReadCloser, error){single, parts} {
					start := time.Now()
					r, err := open(b.Context())
					if err != nil {
						b.Fatal(err)
					}
					if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, make([]byte, mib)); err != nil || n != int64(len(content)) {
						b.Fatal(n, err)
					}
					_ = r.Close()
					took[i] += time.Since(start)
				}
			}
			rate := func(d time.Duration) float64 { return float64(b.N*len(content)) / 1e6 / d.Seconds() }
			b.ReportMetric(rate(took[0]), "MB/s-single")
			b.ReportMetric(rate(took[1]), "MB/s-parts")
			b.ReportMetric(took[0].Seconds()/took[1].Seconds(), "times-faster")
		})
	}
}

// farAway is a proxy to a server that takes its time for each request, and gives each connection a share of its
// bandwidth.
func farAway(b *testing.B, addr string) string {
	b.Helper()
	var proxy *testenv.HTTPProxy
	proxy = testenv.StartHTTPProxy(b, addr, func(w http.ResponseWriter, r *http.Request) bool {
		if !isGet(r) {
			return false
		}
		time.Sleep(30 * time.Millisecond)
		proxy.Forward(&slowWriter{ResponseWriter: w}, r)
		return true
	})
	return proxy.Addr()
}

// slowWriter takes 50 MB/s.
type slowWriter struct {
	http.ResponseWriter
	next time.Time
}

func (s *slowWriter) Write(p []byte) (int, error) {
	if now := time.Now(); s.next.Before(now) {
		s.next = now
	}
	s.next = s.next.Add(time.Duration(len(p)) * time.Second / 50e6)
	time.Sleep(time.Until(s.next))
	return s.ResponseWriter.Write(p)
}
