package seekable_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/snapshotd/snapshotd/internal/codec/seekable"
)

// BenchmarkResident reports by how much the anonymous memory of the process grows when 512 MiB are compressed that are
// not in memory themselves. Run each in a process of its own: -bench 'Resident/workers=2$'.
func BenchmarkResident(b *testing.B) {
	for _, workers := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			piece := compressible(seekable.ChunkSize)
			before, peak := rssAnon(b), int64(0)
			dst := writerFunc(func(p []byte) (int, error) {
				peak = max(peak, rssAnon(b))
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

// rssAnon returns the resident anonymous memory of this process in bytes.
func rssAnon(tb testing.TB) int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Skip("there is no /proc here")
	}
	var kib int64
	_, after, _ := bytes.Cut(status, []byte("RssAnon:"))
	if _, err := fmt.Sscan(string(after), &kib); err != nil {
		tb.Skip("the kernel does not tell RssAnon")
	}
	return kib << 10
}
