package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// explain adds the operation to an error.
func explain(op string, err error) error { return fmt.Errorf("%s the file: %w", op, err) }

func newTestSpool(t *testing.T) *File {
	t.Helper()
	g, err := Create(filepath.Join(t.TempDir(), "g"), explain)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	return g
}

func TestSpoolGivesEveryReaderEveryByte(t *testing.T) {
	g := newTestSpool(t)
	want := make([]byte, 1<<20)
	for i := range want {
		want[i] = byte(i * 7919 >> 3)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			got, err := io.ReadAll(g.Reader(t.Context()))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("read %d bytes, %v; want %d bytes", len(got), err, len(want))
			}
		})
	}
	for rest := want; len(rest) > 0; rest = rest[min(10_000, len(rest)):] {
		if _, err := g.Write(rest[:min(10_000, len(rest))]); err != nil {
			t.Fatal(err)
		}
	}
	g.End(nil)
	wg.Wait()
}

func TestSpoolReaderWaitsAndEndsWithTheWriterOrItsContext(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name string
		end  func(g *File, cancel context.CancelCauseFunc)
		want error
	}{
		{"writer ends", func(g *File, _ context.CancelCauseFunc) { g.End(nil) }, io.EOF},
		{"writer fails", func(g *File, _ context.CancelCauseFunc) { g.End(broken) }, broken},
		{"writer fails after it ended", func(g *File, _ context.CancelCauseFunc) { g.End(nil); g.End(broken) }, broken},
		{"context ends", func(_ *File, cancel context.CancelCauseFunc) { cancel(broken) }, broken},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newTestSpool(t)
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				g.changed = make(chan struct{}) // of this bubble
				done := make(chan error, 1)
				go func() {
					_, err := g.Reader(ctx).Read(make([]byte, 1))
					done <- err
				}()
				synctest.Wait()
				select {
				case err := <-done:
					t.Fatalf("Read did not wait: %v", err)
				default:
				}
				c.end(g, cancel)
				if err := <-done; !errors.Is(err, c.want) {
					t.Errorf("Read = %v, want %v", err, c.want)
				}
				g.changed = make(chan struct{})
			})
		})
	}
}

func TestErrorsOfTheDiskAreExplained(t *testing.T) {
	path := filepath.Join(t.TempDir(), "g")
	g, err := Create(path, explain)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Create(path, explain); !errors.Is(err, os.ErrExist) || !strings.HasPrefix(err.Error(), "create the file: ") {
		t.Errorf("Create of a file that is there: %v", err)
	}
	if _, err := g.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Write([]byte("y")); !errors.Is(err, os.ErrClosed) || !strings.HasPrefix(err.Error(), "write the file: ") {
		t.Errorf("Write: %v", err)
	}
	if _, err := g.Reader(t.Context()).Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) || !strings.HasPrefix(err.Error(), "read the file: ") {
		t.Errorf("Read: %v", err)
	}
}
