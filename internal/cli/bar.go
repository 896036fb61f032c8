package cli

import (
	"fmt"
	"io"
)

// bar shows how far one transfer is, where there is a terminal.
type bar struct {
	*statusLine
	what string
}

func newBar(w io.Writer, what string) *bar {
	line, _ := newStatusLine(w)
	return &bar{line, what}
}

func (b *bar) show(detail string, done, total int64) {
	if !b.due() {
		return
	}
	text := fmt.Sprintf("%s %s  %s", b.what, detail, size(done))
	if total > 0 {
		text = fmt.Sprintf("%s %s %s  %s of %s", b.what, detail, gauge(transfer{done: done, total: total}.percent()), size(done), size(total))
	}
	b.draw(text)
}
