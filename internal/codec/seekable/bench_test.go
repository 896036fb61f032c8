package seekable_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/snapshotd/snapshotd/internal/codec/seekable"
)

func BenchmarkCopy(b *testing.B) {
	in := compressible(128 << 20)
	for _, workers := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				stats, err := seekable.Copy(b.Context(), io.Discard, bytes.NewReader(in), seekable.Options{Workers: workers})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(stats.Out)/float64(stats.In), "ratio")
			}
		})
	}
}

// BenchmarkStream is the cost of a plain stream of one frame.
func BenchmarkStream(b *testing.B) {
	in := compressible(128 << 20)
	for _, level := range []zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault} {
		b.Run(level.String(), func(b *testing.B) {
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				var out counter
				enc, err := zstd.NewWriter(&out, zstd.WithEncoderLevel(level))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := enc.ReadFrom(bytes.NewReader(in)); err != nil {
					b.Fatal(err)
				}
				if err := enc.Close(); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(out)/float64(len(in)), "ratio")
			}
		})
	}
}

type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}
