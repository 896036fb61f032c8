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

// statusLine is the line of a terminal that says how far something is, until the result takes its place.
type statusLine struct {
	w     io.Writer
	width int
	drawn time.Time // last; zero when there is nothing on it
}

// newStatusLine returns the line of w. Where w is no terminal ok is false, and nothing is drawn.
func newStatusLine(w io.Writer) (l *statusLine, ok bool) {
	width, ok := terminalWidth(w)
	if !ok {
		w = io.Discard
	}
	return &statusLine{w: w, width: width}, ok
}

// due reports whether what has changed is to be drawn: not each time, and not too often.
func (l *statusLine) due() bool { return time.Since(l.drawn) >= progressInterval }

func (l *statusLine) draw(text string) {
	l.drawn = time.Now()
	fmt.Fprintf(l.w, "\r%s\x1b[K", cut(text, l.width-1))
}

// clear leaves the line to what comes next.
func (l *statusLine) clear() {
	if !l.drawn.IsZero() {
		fmt.Fprint(l.w, "\r\x1b[K")
		l.drawn = time.Time{}
	}
}

// gauge is a share as a bar and as a number.
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
		return 80, true // a terminal that does not say
	}
	return int(ws.Col), true
}

func cut(s string, width int) string {
	if r := []rune(s); len(r) > width {
		return string(r[:max(width, 0)])
	}
	return s
}
