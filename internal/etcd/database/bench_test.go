package database_test

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"testing"

	"github.com/snapshotd/snapshotd/internal/etcd/database"
	"github.com/snapshotd/snapshotd/internal/testenv/check"
)

// BenchmarkFile inspects databases of growing size. By how much the anonymous memory grows must not depend on it.
func BenchmarkFile(b *testing.B) {
	for _, records := range []int{20_000, 100_000, 400_000} {
		path := layout{records: records, keys: records, valueSize: 5_000, version: "3.7.0"}.write(b)
		info, err := os.Stat(path)
		must(b, err)
		b.Run(fmt.Sprintf("%dMiB", info.Size()>>20), func(b *testing.B) {
			b.SetBytes(info.Size())
			debug.FreeOSMemory() // of the writing of the database
			before := check.RSSAnon(b)
			for b.Loop() {
				_, err := database.File(b.Context(), path, database.Options{})
				must(b, err)
			}
			b.ReportMetric(float64(check.RSSAnon(b)-before)/(1<<20), "MiB-RssAnon")
		})
		b.Run(fmt.Sprintf("%dMiB/read", info.Size()>>20), func(b *testing.B) {
			b.SetBytes(info.Size())
			for b.Loop() {
				f, err := os.Open(path)
				must(b, err)
				_, err = io.Copy(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f})
				must(b, err)
				must(b, f.Close())
			}
		})
		must(b, os.Remove(path))
	}
}
