package cluster_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/snapshot"
)

var errBroken = &snapshot.Error{Reason: snapshot.ReasonBackendUnavailable, Message: "the bucket burns"}

func TestSaveStoresTheSameVerifiedBytesOnEveryBackend(t *testing.T) {
	f := newFixture(t)
	res, err := f.Save(t.Context(), cluster.SaveRequest{Labels: map[string]string{"why": "test"}})
	if err != nil || len(res.Warnings) > 0 {
		t.Fatalf("Save: %v, warnings %q", err, res.Warnings)
	}
	s := res.Snapshot
	if s.State() != snapshot.StateReady || s.Revision != f.stored.current().Revision || s.TotalKeys != f.stored.current().TotalKeys || s.Labels["why"] != "test" {
		t.Errorf("snapshot %+v", s)
	}
	if !strings.HasPrefix(s.Name, "on-demand-node-1-") || s.EtcdMemberID == "" || s.EtcdVersion == "" || s.StorageVersion == "" {
		t.Errorf("snapshot %+v", s)
	}
	one, two := read(t, f.path("one", s.Name, ".db.zst")), read(t, f.path("two", s.Name, ".db.zst"))
	if !bytes.Equal(one, two) || int64(len(one)) != s.StoredSize || hexSum(one) != s.StoredSHA256 {
		t.Errorf("stored %d and %d bytes, sha256 %s and %s; recorded %d, %s", len(one), len(two), hexSum(one), hexSum(two), s.StoredSize, s.StoredSHA256)
	}
	r, err := zstd.NewReader(bytes.NewReader(one))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	db, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(db) - sha256.Size; int64(n) != s.DBSize || hexSum(db[:n]) != s.SHA256 || hex.EncodeToString(db[n:]) != s.SHA256 {
		t.Errorf("the database has %d bytes, sha256 %s; recorded %d, %s", n, hexSum(db[:n]), s.DBSize, s.SHA256)
	}
	if m1, m2 := read(t, f.path("one", s.Name, ".json")), read(t, f.path("two", s.Name, ".json")); !bytes.Equal(m1, m2) {
		t.Errorf("manifests differ:\n%s\n%s", m1, m2)
	}
	if got := f.seen.take(); !slices.Equal(got, []string{"save success", "write local success", "write local success"}) {
		t.Errorf("observed %q", got)
	}
	if rec := f.records(t)[s.Name]; rec.State() != snapshot.StateReady || rec.StoredSHA256 != s.StoredSHA256 || len(rec.Locations()) != 2 {
		t.Errorf("record %+v", rec)
	}
	spoolIsEmpty(t, f)
}

func TestSaveWithoutCompressionStoresWhatEtcdSent(t *testing.T) {
	f := newFixture(t, func(c *cluster.Config) { c.Compression = snapshot.CompressionNone })
	s := f.mustSave(t)
	db := read(t, f.path("one", s.Name, ".db"))
	if int64(len(db)) != s.StoredSize || hexSum(db) != s.StoredSHA256 || hexSum(db[:len(db)-sha256.Size]) != s.SHA256 {
		t.Errorf("stored %d bytes %s; recorded %+v", len(db), hexSum(db), s)
	}
}

func TestSaveThatFailsOnOneBackendIsPartial(t *testing.T) {
	for _, c := range []struct{ name, suffix string }{{"marker", "snapshotd-store.json"}, {"data", ".db.zst"}, {"manifest", "1.json"}} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			suffix := c.suffix
			f.backends["two"].put = func(_ context.Context, key string, _ io.Reader) error {
				if strings.HasSuffix(key, suffix) || suffix == "1.json" && strings.HasSuffix(key, ".json") && strings.Contains(key, "default/") {
					return errBroken
				}
				return nil
			}
			res, err := f.Save(t.Context(), cluster.SaveRequest{RequestID: "r"})
			if snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable || !strings.Contains(err.Error(), "the bucket burns") || !strings.Contains(err.Error(), "whole on one") {
				t.Fatalf("Save: %v", err)
			}
			s := res.Snapshot
			if s == nil || s.State() != snapshot.StatePartial || s.Location("one").State != snapshot.StateReady || s.Location("two").State != snapshot.StateFailed || s.Location("two").Size != 0 {
				t.Fatalf("snapshot %+v", s)
			}
			if got := f.files(t, "two"); len(got) > 0 {
				t.Errorf("left on two: %q", got)
			}
			if got := len(f.files(t, "one")); got != 2 {
				t.Errorf("%d files on one", got)
			}
			if got := f.seen.take(); !slices.Equal(got, []string{"save error", "write local error", "write local success"}) {
				t.Errorf("observed %q", got)
			}
			again, againErr := f.Save(t.Context(), cluster.SaveRequest{RequestID: "r"})
			if againErr == nil || againErr.Error() != err.Error() || again.Snapshot.Name != s.Name {
				t.Errorf("the same request id gave %v, %v", again, againErr)
			}
			if got := f.seen.take(); len(got) > 0 {
				t.Errorf("a repeated request was observed: %q", got)
			}
		})
	}
}

func TestSaveThatFailsEverywhereLeavesNothingButItsRecord(t *testing.T) {
	f := newFixture(t)
	f.mustSave(t)
	f.seen.take()
	before := [][]string{f.files(t, "one"), f.files(t, "two")}
	for _, b := range f.backends {
		b.put = func(context.Context, string, io.Reader) error { return errBroken }
	}
	res, err := f.Save(t.Context(), cluster.SaveRequest{})
	if err == nil || res.Snapshot.State() != snapshot.StateFailed || !strings.Contains(err.Error(), "nothing was kept") {
		t.Fatalf("Save: %+v, %v", res.Snapshot, err)
	}
	if after := [][]string{f.files(t, "one"), f.files(t, "two")}; !slices.EqualFunc(before, after, slices.Equal) {
		t.Errorf("files %q, before %q", after, before)
	}
	if rec := f.records(t)[res.Snapshot.Name]; rec == nil || rec.State() != snapshot.StateFailed || rec.ErrorText() == "" {
		t.Errorf("record %+v", rec)
	}
	if got := f.seen.take(); !slices.Equal(got, []string{"save error", "write local error", "write local error"}) {
		t.Errorf("observed %q", got)
	}
	spoolIsEmpty(t, f)
}

// TestSaveNeverPublishesAStreamThatIsNotWhole changes what etcd sends in every way, each of which must leave nothing.
func TestSaveNeverPublishesAStreamThatIsNotWhole(t *testing.T) {
	for _, c := range []struct {
		name     string
		read     func(s *cluster.Stream) func([]byte) (int, error)
		reason   snapshot.Reason
		watchdog time.Duration // the default when 0
	}{
		{name: "a bit is flipped", read: func(s *cluster.Stream) func([]byte) (int, error) {
			seen := 0
			return func(p []byte) (int, error) {
				n, err := s.Read(p)
				if seen <= 5000 && 5000 < seen+n {
					p[5000-seen] ^= 4
				}
				seen += n
				return n, err
			}
		}, reason: snapshot.ReasonChecksumMismatch},
		{name: "the end is missing", read: func(s *cluster.Stream) func([]byte) (int, error) {
			left := 9000
			return func(p []byte) (int, error) {
				if left == 0 {
					return 0, io.EOF
				}
				n, err := s.Read(p[:min(len(p), left)])
				left -= n
				return n, err
			}
		}, reason: snapshot.ReasonChecksumMismatch},
		{name: "nothing comes", read: func(*cluster.Stream) func([]byte) (int, error) {
			return func([]byte) (int, error) { return 0, io.EOF }
		}, reason: snapshot.ReasonChecksumMismatch},
		{name: "it breaks", read: func(s *cluster.Stream) func([]byte) (int, error) {
			left := 9000
			return func(p []byte) (int, error) {
				if left == 0 {
					return 0, &snapshot.Error{Reason: snapshot.ReasonEtcdUnavailable, Message: "connection reset"}
				}
				n, err := s.Read(p[:min(len(p), left)])
				left -= n
				return n, err
			}
		}, reason: snapshot.ReasonEtcdUnavailable},
		{name: "empty chunks come for ever", read: func(*cluster.Stream) func([]byte) (int, error) {
			return func([]byte) (int, error) { return 0, nil }
		}, reason: snapshot.ReasonEtcdUnavailable, watchdog: 300 * time.Millisecond},
		{name: "the checksum is right and the database is not one", read: func(*cluster.Stream) func([]byte) (int, error) {
			db := bytes.Repeat([]byte("no database "), 1024)
			sum := sha256.Sum256(db)
			return bytes.NewReader(append(db, sum[:]...)).Read
		}, reason: snapshot.ReasonSnapshotUnreadable},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, func(cfg *cluster.Config) { cfg.Watchdog = c.watchdog })
			f.source.open = func(s *cluster.Stream) (*cluster.Stream, error) {
				changed := *s
				changed.ReadCloser = reading{s.ReadCloser, c.read(s)}
				return &changed, nil
			}
			res, err := f.Save(t.Context(), cluster.SaveRequest{})
			if snapshot.ReasonOf(err) != c.reason {
				t.Fatalf("Save: %v, want %s", err, c.reason)
			}
			if res.Snapshot.State() != snapshot.StateFailed || res.Snapshot.ErrorText() == "" {
				t.Errorf("snapshot %+v", res.Snapshot)
			}
			for name := range f.backends {
				if got := f.files(t, name); len(got) > 0 {
					t.Errorf("left on %s: %q", name, got)
				}
			}
			if got := f.seen.take(); got[0] != "save error" || slices.Contains(got, "write local success") {
				t.Errorf("observed %q", got)
			}
			spoolIsEmpty(t, f)
		})
	}
}

func TestSaveEndsAStreamThatHangs(t *testing.T) {
	f := newFixture(t, func(cfg *cluster.Config) { cfg.Watchdog = 300 * time.Millisecond })
	f.source.open = func(s *cluster.Stream) (*cluster.Stream, error) {
		closed := &hangingStream{closed: make(chan struct{})}
		changed := *s
		changed.ReadCloser = closed
		_ = s.Close()
		return &changed, nil
	}
	_, err := f.Save(t.Context(), cluster.SaveRequest{})
	if snapshot.ReasonOf(err) != snapshot.ReasonEtcdUnavailable || !strings.Contains(err.Error(), "no bytes for 300ms") {
		t.Errorf("Save: %v", err)
	}
}

// hangingStream gives nothing until it is closed.
type hangingStream struct {
	once   sync.Once
	closed chan struct{}
}

func (h *hangingStream) Read([]byte) (int, error) {
	<-h.closed
	return 0, errors.New("stream closed")
}

func (h *hangingStream) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

func TestSaveDoesNotHoldEtcdForASlowBackend(t *testing.T) {
	f := newFixture(t)
	closed := make(chan struct{})
	f.source.open = func(s *cluster.Stream) (*cluster.Stream, error) {
		changed := *s
		changed.ReadCloser = &closing{ReadCloser: s.ReadCloser, closed: closed}
		return &changed, nil
	}
	f.backends["two"].put = func(ctx context.Context, key string, _ io.Reader) error {
		if strings.HasSuffix(key, ".db.zst") {
			select {
			case <-closed: // etcd was let go although this backend has not read a byte
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	}
	f.mustSave(t)
}

type closing struct {
	io.ReadCloser
	once   sync.Once
	closed chan struct{}
}

func (c *closing) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.ReadCloser.Close()
}

func TestSaveRefusesASpoolThatIsTooSmall(t *testing.T) {
	f := newFixture(t)
	f.source.open = func(s *cluster.Stream) (*cluster.Stream, error) {
		changed := *s
		changed.Size = 1 << 60
		return &changed, nil
	}
	_, err := f.Save(t.Context(), cluster.SaveRequest{})
	if snapshot.ReasonOf(err) != snapshot.ReasonNoSpace || !strings.Contains(err.Error(), "--data-dir") || !strings.Contains(err.Error(), "1152921504606846976 bytes are needed") {
		t.Errorf("Save: %v", err)
	}
}

func TestCancelledSaveLeavesNothingAndHasNoOutcome(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.backends["two"].put = func(ctx context.Context, key string, r io.Reader) error {
		if strings.HasSuffix(key, ".db.zst") {
			_, _ = r.Read(make([]byte, 100))
			cancel()
			<-ctx.Done()
			return context.Cause(ctx)
		}
		return nil
	}
	f.backends["one"].put = func(ctx context.Context, key string, _ io.Reader) error {
		if strings.HasSuffix(key, ".db.zst") {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		return nil
	}
	res, err := f.Save(ctx, cluster.SaveRequest{RequestID: "r"})
	if snapshot.ReasonOf(err) != snapshot.ReasonCancelled {
		t.Fatalf("Save: %v", err)
	}
	for name, b := range f.backends {
		if got := f.files(t, name); len(got) > 0 {
			t.Errorf("left on %s: %q", name, got)
		}
		b.put = nil
	}
	if rec := f.records(t)[res.Snapshot.Name]; rec == nil || rec.State() != snapshot.StateFailed {
		t.Errorf("record %+v", rec)
	}
	again, err := f.Save(t.Context(), cluster.SaveRequest{RequestID: "r"})
	if err != nil || again.Snapshot.Name == res.Snapshot.Name {
		t.Errorf("the retry gave %v, %v", again.Snapshot, err)
	}
}

func TestOneSaveRunsAtATime(t *testing.T) {
	f := newFixture(t)
	other := f.replica(t, func(c *cluster.Config) { c.Node = "node-2" })
	entered, leave := make(chan struct{}), make(chan struct{})
	f.backends["two"].put = func(_ context.Context, key string, _ io.Reader) error {
		if strings.HasSuffix(key, ".db.zst") {
			close(entered)
			<-leave
		}
		return nil
	}
	type outcome struct {
		res cluster.SaveResult
		err error
	}
	first, joined := make(chan outcome, 1), make(chan outcome, 1)
	go func() {
		res, err := f.Save(context.WithoutCancel(t.Context()), cluster.SaveRequest{RequestID: "r"})
		first <- outcome{res, err}
	}()
	<-entered
	for _, c := range []*cluster.Cluster{f.Cluster, other} {
		if _, err := c.Save(t.Context(), cluster.SaveRequest{}); snapshot.ReasonOf(err) != snapshot.ReasonSaveInProgress {
			t.Errorf("a second save: %v", err)
		}
	}
	if _, err := other.Save(t.Context(), cluster.SaveRequest{RequestID: "r"}); snapshot.ReasonOf(err) != snapshot.ReasonSaveInProgress {
		t.Errorf("the same request on another replica: %v", err)
	}
	rejected := slices.DeleteFunc(f.seen.take(), func(line string) bool { return line != "rejected" })
	if len(rejected) != 2 { // the first save may have written to one backend by now
		t.Errorf("observed %d rejections", len(rejected))
	}
	go func() {
		res, err := f.Save(context.WithoutCancel(t.Context()), cluster.SaveRequest{RequestID: "r"})
		joined <- outcome{res, err}
	}()
	close(leave)
	a, b := <-first, <-joined
	if a.err != nil || b.err != nil || a.res.Snapshot.Name != b.res.Snapshot.Name {
		t.Errorf("outcomes %+v, %+v", a, b)
	}
	if len(f.records(t)) != 1 {
		t.Errorf("records %v", f.records(t))
	}
}

func TestTwoSavesInOneSecondGetTwoNames(t *testing.T) {
	f := newFixture(t)
	same := f.replica(t)
	names := map[string]bool{}
	for _, c := range []*cluster.Cluster{f.Cluster, same, f.Cluster, same} {
		res, err := c.Save(t.Context(), cluster.SaveRequest{})
		if err != nil {
			t.Fatal(err)
		}
		names[res.Snapshot.Name] = true
	}
	if len(names) != 4 {
		t.Errorf("names %v", names)
	}
}

func TestSaveGoesOnWithoutTheCatalogAndReconcileAddsItLater(t *testing.T) {
	for _, c := range []struct {
		name string
		down []string // the catalog's operations that fail
	}{
		{"from the start", []string{"request", "lock", "owner", "store", "create", "update", "get"}},
		{"at the record", []string{"create"}},
		{"at the end", []string{"update"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			f.catalog.fail = func(op string) error {
				if slices.Contains(c.down, op) {
					return errCatalogDown
				}
				return nil
			}
			res, err := f.Save(t.Context(), cluster.SaveRequest{RequestID: "r"})
			if err != nil || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "etcd has no leader") {
				t.Fatalf("Save: %v, warnings %q", err, res.Warnings)
			}
			if res.Snapshot.State() != snapshot.StateReady {
				t.Errorf("snapshot %+v", res.Snapshot)
			}
			f.catalog.fail = nil
			f.mustReconcile(t)
			rec := f.records(t)[res.Snapshot.Name]
			if rec == nil || rec.State() != snapshot.StateReady || len(rec.Locations()) != 2 || rec.StoredSHA256 != res.Snapshot.StoredSHA256 {
				t.Fatalf("record %+v", rec)
			}
			again, err := f.Save(t.Context(), cluster.SaveRequest{RequestID: "r"})
			if err != nil || again.Snapshot.Name != res.Snapshot.Name {
				t.Errorf("the same request id gave %v, %v", again.Snapshot, err)
			}
		})
	}
}

func TestSaveRefusesAStoreThatIsNotTheOneItWas(t *testing.T) {
	f := newFixture(t)
	f.mustSave(t)
	marker := f.dirs["two"] + "/" + snapshot.MarkerKey
	if err := os.Remove(marker); err != nil {
		t.Fatal(err)
	}
	for _, doc := range []string{"", `{"formatVersion":1,"storeId":"another"}`, `{"formatVersion":99,"storeId":"x"}`, "rubbish"} {
		if doc != "" {
			if err := os.WriteFile(marker, []byte(doc), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		before := f.files(t, "two")
		res, err := f.Save(t.Context(), cluster.SaveRequest{})
		if snapshot.ReasonOf(err) != snapshot.ReasonBackendWrongStore || res.Snapshot.State() != snapshot.StatePartial {
			t.Errorf("marker %q: Save: %v", doc, err)
		}
		if got := f.files(t, "two"); !slices.Equal(got, before) {
			t.Errorf("marker %q: files %q", doc, got)
		}
	}
}

func TestSaveRefusesWhatIsNoRequest(t *testing.T) {
	f := newFixture(t)
	many := map[string]string{}
	for i := range 65 {
		many[strings.Repeat("k", i+1)[:min(i+1, 63)]+string(rune('a'+i%26))] = ""
	}
	for field, req := range map[string]cluster.SaveRequest{
		"name_prefix": {NamePrefix: "../x"},
		"labels":      {Labels: map[string]string{"": "x"}},
		"backends":    {Backends: []string{"three"}},
		"request_id":  {RequestID: strings.Repeat("x", 129)},
	} {
		_, err := f.Save(t.Context(), req)
		e, ok := errors.AsType[*snapshot.Error](err)
		if !ok || e.Reason != snapshot.ReasonInvalidArgument || e.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if len(f.records(t)) > 0 || len(f.seen.take()) > 0 {
		t.Error("a refused request left a trace")
	}
}

func TestEventsTellASaveInOrder(t *testing.T) {
	f := newFixture(t)
	if _, err := f.Save(t.Context(), cluster.SaveRequest{RequestID: "r"}); err != nil {
		t.Fatal(err)
	}
	var got []snapshot.EventType
	for _, e := range f.events.take() {
		if e.Type != snapshot.EventProgress {
			got = append(got, e.Type)
		}
		if e.RequestID != "r" || e.Type == snapshot.EventFinished && e.Snapshot.State() != snapshot.StateReady {
			t.Errorf("event %+v with %+v", e, e.Snapshot)
		}
	}
	want := []snapshot.EventType{snapshot.EventStarted, snapshot.EventLocationDone, snapshot.EventLocationDone, snapshot.EventFinished}
	if !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func spoolIsEmpty(t *testing.T, f *fixture) {
	t.Helper()
	if left, err := os.ReadDir(f.cfg.SpoolDir); err != nil || len(left) > 0 {
		t.Errorf("left in the spool: %v, %v", left, err)
	}
}

// TestTwoUseANewStoreAtOnce lets another replica use the store for the first time in the middle of a first use.
func TestTwoUseANewStoreAtOnce(t *testing.T) {
	f := newFixture(t)
	other := f.replica(t, func(c *cluster.Config) { c.Node = "node-2" })
	var interrupted atomic.Bool
	f.catalog.fail = func(op string) error {
		if op == "store" && interrupted.CompareAndSwap(false, true) {
			if _, err := other.Reconcile(t.Context(), cluster.ReconcileRequest{}); err != nil {
				t.Error(err)
			}
		}
		return nil
	}
	for name, r := range f.reconcile(t, cluster.ReconcileRequest{}) {
		if r.Err != nil {
			t.Errorf("%s: %v", name, r.Err)
		}
	}
	f.mustSave(t)
}
