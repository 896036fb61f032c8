package datadir_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/internal/etcd/datadir"
	"github.com/snapshotd/snapshotd/internal/testenv/check"
)

// BenchmarkMakeAt takes databases of growing size back by all of their revisions but a tenth. The anonymous memory must
// not grow with them. SNAPSHOTD_REWIND_RECORDS is the number of records of the largest, of 1 KiB each.
func BenchmarkMakeAt(b *testing.B) {
	records := 100_000
	if n, err := strconv.Atoi(os.Getenv("SNAPSHOTD_REWIND_RECORDS")); err == nil {
		records = n
	}
	for _, n := range []int{records / 4, records} {
		file := writeRecords(b, n)
		info, err := os.Stat(file)
		must(b, err)
		b.Run(fmt.Sprintf("%dMiB", info.Size()>>20), func(b *testing.B) {
			b.SetBytes(info.Size())
			var most int64
			for b.Loop() {
				b.StopTimer()
				cfg := config(b.TempDir())
				stream(b, file, cfg.SnapshotPath)
				debug.FreeOSMemory()
				before, stop := check.RSSAnon(b), watch(b, &most)
				b.StartTimer()
				must(b, datadir.MakeAt(cfg, datadir.Past{Revision: int64(n / 10)}))
				stop()
				most -= before
			}
			b.ReportMetric(float64(most)/(1<<20), "MiB-RssAnon")
		})
	}
}

// stream copies a file without holding it in memory.
func stream(tb testing.TB, from, to string) {
	tb.Helper()
	in, err := os.Open(from)
	must(tb, err)
	defer func() { _ = in.Close() }()
	out, err := os.Create(to)
	must(tb, err)
	_, err = io.Copy(struct{ io.Writer }{out}, struct{ io.Reader }{in})
	must(tb, err)
	must(tb, out.Close())
}

// writeRecords makes a database with records of 1 KiB, one at each revision.
func writeRecords(tb testing.TB, n int) (file string) {
	tb.Helper()
	file = tb.TempDir() + "/saved.db"
	db, err := bolt.Open(file, 0o600, &bolt.Options{NoSync: true, NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	must(tb, err)
	for from := 0; from < n && err == nil; from += 10_000 {
		err = db.Update(func(tx *bolt.Tx) error {
			for _, name := range []string{"key", "lease", "meta"} {
				if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
					return err
				}
			}
			keys := tx.Bucket([]byte("key"))
			keys.FillPercent = 0.9
			for i := from; i < min(from+10_000, n); i++ {
				v, err := proto.Marshal(&mvccpb.KeyValue{Key: fmt.Appendf(nil, "/registry/%d", i), Value: make([]byte, 1000), ModRevision: int64(i + 2)})
				if err == nil {
					err = keys.Put(append(append(binary.BigEndian.AppendUint64(nil, uint64(i+2)), '_'), make([]byte, 8)...), v)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	must(tb, err)
	must(tb, db.Close())
	return file
}

// watch notes the most anonymous memory of this process until stop is called.
func watch(tb testing.TB, most *int64) (stop func()) {
	*most = 0
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				*most = max(*most, check.RSSAnon(tb))
			}
		}
	}()
	return func() { close(done); <-ended }
}
