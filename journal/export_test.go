package journal

import "time"

// RetryBadAfter changes how long a part that cannot be stored is passed over, before the journal runs.
func (j *Journal) RetryBadAfter(d time.Duration) { j.badRetry = d }
