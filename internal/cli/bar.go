package cli

import (
	"fmt"
	"io"
)

// bar shows the progress of one transfer on a terminal.
type bar struct {
	*statusLine
	verb string
}

func newBar(w io.Writer, verb string) *bar {
	line, _ := newStatusLine(w)
	return &bar{line, verb}
}

func (b *bar) show(detail string, done, total int64) {
	if !b.due() {
		return
	}
	text := fmt.Sprintf("%s %s  %s", b.verb, detail, size(done))
	if total > 0 {
		share := transfer{done: done, total: total}.percent()
		text = fmt.Sprintf("%s %s %s  %s of %s", b.verb, detail, gauge(share), size(done), size(total))
	}
	b.draw(text)
}
