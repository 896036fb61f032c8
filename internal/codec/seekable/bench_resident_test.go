package seekable_test

import (
	"fmt"
	"io"
	"testing"

	"github.com/snapshotd/snapshotd/internal/codec/seekable"
	"github.com/snapshotd/snapshotd/internal/testenv/check"
)

// BenchmarkResident reports by how much the anonymous memory of the process grows when 512 MiB are compressed that are
// not in memory themselves. Run each in a process of its own: -bench 'Resident/workers=2$'.
func BenchmarkResident(b *testing.B) {
	for _, workers := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			piece := compressible(seekable.ChunkSize)
			before, peak := check.RSSAnon(b), int64(0)
			dst := writerFunc(func(p []byte) (int, error) {
				peak = max(peak, check.RSSAnon(b))
				return len(p), nil
			})
			for b.Loop() {
				src := io.LimitReader(&repeat{piece: piece}, 512<<20)
				if _, err := seekable.Copy(b.Context(), dst, src, seekable.Options{Workers: workers}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(peak-before)/(1<<20), "MiB-RssAnon")
		})
	}
}

type repeat struct {
	piece []byte
	at    int
}

func (r *repeat) Read(b []byte) (int, error) {
	n := copy(b, r.piece[r.at:])
	r.at = (r.at + n) % len(r.piece)
	return n, nil
}
