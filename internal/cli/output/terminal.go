package output

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	progressInterval = 100 * time.Millisecond // between two drawings
	gaugeWidth       = 24
)

// StatusLine is a line of a terminal that shows progress, until the result takes its place.
type StatusLine struct {
	w     io.Writer
	width int
	drawn time.Time // last; zero when the line is empty
}

// NewStatusLine returns the line of w. Where w is no terminal ok is false, and nothing is drawn.
func NewStatusLine(w io.Writer) (l *StatusLine, ok bool) {
	width, ok := Terminal(w)
	if !ok {
		w = io.Discard
	}
	return &StatusLine{w: w, width: width}, ok
}

// Due reports whether a change is to be drawn, so that not every change is.
func (l *StatusLine) Due() bool { return time.Since(l.drawn) >= progressInterval }

// Draw shows a text in place of the last one.
func (l *StatusLine) Draw(text string) {
	l.drawn = time.Now()
	fmt.Fprintf(l.w, "\r%s\x1b[K", cut(text, l.width-1))
}

// Clear removes the line for the output that follows.
func (l *StatusLine) Clear() {
	if !l.drawn.IsZero() {
		fmt.Fprint(l.w, "\r\x1b[K")
		l.drawn = time.Time{}
	}
}

// gauge returns a share as a bar and as a number.
func gauge(percent int) string {
	filled := gaugeWidth * percent / 100
	return fmt.Sprintf("[%s%s] %3d%%", strings.Repeat("=", filled), strings.Repeat(" ", gaugeWidth-filled), percent)
}

// Terminal returns how many columns w has; ok is false when it is no terminal.
func Terminal(w io.Writer) (width int, ok bool) {
	f, isFile := w.(*os.File)
	if !isFile {
		return 0, false
	}
	ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, false
	}
	if ws.Col == 0 {
		return 80, true // a terminal of unknown width
	}
	return int(ws.Col), true
}

func cut(s string, width int) string {
	if r := []rune(s); len(r) > width {
		return string(r[:max(width, 0)])
	}
	return s
}
