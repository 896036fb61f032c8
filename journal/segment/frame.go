package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// frameHead is how many bytes a frame has before the entry: its length and its checksum, 32 bits each, little-endian.
const frameHead = 8

// castagnoli is the polynomial for which processors have an instruction.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrTorn: the next bytes are no frame: the writer died while it wrote, or the bytes were changed.
var ErrTorn = errors.New("the end is not whole")

// AppendFrame appends an entry with its length and checksum, as a local file of the journal has it.
func AppendFrame(dst []byte, e Entry) ([]byte, error) {
	at := len(dst)
	dst = append(dst, make([]byte, frameHead)...)
	dst, err := AppendEntry(dst, e)
	if err != nil {
		return dst[:at], err
	}
	body := dst[at+frameHead:]
	if len(body) > maxEntry {
		return dst[:at], damaged("an entry has %d bytes; up to %d are possible", len(body), maxEntry)
	}
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(body)))
	binary.LittleEndian.PutUint32(dst[at+4:], crc32.Checksum(body, castagnoli))
	return dst, nil
}

// ReadFrame reads the next frame, and returns its entry and how many bytes it has. The end between two frames is
// io.EOF. A frame that is cut off or was changed is [ErrTorn]; all before it is good, and a writer goes on there. Other
// errors are those of r.
func ReadFrame(r io.Reader) (Entry, int, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, 0, torn(err)
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n == 0 || n > maxEntry {
		return nil, 0, ErrTorn
	}
	body, err := readN(r, int64(n))
	if err != nil {
		if err == io.EOF { //nolint:errorlint // it ended after the head
			err = io.ErrUnexpectedEOF
		}
		return nil, 0, torn(err)
	}
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, 0, ErrTorn
	}
	e, err := DecodeEntry(body)
	if err != nil {
		return nil, 0, errors.Join(ErrTorn, err)
	}
	return e, frameHead + len(body), nil
}

// torn tells the end within a frame from one between frames, and from errors of the disk, which say nothing of the
// file.
func torn(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTorn
	}
	return err
}

// readN reads n bytes. The buffer grows with the bytes, so that a wrong length takes no memory.
func readN(r io.Reader, n int64) ([]byte, error) {
	if n <= 64<<10 {
		b := make([]byte, n)
		_, err := io.ReadFull(r, b)
		return b, err
	}
	var b bytes.Buffer
	_, err := io.CopyN(&b, r, n)
	if err == io.EOF && b.Len() > 0 { //nolint:errorlint // a wrapped one is not the end
		err = io.ErrUnexpectedEOF
	}
	return b.Bytes(), err
}
