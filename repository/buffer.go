package repository

import (
	"io"
	"sync"
)

// CopyBuffer is how many bytes are collected before they are hashed and written; etcd's messages have 32 KiB.
const CopyBuffer = 256 << 10

// buffers are those of copies that have ended. Where thousands of clusters are saved, most copies are of a few bytes.
var buffers = sync.Pool{New: func() any { return new([CopyBuffer]byte) }}

// Borrow lends a buffer until it is given back.
func Borrow() (buf []byte, giveBack func()) {
	b := buffers.Get().(*[CopyBuffer]byte) //nolint:forcetypeassert // nothing else is in it
	return b[:], func() { buffers.Put(b) }
}

// Copy copies all bytes, at most [CopyBuffer] at a time: it uses no WriteTo of r, and no ReadFrom of w.
func Copy(w io.Writer, r io.Reader) (int64, error) {
	buf, giveBack := Borrow()
	defer giveBack()
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, buf)
}
