package stall_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
	"github.com/snapshotd/snapshotd/storage/driver"
)

// stuckStore is a file system that hangs until it is released, and then goes on.
type stuckStore struct {
	driver.Store
	released chan struct{}
	commits  int
}

func (s *stuckStore) URI(key string) string { return "file:///" + key }

func (s *stuckStore) Put(ctx context.Context, _ string, r *driver.Source, _ repository.PutOptions) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	<-s.released
	if err := ctx.Err(); err != nil {
		return err
	}
	s.commits++
	return nil
}

func (s *stuckStore) Get(context.Context, string, driver.Extent) (io.ReadCloser, error) {
	return io.NopCloser(readerFunc(func([]byte) (int, error) { <-s.released; return 0, io.EOF })), nil
}

func (s *stuckStore) Stat(context.Context, string) (repository.Object, error) {
	<-s.released
	return repository.Object{}, nil
}

func (s *stuckStore) List(context.Context, string) iter.Seq2[repository.Object, error] {
	return func(yield func(repository.Object, error) bool) {
		if yield(repository.Object{Key: "a"}, nil) {
			<-s.released
		}
	}
}

func (s *stuckStore) Delete(context.Context, string) error { <-s.released; return nil }

func (s *stuckStore) Sweep(context.Context, string, repository.SweepOptions) (int64, error) {
	<-s.released
	return 0, nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

const (
	limit       = time.Minute
	cancelGrace = 10 * time.Second
)

func stuck() (*storage.Backend, *stuckStore) {
	s := &stuckStore{released: make(chan struct{})}
	kind := driver.Kind{
		Backend: snapshot.BackendLocal, Blocking: true,
		Explain: func(err error) driver.Verdict { return driver.Verdict{Text: err.Error()} },
	}
	return storage.NewBackend("nfs", kind, s, limit), s
}

func wantHung(t *testing.T, op string, err error) {
	t.Helper()
	e, ok := errors.AsType[*snapshot.Error](err)
	if !ok || e.Reason != snapshot.ReasonBackendUnavailable || !strings.Contains(e.Hint, "hangs") || e.Backend != "nfs" {
		t.Errorf("%s: %v, want BACKEND_UNAVAILABLE of a file system that hangs", op, err)
	}
}

var putOptions = repository.PutOptions{ContentType: "text/plain"}

func TestCallsOnAFileSystemThatHangsAreGivenUp(t *testing.T) {
	calls := map[string]func(context.Context, *storage.Backend) error{
		"put": func(ctx context.Context, b *storage.Backend) error {
			return b.Put(ctx, "a", strings.NewReader("a"), putOptions)
		},
		"stat":   func(ctx context.Context, b *storage.Backend) error { _, err := b.Stat(ctx, "a"); return err },
		"delete": func(ctx context.Context, b *storage.Backend) error { return b.Delete(ctx, "a") },
		"sweep": func(ctx context.Context, b *storage.Backend) error {
			_, err := b.Sweep(ctx, "", repository.SweepOptions{})
			return err
		},
		"get": func(ctx context.Context, b *storage.Backend) error {
			r, err := b.Get(ctx, "a", repository.Range{})
			if err != nil {
				return err
			}
			defer func() { _ = r.Close() }()
			_, err = io.ReadAll(r)
			return err
		},
		"list": func(ctx context.Context, b *storage.Backend) (err error) {
			for _, e := range b.List(ctx, "") {
				err = e
			}
			return err
		},
	}
	for op, run := range calls {
		t.Run(op, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, s := stuck()
				begin := time.Now()
				wantHung(t, op, run(t.Context(), b))
				if took := time.Since(begin); took < limit || took > limit+time.Second {
					t.Errorf("given up after %v", took)
				}
				begin = time.Now()
				_, err := b.Stat(t.Context(), "a")
				wantHung(t, "the next call", err)
				if time.Since(begin) != 0 {
					t.Errorf("the next call waited, though the first one still hangs")
				}
				close(s.released)
				synctest.Wait()
				if s.commits != 0 {
					t.Error("a put that was given up was committed")
				}
				if err := b.Delete(t.Context(), "a"); err != nil {
					t.Errorf("when the file system is back: %v", err)
				}
			})
		})
	}
}

func TestCancelledCallOnAFileSystemThatHangsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := stuck()
		defer close(s.released)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begin := time.Now()
		err := b.Put(ctx, "a", strings.NewReader("a"), putOptions)
		if snapshot.ReasonOf(err) != snapshot.ReasonCancelled || time.Since(begin) != time.Second+cancelGrace {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}

// A source that gives nothing for long is not the file system's fault, nor is a consumer that takes nothing.
func TestSlowCallersOfAFileSystemAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := stuck()
		close(s.released)
		slow := readerFunc(func(p []byte) (int, error) {
			time.Sleep(10 * limit)
			return 0, io.EOF
		})
		if err := b.Put(t.Context(), "a", slow, putOptions); err != nil || s.commits != 1 {
			t.Errorf("put: %v", err)
		}
		for _, err := range b.List(t.Context(), "") {
			if err != nil {
				t.Errorf("list: %v", err)
			}
			time.Sleep(10 * limit)
		}
	})
}
