package cluster_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// slowBackend reads all data at once, and takes it only when it is let.
type slowBackend struct {
	repository.Backend
	taken int64         // of the data, while it waits
	let   chan struct{} // closed to let it go on
}

func (b *slowBackend) Put(ctx context.Context, key string, r io.Reader, opts repository.PutOptions) error {
	if !strings.HasSuffix(key, ".json") {
		content, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		opts.Took(b.taken)
		select {
		case <-b.let:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		r = bytes.NewReader(content)
	}
	return b.Backend.Put(ctx, key, r, opts)
}

// progressOf returns the progress events in short: the phase, the backend, and how many bytes.
func progressOf(events []snapshot.Event) (lines []string) {
	for _, ev := range events {
		if ev.Type == snapshot.EventProgress {
			lines = append(lines, strings.Join(strings.Fields(fmt.Sprintf("%v %s %d/%d", ev.Phase, ev.Backend, ev.Done, ev.Total)), " "))
		}
	}
	return lines
}

func TestProgressCountsWhatABackendHasTakenAndGoesOnWhileNothingMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		slow := &slowBackend{Backend: f.backends["two"], taken: 100, let: make(chan struct{})}
		f.cfg.Backends[1] = slow
		f.Cluster = f.replica(t)
		done := make(chan error, 1)
		var saved *snapshot.Snapshot
		go func() {
			res, err := f.Save(t.Context(), cluster.SaveRequest{})
			saved = res.Snapshot
			done <- err
		}()
		synctest.Wait() // until the backend is all that the save waits for
		time.Sleep(900 * time.Millisecond)
		f.events.take()
		time.Sleep(2 * time.Second) // of virtual time, in which nothing moves
		got := progressOf(f.events.take())
		close(slow.let)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		const trailer = 32
		want := []string{
			fmt.Sprintf("STORING %d/%d", saved.DBSize+trailer, saved.DBSize+trailer),
			fmt.Sprintf("STORING two 100/%d", saved.StoredSize),
		}
		if want = append(want, want...); !slices.Equal(got, want) {
			t.Errorf("progress in two seconds: %q, want %q", got, want)
		}
	})
}

func TestProgressSaysThatEtcdIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		size := int64(len(f.stored.current().Data))
		let := make(chan struct{})
		f.source.open = func(s *cluster.Stream) (*cluster.Stream, error) {
			inner, first := s.ReadCloser, true
			s.ReadCloser = reading{inner, func(p []byte) (int, error) {
				if first {
					first = false
					<-let
				}
				return inner.Read(p)
			}}
			return s, nil
		}
		done := make(chan error, 1)
		go func() {
			_, err := f.Save(t.Context(), cluster.SaveRequest{})
			done <- err
		}()
		synctest.Wait()
		if got := progressOf(f.events.take()); len(got) < 3 || got[0] != "READING 0/0" || got[1] != "READING one 0/0" {
			t.Errorf("progress at the begin: %q", got)
		}
		time.Sleep(1500 * time.Millisecond)
		got := progressOf(f.events.take())
		if want := fmt.Sprintf("READING 0/%d", size); !slices.Contains(got, want) || !slices.Contains(got, "READING two 0/0") {
			t.Errorf("progress while etcd sends nothing: %q", got)
		}
		close(let)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		var phases []snapshot.Phase
		for _, ev := range f.events.take() {
			if ev.Type == snapshot.EventProgress {
				phases = append(phases, ev.Phase)
			}
		}
		if !slices.IsSorted(phases) || len(slices.Compact(phases)) < 3 {
			t.Errorf("phases %v", phases)
		}
	})
}

// A replica that does not save is told every five seconds, and of nothing once the save has ended.
func TestOtherReplicasAreToldHowFarASaveIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		slow := &slowBackend{Backend: f.backends["two"], taken: 100, let: make(chan struct{})}
		f.cfg.Backends[1] = slow
		f.cfg.Now = time.Now // the virtual one
		f.Cluster = f.replica(t)
		told := func(after time.Duration) *snapshot.Progress {
			t.Helper()
			time.Sleep(after) // of virtual time
			synctest.Wait()
			p, err := f.cfg.Saves.Told(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		done := make(chan error, 1)
		var saved *snapshot.Snapshot
		go func() {
			res, err := f.Save(t.Context(), cluster.SaveRequest{})
			saved = res.Snapshot
			done <- err
		}()
		if p := told(4900 * time.Millisecond); p != nil {
			t.Errorf("a save that takes seconds has told %+v", p)
		}
		first, same, second := told(200*time.Millisecond), told(4700*time.Millisecond), told(200*time.Millisecond)
		close(slow.let)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		const trailer = 32
		want := &snapshot.Progress{
			Name: saved.Name, Read: saved.DBSize + trailer, Total: saved.DBSize + trailer,
			Written: map[string]int64{"one": saved.StoredSize, "two": 100},
		}
		after := []time.Duration{5 * time.Second, 5 * time.Second, 10 * time.Second}
		for i, got := range []*snapshot.Progress{first, same, second} {
			want.Elapsed = after[i]
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%d: told was %+v, want %+v", i, got, want)
			}
		}
		if p := told(0); p != nil {
			t.Errorf("after the save: %+v", p)
		}
	})
}
