package seekable

import (
	"context"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// maxEmptyReads is how often in a row a reader may give neither bytes nor an error, as in package bufio.
const maxEmptyReads = 100

// pipeline moves a bounded number of chunks from the reader through the encoders to the writer. A chunk is in the hands
// of one of them at a time, and the channels have room for all: only who waits for a chunk can block.
type pipeline struct {
	free  chan *chunk // to be read into
	todo  chan *chunk // to be encoded
	order chan *chunk // to be written, in the order in which they were read
}

// chunk is a piece of the input and the frame that is made of it.
type chunk struct {
	in      []byte        // grows up to ChunkSize
	full    *buffers      // that in is of; nil while it is shorter
	n       int           // how many bytes of in were read
	frame   []byte        // what was made of them
	encoded chan struct{} // gets a value when frame is made
}

// smallChunk is the room that the first chunk begins with. Most snapshots of a large fleet are small: whole buffers for
// each of them would be most of the garbage of its process.
const smallChunk = 256 << 10

// fill reads into the chunk, which has room for so much at least, until it is full, or the end of src.
func (c *chunk) fill(ctx context.Context, src io.Reader, least int) (end bool, err error) {
	c.n = 0
	for !end && err == nil && c.n < ChunkSize {
		if c.n == len(c.in) || len(c.in) < least {
			c.grow(max(least, 4*len(c.in)))
		}
		var n int
		n, end, err = readFull(ctx, src, c.in[c.n:])
		c.n += n
	}
	return end, err
}

// grow makes room for so much.
func (c *chunk) grow(size int) {
	old := c.in
	if size < ChunkSize {
		c.in = make([]byte, size)
	} else {
		c.full = buffersPool.Get().(*buffers)
		c.in = c.full.in[:]
	}
	copy(c.in, old)
}

// encode makes the frame.
func (c *chunk) encode(enc *zstd.Encoder) {
	if c.full != nil {
		c.frame = c.full.out[:0]
	} else {
		c.frame = make([]byte, 0, c.n+frameOverhead)
	}
	c.frame = enc.EncodeAll(c.in[:c.n], c.frame)
}

// buffers have room for any chunk and its frame, so that nothing has to grow; memory that is not touched costs nothing.
type buffers struct {
	in  [ChunkSize]byte
	out [ChunkSize + frameOverhead]byte
}

// frameOverhead is more than a frame of a chunk that cannot be compressed is longer than the chunk: 3 bytes for each
// block of 128 KiB, the header and the checksum.
const frameOverhead = 1 << 10

// buffersPool keeps buffers between copies: made anew each time, they would take as much memory again until the old
// ones are collected.
var buffersPool = sync.Pool{New: func() any { return new(buffers) }}

func newPipeline(workers int) *pipeline {
	// One chunk more than there are workers: while all of them encode, another one is read or written.
	n := workers + 1
	p := &pipeline{free: make(chan *chunk, n), todo: make(chan *chunk, n), order: make(chan *chunk, n)}
	for range n {
		p.free <- &chunk{encoded: make(chan struct{}, 1)}
	}
	return p
}

// release gives the buffers back, once nobody works on them.
func (p *pipeline) release() {
	close(p.free)
	for c := range p.free {
		if c.full != nil {
			buffersPool.Put(c.full)
		}
	}
}

// read cuts src into chunks until its end, an error, or the end of ctx.
func (p *pipeline) read(ctx context.Context, src io.Reader) error {
	defer close(p.order)
	defer close(p.todo)
	for least := smallChunk; ; least = ChunkSize { // what is longer than a chunk is likely to be of many
		var c *chunk
		select {
		case c = <-p.free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		end, err := c.fill(ctx, src, least)
		if err != nil || c.n == 0 {
			p.free <- c
			return err
		}
		p.order <- c
		p.todo <- c
		if end {
			return nil
		}
	}
}

// encode encodes chunks until there are no more, after an error without making anything of them.
func (p *pipeline) encode(cancel context.CancelCauseFunc) {
	var enc *zstd.Encoder
	var err error
	for c := range p.todo {
		if enc == nil && err == nil {
			if enc, err = newEncoder(c.n); err != nil { // only the last chunk is short, and follows no other here
				cancel(err)
			}
		}
		if err == nil {
			c.encode(enc)
		}
		c.encoded <- struct{}{}
	}
}

// write writes the encoded chunks in order and makes their table. After an error of dst it cancels the others and goes
// on to take chunks and give them back, until the reader has stopped.
func (p *pipeline) write(ctx context.Context, cancel context.CancelCauseFunc, dst io.Writer) (Stats, *tableWriter) {
	var stats Stats
	table := new(tableWriter)
	for c := range p.order {
		<-c.encoded
		if ctx.Err() == nil {
			n, err := writeFull(dst, c.frame)
			stats.Out += n
			if err != nil {
				cancel(err)
			} else {
				table.add(len(c.frame), c.n)
				stats.In += int64(c.n)
				stats.Frames++
			}
		}
		p.free <- c
	}
	return stats, table
}

// readFull fills buf from src. The end of src is no error, and no other error is taken for it, io.ErrUnexpectedEOF and
// a wrapped io.EOF included.
func readFull(ctx context.Context, src io.Reader, buf []byte) (n int, end bool, err error) {
	empty := 0
	for n < len(buf) {
		if ctx.Err() != nil {
			return n, false, context.Cause(ctx)
		}
		m, err := src.Read(buf[n:])
		n += m
		switch {
		case err == io.EOF: // only io.EOF itself is the end
			return n, true, nil
		case err != nil:
			return n, false, err
		case m > 0:
			empty = 0
		default:
			if empty++; empty == maxEmptyReads {
				return n, false, io.ErrNoProgress
			}
		}
	}
	return n, false, nil
}

func writeFull(dst io.Writer, b []byte) (int64, error) {
	n, err := dst.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return int64(n), err
}
