package s3_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
)

// limiter counts the bytes that pass, and ends uploads that go beyond most.
type limiter struct {
	passed atomic.Int64
	most   int64 // 0 is no end
}

var errEnough = errors.New("enough")

func (l *limiter) Wait(_ context.Context, bytes int) error {
	if n := l.passed.Add(int64(bytes)); l.most > 0 && n > l.most {
		return errEnough
	}
	return nil
}

func TestUploadsPassTheLimit(t *testing.T) {
	t.Parallel()
	server := testenv.SharedS3(t)
	for name, size := range map[string]int{"in one request": 1 << 20, "in parts": 9 << 20} {
		t.Run(name, func(t *testing.T) {
			l := &limiter{}
			b := newBucket(server).backend(t, server.Addr(), "", func(cfg *storage.Config) { cfg.UploadLimit = l })
			data := bytes.Repeat([]byte("x"), size)
			if err := b.Put(t.Context(), "k", bytes.NewReader(data), repository.PutOptions{ContentType: "text/plain"}); err != nil {
				t.Fatal(err)
			}
			if n := l.passed.Load(); n < int64(size) || n > int64(size)+64<<10 {
				t.Errorf("%d bytes passed for an object of %d", n, size)
			}
			before := l.passed.Load()
			if _, err := b.Stat(t.Context(), "k"); err != nil {
				t.Fatal(err)
			}
			if n := l.passed.Load(); n != before {
				t.Errorf("%d bytes passed for a question", n-before)
			}
		})
	}
}

// Nothing is sent that the limit does not let pass.
func TestLimitHoldsUploadsBack(t *testing.T) {
	t.Parallel()
	server := testenv.SharedS3(t)
	l := &limiter{most: 1 << 20}
	bucket := newBucket(server)
	b := bucket.backend(t, server.Addr(), "", func(cfg *storage.Config) { cfg.UploadLimit = l })
	err := b.Put(t.Context(), "k", bytes.NewReader(make([]byte, 9<<20)), repository.PutOptions{ContentType: "text/plain"})
	if err == nil || !strings.Contains(err.Error(), errEnough.Error()) {
		t.Errorf("Put: %v", err)
	}
	if _, err := b.Stat(t.Context(), "k"); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("Stat: %v", err)
	}
}
