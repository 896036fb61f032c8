package page

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// maxSize is the largest size of a page.
const maxSize = 1000

// Key returns a snapshot's place in a listing. In ascending order of the keys later times come first, and the snapshots
// of one nanosecond are in the order of their names.
func Key(s *snapshot.Snapshot) string { return KeyAt(s.CreateTime) + s.Name }

// KeyAt returns the prefix of the keys of all snapshots of one nanosecond.
func KeyAt(t time.Time) string { return fmt.Sprintf("%016x/", ^nanos(t)) }

// digits is the length of the time in a key.
const digits = 16

// NameOf returns the name in a key; false when the key is not as [Key] makes them.
func NameOf(key string) (string, bool) {
	at, name, _ := strings.Cut(key, "/")
	t, ok := TimeOf(at)
	return name, ok && KeyAt(t) == at+"/" && snapshot.ValidName(name)
}

// TimeOf returns the time in a key.
func TimeOf(key string) (time.Time, bool) {
	at, _, _ := strings.Cut(key, "/")
	inverted, err := strconv.ParseUint(at, 16, 64)
	return time.Unix(0, int64(^inverted)), err == nil && len(at) == digits && int64(^inverted) >= 0
}

// nanos returns the time since 1970. A time outside of the range gives the nearest number that is in it.
func nanos(t time.Time) uint64 {
	const last = 1<<63 - 1
	switch {
	case t.Unix() < 0:
		return 0
	case t.Unix() >= last/int64(time.Second):
		return last
	default:
		return uint64(t.UnixNano())
	}
}

// Matches reports whether a query selects a record.
func Matches(r *snapshot.Record, q snapshot.Query) bool {
	if len(q.States) > 0 && !slices.Contains(q.States, r.State()) {
		return false
	}
	if q.Backend != "" && !r.HasLocation(q.Backend) {
		return false
	}
	for k, v := range q.Labels {
		if got, ok := r.Labels[k]; !ok || got != v {
			return false
		}
	}
	return (q.From.IsZero() || !r.CreateTime.Before(q.From)) && (q.Until.IsZero() || r.CreateTime.Before(q.Until))
}
