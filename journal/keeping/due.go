package keeping

import "time"

// due says when something is to be done again. Each term begins with new ones: it is not known when another replica has
// done it last.
type due struct {
	every time.Duration
	last  time.Time // zero when it is to be done as soon as it can be
}

// now reports whether it is to be done now, and notes that it is.
func (d *due) now() bool {
	if time.Since(d.last) < d.every {
		return false
	}
	d.last = time.Now()
	return true
}

// soon makes it due.
func (d *due) soon() { d.last = time.Time{} }
