package output

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// located is an event that says in which states the backends "local" and "s3" are.
func located(typ snapshotdv1.WatchResponse_Type, local, s3 snapshotdv1.Snapshot_State) *snapshotdv1.WatchResponse {
	return &snapshotdv1.WatchResponse{Type: typ, Snapshot: &snapshotdv1.Snapshot{Locations: []*snapshotdv1.Location{
		{Backend: "local", State: local}, {Backend: "s3", State: s3},
	}}}
}

func read(phase snapshotdv1.WatchResponse_Phase, done int64) *snapshotdv1.WatchResponse {
	return &snapshotdv1.WatchResponse{
		Type: snapshotdv1.WatchResponse_TYPE_PROGRESS, Phase: phase, DoneBytes: done, TotalBytes: 1 << 30,
	}
}

func TestTheLineOfASaveSaysWhatItWaitsFor(t *testing.T) {
	const saving, ready = snapshotdv1.Snapshot_STATE_SAVING, snapshotdv1.Snapshot_STATE_READY
	begin := time.Unix(1_700_000_000, 0)
	var p Progress
	for _, step := range []struct {
		ev   *snapshotdv1.WatchResponse
		want string
	}{
		{located(snapshotdv1.WatchResponse_TYPE_STARTED, saving, saving), "s3 -"},
		{read(snapshotdv1.WatchResponse_PHASE_READING, 0), "waiting for etcd 0s"},
		{read(snapshotdv1.WatchResponse_PHASE_READING, 0), "waiting for etcd 1s"},
		{read(snapshotdv1.WatchResponse_PHASE_READING, 1<<29), "reading etcd 0s"},
		{read(snapshotdv1.WatchResponse_PHASE_INSPECTING, 1<<30), "inspecting 0s"},
		{read(snapshotdv1.WatchResponse_PHASE_COMPRESSING, 1<<30), "compressing 0s"},
		{read(snapshotdv1.WatchResponse_PHASE_STORING, 1<<30), "waiting for local, s3 0s"},
		{located(snapshotdv1.WatchResponse_TYPE_LOCATION_DONE, ready, saving), "waiting for s3 0s"},
		{read(snapshotdv1.WatchResponse_PHASE_STORING, 1<<30), "waiting for s3 1s"},
		{located(snapshotdv1.WatchResponse_TYPE_LOCATION_DONE, ready, ready), "recording 0s"},
	} {
		p.Add(step.ev, begin)
		if got := p.Line(begin); !strings.HasSuffix(got, "  "+step.want) {
			t.Errorf("the line is %q, want %q at its end", got, step.want)
		}
		begin = begin.Add(time.Second)
	}
}

func TestTheLineOfASaveIsDrawnByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var screen bytes.Buffer
		line := &StatusLine{w: &screen, width: 100}
		events := make(chan *snapshotdv1.WatchResponse)
		done := make(chan struct{})
		go func() {
			defer close(done)
			line.ShowSave(func() (*snapshotdv1.WatchResponse, error) {
				if ev := <-events; ev != nil {
					return ev, nil
				}
				return nil, errors.New("the stream has ended")
			})
		}()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if screen.Len() > 0 {
			t.Errorf("before the first event the line is %q", screen.String())
		}
		events <- read(snapshotdv1.WatchResponse_PHASE_READING, 0)
		time.Sleep(2100 * time.Millisecond)
		synctest.Wait()
		for _, want := range []string{"waiting for etcd 0s", "waiting for etcd 1s", "waiting for etcd 2s"} {
			if !strings.Contains(screen.String(), want) {
				t.Errorf("the terminal shows no %q: %q", want, screen.String())
			}
		}
		close(events)
		<-done
		if !strings.HasSuffix(screen.String(), "\r\x1b[K") {
			t.Errorf("the line is left behind: %q", screen.String())
		}
	})
}
