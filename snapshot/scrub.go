package snapshot

import "time"

// ScrubNote is how the last scrub of a cluster has ended, as the replica that led then has noted it in the catalog.
type ScrubNote struct {
	Due   time.Time // for which the last one that has ended was due, however it ended; zero before the first one
	Time  time.Time // when it ended; zero when nobody has noted it
	Error string    // why it failed, an error a line; empty when it found all good
}
