package snapshot

import (
	"io"
	"sync"
)

// besideWriter writes what it is given, and has it hashed by a goroutine at the same time.
type besideWriter struct {
	w    io.Writer
	err  error // of w
	todo chan []byte
	done chan struct{}
	wg   sync.WaitGroup
}

// hashBeside returns a writer to w that gives a trailer, unless it is nil, the same bytes. The caller stops it.
func hashBeside(t *trailer, w io.Writer) *besideWriter {
	b := &besideWriter{w: w, todo: make(chan []byte), done: make(chan struct{})}
	b.wg.Go(func() {
		for p := range b.todo {
			if t != nil {
				_, _ = t.Write(p)
			}
			b.done <- struct{}{}
		}
	})
	return b
}

// Write returns when both have taken the bytes.
func (b *besideWriter) Write(p []byte) (int, error) {
	b.todo <- p
	n, err := b.w.Write(p)
	<-b.done
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	b.err = err
	return n, err
}

// stop ends the goroutine.
func (b *besideWriter) stop() {
	close(b.todo)
	b.wg.Wait()
}
