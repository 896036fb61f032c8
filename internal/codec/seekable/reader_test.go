package seekable_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"github.com/snapshotd/snapshotd/internal/codec/seekable"
)

func readAll(t *testing.T, r io.Reader, plain bool) ([]byte, error) {
	t.Helper()
	d, err := seekable.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	if plain {
		return io.ReadAll(struct{ io.Reader }{d})
	}
	var out bytes.Buffer
	_, err = d.WriteTo(&out)
	return out.Bytes(), err
}

// Its own frames, a stranger's that says no size, and both behind each other; read and written.
func TestReaderReadsAnyZstd(t *testing.T) {
	content := make([]byte, 2*seekable.ChunkSize+12345)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range content {
		content[i] = byte(r.IntN(8))
	}
	var own bytes.Buffer
	if _, err := seekable.Copy(t.Context(), &own, bytes.NewReader(content), seekable.Options{}); err != nil {
		t.Fatal(err)
	}
	var foreign bytes.Buffer
	w, err := zstd.NewWriter(&foreign)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	later := own.Len() * 2 / 3 // within the second of three frames
	both := append(bytes.Clone(own.Bytes()), foreign.Bytes()...)
	for _, plain := range []bool{true, false} {
		for what, tc := range map[string]struct{ in, want []byte }{
			"nothing": {nil, nil}, "own": {own.Bytes(), content}, "foreign": {foreign.Bytes(), content},
			"own, then foreign": {both, append(bytes.Clone(content), content...)},
		} {
			got, err := readAll(t, iotest.HalfReader(bytes.NewReader(tc.in)), plain)
			if err != nil || !bytes.Equal(got, tc.want) {
				t.Errorf("%s: %d bytes instead of %d, %v", what, len(got), len(tc.want), err)
			}
		}
		for _, n := range []int{1, 5, later, own.Len() - 1} {
			if _, err := readAll(t, bytes.NewReader(own.Bytes()[:n]), plain); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("cut off after %d bytes: %v", n, err)
			}
		}
		broken := errors.New("the network is gone")
		part := io.MultiReader(bytes.NewReader(own.Bytes()[:later]), iotest.ErrReader(broken))
		if got, err := readAll(t, part, plain); !errors.Is(err, broken) || !bytes.Equal(got, content[:seekable.ChunkSize]) {
			t.Errorf("with a source that fails: %d bytes, %v", len(got), err)
		}
		flipped := bytes.Clone(own.Bytes())
		flipped[later] ^= 1
		got, err := readAll(t, bytes.NewReader(flipped), plain)
		if err == nil || !bytes.Equal(got, content[:seekable.ChunkSize]) {
			t.Errorf("with a bit that is flipped: %d bytes, %v", len(got), err)
		}
	}
}
