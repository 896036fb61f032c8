package cli_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/internal/cli"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// terminal is one of 100 columns.
type terminal struct {
	*os.File                // the end that programs write to
	screen   testenv.Buffer // the end that shows
	read     sync.WaitGroup
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("this machine has no terminals: %v", err)
	}
	if err := unix.IoctlSetPointerInt(int(ptmx.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skipf("unlock the terminal: %v", err)
	}
	n, err := unix.IoctlGetInt(int(ptmx.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("open the terminal: %v", err)
	}
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100}); err != nil {
		t.Fatal(err)
	}
	term := &terminal{File: tty}
	term.read.Go(func() {
		_, _ = io.Copy(&term.screen, ptmx) // ends with an error when the terminal is closed
		_ = ptmx.Close()
	})
	return term
}

// written closes the terminal and returns the text that was written to it.
func (t *terminal) written() string {
	_ = t.Close()
	t.read.Wait()
	return t.screen.String()
}

func saveOn(t *testing.T, term *terminal, f *fake) (code int, stdout string) {
	t.Helper()
	env := serve(t, f)
	var out bytes.Buffer
	code = cli.Run(t.Context(), cli.System{
		Stdout: &out, Stderr: term.File, Getenv: func(k string) string { return env[k] }, Now: time.Now,
	}, []string{"save", "--timeout", "1m"})
	return code, out.String()
}

func TestSaveShowsProgressOnATerminal(t *testing.T) {
	term := newTerminal(t)
	code, stdout := saveOn(t, term, &fake{
		watch: func(_ *snapshotdv1.WatchRequest, stream grpc.ServerStreamingServer[snapshotdv1.WatchResponse]) error {
			s := wire.SnapshotToProto(ready())
			for _, l := range s.GetLocations() {
				l.State = snapshotdv1.Snapshot_STATE_SAVING
			}
			s.GetLocations()[0].State = snapshotdv1.Snapshot_STATE_READY
			events := []*snapshotdv1.WatchResponse{
				{Type: snapshotdv1.WatchResponse_TYPE_PROGRESS, DoneBytes: 512 << 20, TotalBytes: 1 << 30},
				{Type: snapshotdv1.WatchResponse_TYPE_LOCATION_DONE, Backend: "local", Snapshot: s},
				{Type: snapshotdv1.WatchResponse_TYPE_PROGRESS, Backend: "s3", DoneBytes: 2 << 30, TotalBytes: 1 << 30},
			}
			// A drawing too soon after another one is skipped: the last event is repeated until it is drawn.
			for i := 0; ; i = min(i+1, len(events)-1) {
				if err := stream.Send(events[i]); err != nil {
					return err
				}
				select {
				case <-stream.Context().Done():
					return nil
				case <-time.After(10 * time.Millisecond):
				}
			}
		},
		save: func(ctx context.Context, _ *snapshotdv1.SaveRequest) (*snapshotdv1.SaveResponse, error) {
			for !strings.Contains(term.screen.String(), "s3 99%") {
				select {
				case <-ctx.Done():
					return nil, ctx.Err()
				case <-time.After(10 * time.Millisecond):
				}
			}
			return &snapshotdv1.SaveResponse{Snapshot: wire.SnapshotToProto(ready())}, nil
		},
	})
	screen := term.written()
	if code != 0 || !strings.Contains(stdout, "READY") {
		t.Errorf("exit code %d, standard output %q", code, stdout)
	}
	for _, want := range []string{"\retcd [============            ]  50%  512 MiB of 1.0 GiB", "  local done  s3 99%",
		"\r\x1b[K"} {
		if !strings.Contains(screen, want) {
			t.Errorf("the terminal shows no %q:\n%q", want, screen)
		}
	}
	if !strings.HasSuffix(screen, "\r\x1b[K") {
		t.Errorf("the line is left behind: %q", screen)
	}
}

func TestSaveNeedsNobodyToWatch(t *testing.T) {
	term := newTerminal(t)
	code, stdout := saveOn(t, term, &fake{
		watch: func(*snapshotdv1.WatchRequest, grpc.ServerStreamingServer[snapshotdv1.WatchResponse]) error {
			return status.Error(codes.PermissionDenied, "not you")
		},
		save: func(context.Context, *snapshotdv1.SaveRequest) (*snapshotdv1.SaveResponse, error) {
			return &snapshotdv1.SaveResponse{Snapshot: wire.SnapshotToProto(ready())}, nil
		},
	})
	if screen := term.written(); code != 0 || !strings.Contains(stdout, "READY") || screen != "" {
		t.Errorf("exit code %d, standard output %q, terminal %q", code, stdout, screen)
	}
}

func TestRestoreLeavesItsLineToTheResult(t *testing.T) {
	dir := t.TempDir()
	s := stored(t, "v1", dir)
	term := newTerminal(t)
	code := cli.Run(t.Context(), cli.System{
		Stdout: term.File, Stderr: term.File, Getenv: func(string) string { return "" }, Now: time.Now,
	}, []string{"restore", "latest", "--from", "file://" + dir, "--data-dir", filepath.Join(t.TempDir(), "data")})
	screen := term.written()
	if want := "\r\x1b[Ksnapshot   " + s.Name; code != 0 || !strings.Contains(screen, "making the data directory") ||
		!strings.Contains(screen, want) {
		t.Errorf("exit code %d, the terminal shows no %q:\n%q", code, want, screen)
	}
}
