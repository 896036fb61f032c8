package seekable

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory that a frame can ask for: those that this package writes have at most [ChunkSize].
const maxWindow = 16 << 20

// Reader reads the content of a zstd object, from its start to its end. Frames like those that [Copy] writes are
// decoded side by side, with memory for one more than there are decoders; from the first one that is larger, or does
// not say how large it is, they are decoded one after the other, as any zstd does it.
//
// The source is read by whoever calls Read or WriteTo and by nobody else; its errors are returned as they are.
type Reader struct {
	src     *bufio.Reader
	max     int // pieces at the same time
	free    []*piece
	queue   []*piece // being decoded, in the order of the source
	todo    chan *piece
	workers sync.WaitGroup

	current *piece // whose content is with the caller
	rest    []byte // of it, for Read
	plain   *zstd.Decoder
	end     error // what comes after the queue
	closed  bool
}

// piece is a frame and its content.
type piece struct {
	*buffers
	frame, content []byte
	err            error
	decoded        chan struct{} // gets a value when content or err is there
}

// NewReader returns a reader of r. The caller closes it.
func NewReader(r io.Reader) (*Reader, error) {
	workers := min(runtime.GOMAXPROCS(0), DefaultMaxWorkers)
	d := &Reader{src: bufio.NewReaderSize(r, 256<<10), max: workers + 1, todo: make(chan *piece, workers+1)}
	for range workers {
		dec, err := newDecoder(nil)
		if err != nil {
			_ = d.Close()
			return nil, err
		}
		d.workers.Go(func() { d.decode(dec) })
	}
	return d, nil
}

// newDecoder returns a decoder for one goroutine.
func newDecoder(r io.Reader) (*zstd.Decoder, error) {
	dec, err := zstd.NewReader(r,
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("make a zstd decoder: %w", err)
	}
	return dec, nil
}

// decode decodes pieces until there are no more.
func (r *Reader) decode(dec *zstd.Decoder) {
	defer dec.Close()
	for p := range r.todo {
		p.content, p.err = dec.DecodeAll(p.frame, p.in[:0])
		p.decoded <- struct{}{}
	}
}

// Read implements [io.Reader].
func (r *Reader) Read(b []byte) (int, error) {
	for len(r.rest) == 0 {
		content, err := r.next()
		if errors.Is(err, errPlain) {
			return r.plain.Read(b)
		}
		if err != nil {
			return 0, err
		}
		r.rest = content
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// WriteTo implements [io.WriterTo]: the content of the frames is written as it was decoded, without another copy of it.
func (r *Reader) WriteTo(w io.Writer) (total int64, err error) {
	for content := r.rest; ; {
		n, err := w.Write(content)
		total += int64(n)
		r.rest = nil
		if err != nil {
			return total, err
		}
		content, err = r.next()
		switch {
		case err == io.EOF: //nolint:errorlint // only io.EOF itself is the end
			return total, nil
		case errors.Is(err, errPlain):
			n, err := r.plain.WriteTo(w)
			return total + n, err
		case err != nil:
			return total, err
		}
	}
}

// errPlain: the rest is read from the plain decoder.
var errPlain = errors.New("not a frame of ours")

// next returns the content of the next frame, which is valid until the next call.
func (r *Reader) next() ([]byte, error) {
	if r.current != nil {
		r.free = append(r.free, r.current)
		r.current = nil
	}
	r.fill()
	if len(r.queue) == 0 {
		return nil, r.end
	}
	p := r.queue[0]
	r.queue = r.queue[1:]
	<-p.decoded
	r.current = p
	if p.err != nil {
		r.drop(p.err)
		return nil, p.err
	}
	return p.content, nil
}

// fill reads frames as long as there is room for them.
func (r *Reader) fill() {
	for r.end == nil && len(r.queue) < r.max {
		p := r.piece()
		frame, err := readFrame(r.src, p.out[:0])
		switch {
		case errors.Is(err, errPlain):
			r.end = r.startPlain(bytes.Clone(frame))
		case err != nil:
			r.end = err
		}
		if r.end != nil {
			r.free = append(r.free, p)
			return
		}
		p.frame = frame
		r.queue = append(r.queue, p)
		r.todo <- p
	}
}

func (r *Reader) piece() *piece {
	if n := len(r.free); n > 0 {
		p := r.free[n-1]
		r.free = r.free[:n-1]
		return p
	}
	return &piece{buffers: buffersPool.Get().(*buffers), decoded: make(chan struct{}, 1)}
}

// drop ends the reading with an error, whatever is being decoded.
func (r *Reader) drop(err error) {
	for _, p := range r.queue {
		<-p.decoded
	}
	r.free = append(r.free, r.queue...)
	r.queue, r.end = nil, err
}

// startPlain makes the plain decoder go on with a frame that was begun, and returns errPlain.
func (r *Reader) startPlain(begun []byte) error {
	var err error
	if r.plain, err = newDecoder(io.MultiReader(bytes.NewReader(begun), r.src)); err != nil {
		return err
	}
	return errPlain
}

// Close ends the reading, wherever it is. It does not close the source.
func (r *Reader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	close(r.todo)
	r.workers.Wait()
	if r.plain != nil {
		r.plain.Close()
	}
	r.drop(errors.New("the reader is closed"))
	if r.current != nil {
		r.free = append(r.free, r.current)
	}
	for _, p := range r.free {
		buffersPool.Put(p.buffers)
	}
	r.free, r.current, r.rest = nil, nil, nil
	return nil
}
