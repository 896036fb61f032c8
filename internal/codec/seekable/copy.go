package seekable

import (
	"context"
	"io"
	"runtime"
	"sync"
)

// ChunkSize is how many bytes of the input go into one frame; the last frame may hold fewer.
const ChunkSize = 4 << 20

// DefaultMaxWorkers bounds the workers when the caller does not: two encode about twice what etcd sends, and each costs
// memory.
const DefaultMaxWorkers = 2

// Options are the options of [Copy].
type Options struct {
	// Workers is how many frames are encoded side by side; the lesser of GOMAXPROCS and DefaultMaxWorkers when 0. The
	// output does not depend on it.
	Workers int
}

// Stats counts the bytes that a [Copy] moved. After an error they count until then.
type Stats struct {
	In     int64 // bytes that were compressed
	Out    int64 // bytes written, the seek table included
	Frames int   // frames written, the seek table not included
}

// Copy compresses all that src gives into dst and ends it with the seek table.
//
// The first error of src, dst or ctx ends it and is returned as it is (of ctx, its cause); what was written by then has
// no seek table. src is read and dst written in order, but at the same time as each other. Copy returns only when the
// last Read and Write have returned: those that can block for long must end with ctx themselves. Memory is bounded by
// the number of workers.
func Copy(ctx context.Context, dst io.Writer, src io.Reader, opts Options) (Stats, error) {
	workers := opts.Workers
	if workers <= 0 {
		workers = min(runtime.GOMAXPROCS(0), DefaultMaxWorkers)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	p := newPipeline(workers)
	defer p.release()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.read(ctx, src); err != nil {
			cancel(err)
		}
	})
	for range workers {
		wg.Go(func() { p.encode(cancel) })
	}
	stats, table := p.write(ctx, cancel, dst)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return stats, err
	}
	n, err := writeFull(dst, table.bytes())
	stats.Out += n
	return stats, err
}
