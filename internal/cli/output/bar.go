package output

import (
	"fmt"
	"io"
)

// Bar shows the progress of one transfer on a terminal.
type Bar struct {
	*StatusLine
	verb string
}

// NewBar returns the bar of a transfer, on w when it is a terminal.
func NewBar(w io.Writer, verb string) *Bar {
	line, _ := NewStatusLine(w)
	return &Bar{line, verb}
}

// Show draws the bytes done of a total, which is 0 when it is not known.
func (b *Bar) Show(detail string, done, total int64) {
	if !b.Due() {
		return
	}
	text := fmt.Sprintf("%s %s  %s", b.verb, detail, Size(done))
	if total > 0 {
		share := transfer{done: done, total: total}.percent()
		text = fmt.Sprintf("%s %s %s  %s of %s", b.verb, detail, gauge(share), Size(done), Size(total))
	}
	b.Draw(text)
}
