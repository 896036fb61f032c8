package s3

import "time"

// SetLongestPause bounds the pauses between attempts. It is called before any other function.
func SetLongestPause(d time.Duration) { longestPause = d }
