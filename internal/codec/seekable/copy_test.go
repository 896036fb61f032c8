package seekable_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/klauspost/compress/zstd"

	"github.com/snapshotd/snapshotd/internal/codec/seekable"
)

// inputs are of every kind and length that is treated in its own way.
var inputs = sync.OnceValue(func() map[string][]byte {
	const chunk = seekable.ChunkSize
	return map[string][]byte{
		"empty":                 nil,
		"one byte":              {'x'},
		"a small text":          []byte("etcd"),
		"one short of a chunk":  compressible(chunk - 1),
		"one chunk":             compressible(chunk),
		"one more than a chunk": compressible(chunk + 1),
		"two chunks":            compressible(2 * chunk),
		"zeros":                 make([]byte, chunk+17),
		"random":                random(chunk + chunk/2),
		"many chunks":           append(compressible(4*chunk), random(chunk+3)...),
	}
})

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// compressible returns n bytes that look like Kubernetes objects.
func compressible(n int) []byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "/registry/pods/ns-%d/pod-%08x {\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"uid\":\"%016x-%016x\"},",
			i%50, rnd.Uint32(), rnd.Uint64(), rnd.Uint64())
		for range 4 + rnd.IntN(12) {
			fmt.Fprintf(&b, "\"env-%d\":{\"name\":\"VAR_%d\",\"value\":\"%x\"},", rnd.IntN(40), rnd.IntN(90), rnd.Uint64())
		}
	}
	return b.Bytes()[:n]
}

func TestCopyMakesWhatEveryZstdReads(t *testing.T) {
	for name, in := range inputs() {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			stats, err := seekable.Copy(t.Context(), &out, bytes.NewReader(in), seekable.Options{Workers: 2})
			if err != nil {
				t.Fatal(err)
			}
			frames := (len(in) + seekable.ChunkSize - 1) / seekable.ChunkSize
			want := seekable.Stats{In: int64(len(in)), Out: int64(out.Len()), Frames: frames}
			if stats != want {
				t.Errorf("stats are %+v, want %+v", stats, want)
			}
			// The decoder reads frame after frame and skips what is skippable, as the format demands of all.
			dec, err := zstd.NewReader(&out)
			if err != nil {
				t.Fatal(err)
			}
			defer dec.Close()
			got, err := io.ReadAll(dec)
			if err != nil || !bytes.Equal(got, in) {
				t.Fatalf("decoded %d bytes (%v), want the %d that went in", len(got), err, len(in))
			}
		})
	}
}

func TestZstdProgramReadsIt(t *testing.T) {
	program, err := exec.LookPath("zstd")
	if err != nil {
		t.Skip("there is no zstd program here")
	}
	for name, in := range inputs() {
		t.Run(name, func(t *testing.T) {
			var out, got, stderr bytes.Buffer
			if _, err := seekable.Copy(t.Context(), &out, bytes.NewReader(in), seekable.Options{}); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), program, "-d", "-c")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = &out, &got, &stderr
			if err := cmd.Run(); err != nil {
				t.Fatalf("zstd -d: %v: %s", err, &stderr)
			}
			if !bytes.Equal(got.Bytes(), in) {
				t.Error("zstd -d gives other bytes than went in")
			}
		})
	}
}

func TestOutputDoesNotDependOnWorkersOrReads(t *testing.T) {
	all := inputs()
	for _, name := range []string{"one byte", "one more than a chunk", "many chunks"} {
		t.Run(name, func(t *testing.T) {
			in := all[name]
			var want []byte
			for i, workers := range []int{1, 2, 8, 0} {
				var src io.Reader = bytes.NewReader(in)
				if i%2 == 1 && len(in) < 2*seekable.ChunkSize {
					src = iotest.HalfReader(iotest.DataErrReader(src))
				}
				var out bytes.Buffer
				if _, err := seekable.Copy(t.Context(), &out, src, seekable.Options{Workers: workers}); err != nil {
					t.Fatal(err)
				}
				if want == nil {
					want = out.Bytes()
				}
				if !bytes.Equal(out.Bytes(), want) {
					t.Fatalf("%d workers make other bytes than one", workers)
				}
			}
		})
	}
}

// How much room a snapshot is given follows its size, and its bytes do not follow that.
func TestAFrameIsThatOfAnEncoderForAnySize(t *testing.T) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(seekable.ChunkSize),
		zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithSingleSegment(true), zstd.WithEncoderCRC(true))
	if err != nil {
		t.Fatal(err)
	}
	chance := rand.New(rand.NewPCG(1, 2))
	in := make([]byte, seekable.ChunkSize)
	for i := range in { // repetitions near and far
		in[i] = byte(chance.IntN(3))
		if i > 1000 && i%1000 > 500 {
			in[i] = in[i-1-chance.IntN(i)]
		}
	}
	for _, n := range []int{1, 1000, 128 << 10, 128<<10 + 1, 256 << 10, 256<<10 + 1, 1 << 20, 1<<20 + 1, 3_000_000, len(in) - 1, len(in)} {
		var out bytes.Buffer
		if _, err := seekable.Copy(t.Context(), &out, iotest.HalfReader(bytes.NewReader(in[:n])), seekable.Options{}); err != nil {
			t.Fatal(err)
		}
		if want := enc.EncodeAll(in[:n], nil); !bytes.HasPrefix(out.Bytes(), want) {
			t.Errorf("the frame of %d bytes is another one", n)
		}
	}
}

// BenchmarkSmall measures what a small snapshot takes of memory when the buffers of others were collected.
func BenchmarkSmall(b *testing.B) {
	in := make([]byte, 30_000)
	for b.Loop() {
		b.StopTimer()
		runtime.GC()
		runtime.GC()
		b.StartTimer()
		if _, err := seekable.Copy(b.Context(), io.Discard, bytes.NewReader(in), seekable.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestFramesStandAlone(t *testing.T) {
	in := inputs()["many chunks"]
	var out bytes.Buffer
	if _, err := seekable.Copy(t.Context(), &out, bytes.NewReader(in), seekable.Options{}); err != nil {
		t.Fatal(err)
	}
	frames, err := seekable.ReadTable(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		t.Fatal(err)
	}
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	var end int64
	for i, f := range frames {
		b := out.Bytes()[f.Offset:][:f.Size]
		var h zstd.Header
		if err := h.Decode(b); err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		if !h.HasFCS || !h.HasCheckSum || h.FrameContentSize != uint64(f.DecompressedSize) {
			t.Fatalf("frame %d's header is %+v, want a checksum and a content size of %d", i, h, f.DecompressedSize)
		}
		got, err := dec.DecodeAll(b, nil)
		if err != nil || !bytes.Equal(got, in[f.DecodedOffset:][:f.DecompressedSize]) {
			t.Fatalf("frame %d decodes to other bytes than went in (%v)", i, err)
		}
		end = f.DecodedOffset + f.DecompressedSize
	}
	if end != int64(len(in)) {
		t.Errorf("the table covers %d bytes, want %d", end, len(in))
	}
}

var errBroken = errors.New("broken")

func TestErrorOfTheReaderIsReturnedAsItIs(t *testing.T) {
	for _, want := range []error{errBroken, io.ErrUnexpectedEOF, fmt.Errorf("wrapped: %w", io.EOF)} {
		for _, n := range []int{0, 1, seekable.ChunkSize, 5*seekable.ChunkSize + 1} {
			var out bytes.Buffer
			src := io.MultiReader(bytes.NewReader(random(n)), iotest.ErrReader(want))
			if _, err := seekable.Copy(t.Context(), &out, src, seekable.Options{}); err != want { //nolint:errorlint // the very error
				t.Errorf("after %d bytes and %q: got %v", n, want, err)
			}
			if _, err := seekable.ReadTable(bytes.NewReader(out.Bytes()), int64(out.Len())); err == nil {
				t.Errorf("after %d bytes and %q: there is a seek table", n, want)
			}
		}
	}
}

// failingWriter fails once it was given more than n bytes.
type failingWriter struct {
	n   int
	err error // nil: it writes less than it was given and says nothing
}

func (w *failingWriter) Write(b []byte) (int, error) {
	if len(b) <= w.n {
		w.n -= len(b)
		return len(b), nil
	}
	n := w.n
	w.n = 0
	return n, w.err
}

func TestErrorOfTheWriterIsReturnedAsItIs(t *testing.T) {
	in := random(6 * seekable.ChunkSize)
	var whole bytes.Buffer
	if _, err := seekable.Copy(t.Context(), &whole, bytes.NewReader(in), seekable.Options{}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, seekable.ChunkSize, 4 * seekable.ChunkSize, whole.Len() - 1} {
		for given, want := range map[error]error{errBroken: errBroken, nil: io.ErrShortWrite} {
			stats, err := seekable.Copy(t.Context(), &failingWriter{n, given}, bytes.NewReader(in), seekable.Options{})
			if err != want { //nolint:errorlint // the very error
				t.Errorf("a writer that breaks after %d bytes: got %v, want %v", n, err, want)
			}
			if stats.Out != int64(n) {
				t.Errorf("a writer that breaks after %d bytes: %d are said to be written", n, stats.Out)
			}
		}
	}
}

func TestReaderThatGivesNothingIsAnError(t *testing.T) {
	src := readerFunc(func([]byte) (int, error) { return 0, nil })
	if _, err := seekable.Copy(t.Context(), io.Discard, src, seekable.Options{}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("got %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// The bubble of synctest ends only when all goroutines that were started in it have: that is the check for leaks.
func TestCancelEndsTheCopyAndLeavesNoGoroutine(t *testing.T) {
	for _, when := range []string{"before", "in a read", "in a write"} {
		t.Run(when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				var src io.Reader = rand.NewChaCha8([32]byte{})
				dst := io.Discard
				switch when {
				case "before":
					cancel(errBroken)
				case "in a read":
					src = io.MultiReader(io.LimitReader(src, 3*seekable.ChunkSize), readerFunc(func([]byte) (int, error) {
						cancel(errBroken)
						<-ctx.Done()
						return 0, errors.New("a later error")
					}))
				case "in a write":
					dst = writerFunc(func(b []byte) (int, error) {
						cancel(errBroken)
						return len(b), nil
					})
				}
				if _, err := seekable.Copy(ctx, dst, src, seekable.Options{Workers: 3}); !errors.Is(err, errBroken) {
					t.Errorf("got %v, want the cause of the cancellation", err)
				}
			})
		})
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestReaderAndWriterBothStuckEndWithTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stuck := func([]byte) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}
		src := io.MultiReader(strings.NewReader(strings.Repeat("x", seekable.ChunkSize)), readerFunc(stuck))
		done := make(chan error)
		go func() {
			_, err := seekable.Copy(ctx, writerFunc(stuck), src, seekable.Options{})
			done <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}
