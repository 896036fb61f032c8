package reading_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/cluster/reading"
	"github.com/snapshotd/snapshotd/snapshot"
)

// stream returns a database of zeros with its checksum, as etcd sends it.
func stream() []byte {
	db := make([]byte, 1<<20)
	sum := sha256.Sum256(db)
	return append(db, sum[:]...)
}

// slowly reads with a pause before each message, as a slow etcd does.
type slowly struct {
	io.Reader
	pause time.Duration
}

func (s slowly) Read(p []byte) (int, error) {
	time.Sleep(s.pause)
	return s.Reader.Read(p[:min(len(p), 32<<10)])
}

// limiter holds up all bytes: for a time, or for ever when that is 0.
type limiter time.Duration

func (l limiter) Wait(ctx context.Context, _ int) error {
	passed := time.After(time.Duration(l))
	if l == 0 {
		passed = nil
	}
	select {
	case <-passed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// none holds up nothing.
type none struct{}

func (none) Wait(context.Context, int) error { return nil }

// member answers as often as it says, and then not before the question is given up.
type member struct{ answers, asked int }

func (m *member) Answers(ctx context.Context) error {
	if m.asked++; m.asked <= m.answers {
		return nil
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func run(ctx context.Context, m *member, limit reading.Limiter, pause time.Duration) (reading.Fetched, error) {
	f := reading.Fetch{
		Stream: io.NopCloser(slowly{bytes.NewReader(stream()), pause}), Endpoint: "http://member", Watchdog: time.Minute,
		Limit: limit, Taken: func(int64) {}, Answers: m.Answers,
	}
	return f.Run(ctx, io.Discard)
}

// Five times 256 KiB pass, so a limit of 3 s holds the stream up for 15 s.
func TestTheLimitIsLiftedWhenTheMemberStopsAnswering(t *testing.T) {
	for what, c := range map[string]struct {
		limit  reading.Limiter
		pause  time.Duration
		member member
		asked  int
		lifted bool
	}{
		"it answers":                        {limiter(3 * time.Second), 0, member{answers: 100}, 7, false},
		"it stops answering":                {limiter(3 * time.Second), 0, member{answers: 2}, 3, true},
		"the limit lets nothing pass":       {limiter(0), 0, member{answers: 5}, 6, true},
		"the limit does not hold it up":     {none{}, 1100 * time.Millisecond, member{}, 0, false},
		"the limit holds it up for a blink": {limiter(time.Millisecond), 1100 * time.Millisecond, member{}, 0, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			got, err := run(t.Context(), &c.member, c.limit, c.pause)
			if err != nil || got.Size != 1<<20 {
				t.Errorf("%s: %+v, %v", what, got, err)
			}
			if c.member.asked != c.asked || (got.Lifted != nil) != c.lifted {
				t.Errorf("%s: asked %d times, want %d; lifted: %v", what, c.member.asked, c.asked, got.Lifted)
			}
			if c.lifted && !strings.Contains(got.Lifted.Error(), "did not answer within 2s") {
				t.Errorf("%s: %v", what, got.Lifted)
			}
		})
	}
}

func TestACallThatEndsIsNoMemberThatStopsAnswering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(3*time.Second, func() { cancel(why) }) // while the member is asked
		got, err := run(ctx, &member{}, limiter(0), 0)
		if !errors.Is(err, why) || got.Lifted != nil {
			t.Errorf("%v, lifted: %v", err, got.Lifted)
		}
	})
}

func TestTheWatchdogEndsAStreamWithoutBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		defer func() { _ = w.Close() }()
		f := reading.Fetch{Stream: r, Endpoint: "http://member", Watchdog: time.Minute, Limit: none{}, Taken: func(int64) {}}
		_, err := f.Run(t.Context(), io.Discard)
		if snapshot.ReasonOf(err) != snapshot.ReasonEtcdUnavailable || !strings.Contains(err.Error(), "no bytes for 1m0s") {
			t.Errorf("%v", err)
		}
	})
}
