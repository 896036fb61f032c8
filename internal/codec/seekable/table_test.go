package seekable_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/snapshotd/snapshotd/internal/codec/seekable"
)

func TestSeekTableOfTheFormat(t *testing.T) {
	for name, want := range map[string]string{
		// magic, size, no entries; no frames, descriptor, magic
		"empty": "5e2a4d18" + "09000000" + "00000000" + "00" + "b1ea928f",
		// one entry: 14 bytes (magic 4, descriptor 1, content size 1, block 3+1, checksum 4) of one
		"one byte": "5e2a4d18" + "11000000" + "0e000000" + "01000000" + "01000000" + "00" + "b1ea928f",
	} {
		var out bytes.Buffer
		if _, err := seekable.Copy(t.Context(), &out, bytes.NewReader(inputs()[name]), seekable.Options{}); err != nil {
			t.Fatal(err)
		}
		b := out.Bytes()
		if got := hex.EncodeToString(b[len(b)-len(want)/2:]); got != want {
			t.Errorf("%s: the table is %s, want %s", name, got, want)
		}
	}
}

func TestReadTableRefusesWhatDoesNotFit(t *testing.T) {
	var out bytes.Buffer
	if _, err := seekable.Copy(t.Context(), &out, bytes.NewReader(compressible(3*seekable.ChunkSize)), seekable.Options{}); err != nil {
		t.Fatal(err)
	}
	whole := out.Bytes()
	for _, n := range []int{0, 1, 16, 17, len(whole) - 42, len(whole) - 1} {
		if _, err := seekable.ReadTable(bytes.NewReader(whole), int64(n)); !errors.Is(err, seekable.ErrNoTable) {
			t.Errorf("cut to %d bytes: got %v", n, err)
		}
	}
	const tableSize = 8 + 3*8 + 9
	for i := range tableSize {
		b := bytes.Clone(whole)
		b[len(b)-1-i] ^= 0x80
		_, err := seekable.ReadTable(bytes.NewReader(b), int64(len(b)))
		if i < 33 && i >= 9 && (i-9)%8 < 4 {
			continue // part of a decompressed size: what is possible is not for the table to say
		}
		if !errors.Is(err, seekable.ErrNoTable) {
			t.Errorf("byte %d from the end changed: got %v", i, err)
		}
	}
	if _, err := seekable.ReadTable(bytes.NewReader(whole[:9]), int64(len(whole))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("shorter than said: got %v", err)
	}
}

func TestReadTableReturnsTheErrorOfTheReader(t *testing.T) {
	if _, err := seekable.ReadTable(readerAt{iotest.ErrReader(errBroken)}, 100); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
}

type readerAt struct{ io.Reader }

func (r readerAt) ReadAt(b []byte, _ int64) (int, error) { return r.Read(b) }

func FuzzReadTable(f *testing.F) {
	for _, in := range [][]byte{nil, []byte("x"), compressible(seekable.ChunkSize + 5)} {
		var out bytes.Buffer
		if _, err := seekable.Copy(f.Context(), &out, bytes.NewReader(in), seekable.Options{}); err != nil {
			f.Fatal(err)
		}
		f.Add(out.Bytes()[max(0, out.Len()-100):])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		frames, err := seekable.ReadTable(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if !errors.Is(err, seekable.ErrNoTable) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		var end, decoded int64
		for i, fr := range frames {
			if fr.Offset != end || fr.DecodedOffset != decoded || fr.Size <= 0 || fr.DecompressedSize <= 0 {
				t.Fatalf("frame %d is %+v, after %d bytes of %d", i, fr, end, decoded)
			}
			end += fr.Size
			decoded += fr.DecompressedSize
		}
		if want := int64(len(b) - 8 - 8*len(frames) - 9); end != want {
			t.Errorf("the frames end at %d, the table begins at %d", end, want)
		}
	})
}
