package cli

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

// statusLine is a line of a terminal that shows progress, until the result takes its place.
type statusLine struct {
	w     io.Writer
	width int
	drawn time.Time // last; zero when the line is empty
}

// newStatusLine returns the line of w. Where w is no terminal ok is false, and nothing is drawn.
func newStatusLine(w io.Writer) (l *statusLine, ok bool) {
	width, ok := terminalWidth(w)
	if !ok {
		w = io.Discard
	}
	return &statusLine{w: w, width: width}, ok
}

// due reports whether a change is to be drawn, so that not every change is.
func (l *statusLine) due() bool { return time.Since(l.drawn) >= progressInterval }

func (l *statusLine) draw(text string) {
	l.drawn = time.Now()
	fmt.Fprintf(l.w, "\r%s\x1b[K", cut(text, l.width-1))
}

// clear removes the line for the output that follows.
func (l *statusLine) clear() {
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

// terminalWidth returns how many columns w has; ok is false when it is no terminal.
func terminalWidth(w io.Writer) (width int, ok bool) {
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
