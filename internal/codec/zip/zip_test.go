package zip_test

import (
	stdzip "archive/zip"
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/snapshotd/snapshotd/internal/codec/zip"
)

func content() []byte {
	b := bytes.Repeat([]byte("some text that compresses well "), 4000)
	for i := range 2000 {
		b = append(b, byte(rand.New(rand.NewPCG(1, uint64(i))).Uint32()))
	}
	return b
}

// archive makes an archive as K3s does, with these entries.
func archive(t testing.TB, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := stdzip.NewWriter(&b)
	for _, name := range names {
		e, err := w.CreateHeader(&stdzip.FileHeader{Name: name, Method: stdzip.Deflate})
		if err == nil {
			_, err = e.Write(content())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// stored makes an archive whose file is not compressed and whose size stands before it.
func stored(t testing.TB, data, extra []byte, flags uint16) []byte {
	t.Helper()
	var b bytes.Buffer
	w := stdzip.NewWriter(&b)
	h := &stdzip.FileHeader{
		Name: "x", Method: stdzip.Store, Extra: extra, Flags: flags,
		CompressedSize64: uint64(len(data)), UncompressedSize64: uint64(len(data)),
	}
	h.CRC32 = crc32.ChecksumIEEE(data)
	e, err := w.CreateRaw(h)
	if err == nil {
		_, err = e.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReadsWhatOthersWrite(t *testing.T) {
	for what, a := range map[string][]byte{
		"deflate":                       archive(t, "etcd-snapshot-node-1-1700000000"),
		"a path that is none of ours":   archive(t, "../../../etc/passwd"),
		"stored, with its size before":  stored(t, content(), nil, 0),
		"stored, with an extra to skip": stored(t, content(), []byte{1, 2, 4, 0, 5, 6, 7, 8}, 0),
	} {
		for how, r := range map[string]io.Reader{"at once": bytes.NewReader(a), "byte by byte": iotest.OneByteReader(bytes.NewReader(a))} {
			got, err := io.ReadAll(zip.NewReader(r))
			if err != nil || !bytes.Equal(got, content()) {
				t.Errorf("%s, %s: %d bytes, %v", what, how, len(got), err)
			}
		}
	}
}

func TestRefusesWhatIsMoreOrLessThanOneFile(t *testing.T) {
	one := archive(t, "x")
	damaged := bytes.Clone(one)
	damaged[len(damaged)/2] ^= 1
	for what, a := range map[string][]byte{
		"nothing":                  nil,
		"no file":                  archive(t),
		"two files":                archive(t, "x", "y"),
		"one file, twice":          append(bytes.Clone(one), one...),
		"something behind it":      append(bytes.Clone(one), 0),
		"text":                     []byte("this is no archive, and long enough to have a header"),
		"another byte in the file": damaged,
		"an encrypted file":        stored(t, content(), nil, 1),
	} {
		if got, err := io.ReadAll(zip.NewReader(bytes.NewReader(a))); !errors.Is(err, zip.ErrFormat) {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
	}
	for n := range len(one) {
		if _, err := io.ReadAll(zip.NewReader(bytes.NewReader(one[:n]))); !errors.Is(err, zip.ErrFormat) {
			t.Fatalf("cut off after %d of %d bytes: %v", n, len(one), err)
		}
	}
}

// An error of the reader is not taken for a damaged archive.
func TestErrorOfTheReaderIsReturnedAsItIs(t *testing.T) {
	broken := errors.New("broken")
	one := archive(t, "x")
	for _, n := range []int{0, 10, 40, len(one) / 2, len(one) - 5} {
		r := io.MultiReader(bytes.NewReader(one[:n]), iotest.ErrReader(broken))
		if _, err := io.ReadAll(zip.NewReader(r)); !errors.Is(err, broken) || errors.Is(err, zip.ErrFormat) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

// Whatever the input, what is accepted has one entry for archive/zip as well, with the same content.
func FuzzReader(f *testing.F) {
	f.Add(archive(f, "x"))
	f.Add(archive(f, "x", "y"))
	f.Add(stored(f, []byte("text"), nil, 0))
	f.Fuzz(func(t *testing.T, a []byte) {
		got, err := io.ReadAll(io.LimitReader(zip.NewReader(bytes.NewReader(a)), 1<<20))
		if err != nil || len(got) == 1<<20 {
			return
		}
		z, err := stdzip.NewReader(bytes.NewReader(a), int64(len(a)))
		if err != nil || len(z.File) != 1 {
			return // archive/zip looks at more than we do, such as the offset of the entry
		}
		r, err := z.File[0].Open()
		if err != nil {
			return
		}
		if want, err := io.ReadAll(r); err == nil && !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, archive/zip reads %d others", len(got), len(want))
		}
	})
}

func TestHasEnd(t *testing.T) {
	whole := archive(t, "x")
	comment := bytes.Clone(whole)
	comment[len(comment)-2] = 3
	comment = append(comment, "abc"...)
	for what, b := range map[string][]byte{"whole": whole, "with a comment": comment, "the end alone": whole[len(whole)-22:]} {
		if !zip.HasEnd(b[max(0, len(b)-zip.TailSize):]) {
			t.Errorf("%s has no end", what)
		}
	}
	for what, b := range map[string][]byte{
		"nothing": nil, "cut off": whole[:len(whole)-1], "half": whole[:len(whole)/2], "longer": append(bytes.Clone(whole), 0),
		"a comment that is cut off": comment[:len(comment)-1], "an end that is cut off": whole[len(whole)-21:],
	} {
		if zip.HasEnd(b[max(0, len(b)-zip.TailSize):]) {
			t.Errorf("%s has an end", what)
		}
	}
}
