package trial_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/repository/trial"
	"github.com/snapshotd/snapshotd/snapshot"
)

// liar is a backend that claims to have done each request.
type liar struct {
	*memory.Backend
	keeps    bool // deletes nothing
	replaces bool // although it should not
	garbles  bool // its answers
	commits  bool // broken uploads
}

func (l liar) Delete(ctx context.Context, key string) error {
	if l.keeps {
		return nil
	}
	return l.Backend.Delete(ctx, key)
}

func (l liar) Put(ctx context.Context, key string, r io.Reader, opts repository.PutOptions) error {
	opts.IfAbsent = opts.IfAbsent && !l.replaces
	if !l.commits {
		return l.Backend.Put(ctx, key, r, opts)
	}
	got, failed := io.ReadAll(r)
	return errors.Join(failed, l.Backend.Put(ctx, key, bytes.NewReader(got), opts))
}

func (l liar) Get(ctx context.Context, key string, r repository.Range) (io.ReadCloser, error) {
	in, err := l.Backend.Get(ctx, key, r)
	if err != nil || !l.garbles {
		return in, err
	}
	got, err := io.ReadAll(in)
	got[len(got)/2] ^= 1
	return io.NopCloser(bytes.NewReader(got)), err
}

// A backend that lies is found out, and of one that does not, nothing is reported and nothing is left.
func TestTrialOfABackend(t *testing.T) {
	for what, test := range map[string]struct {
		liar
		failed []string
	}{
		"none":     {},
		"keeps":    {liar{keeps: true}, []string{"delete it", "delete it"}},
		"replaces": {liar{replaces: true}, []string{"write an object only where none is"}},
		"garbles":  {liar{garbles: true}, []string{"read it back", "read a part of it", "read it back", "read a part of it"}},
		"commits":  {liar{commits: true}, []string{"end the write of a large object"}},
	} {
		l := test.liar
		l.Backend = memory.New("one", snapshot.BackendS3)
		l.Set("default/etcd-snapshot-n-1700000000.db", []byte("x"))
		var failed []string
		trial.Run(t.Context(), l, "default/", func(action string, err error) {
			if err != nil {
				failed = append(failed, action)
			}
		})
		if !slices.Equal(failed, test.failed) {
			t.Errorf("%s: failed: %q, want %q", what, failed, test.failed)
		}
		if left := l.Keys(); len(left) != 1 && !l.keeps {
			t.Errorf("%s: left %q", what, left)
		}
	}
}
