package segment

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Level is how long the stretches of time are that segments hold. It is in the keys of their objects, so that a listing
// of one level is short.
type Level string

// The levels. Segments of one are merged into those of the next.
const (
	Level10s Level = "10s"
	Level5m  Level = "5m"
	Level1h  Level = "1h"
)

// Levels returns all levels, the shortest stretches first.
func Levels() []Level { return []Level{Level10s, Level5m, Level1h} }

// Valid reports whether it is one of the levels.
func (l Level) Valid() bool { return l == Level10s || l == Level5m || l == Level1h }

// Timeline names one history of a cluster: the id of the etcd cluster and the second in which the journal of that
// history began, such as cdf818194e3a8c32-1784203200. Of one cluster's timelines, the greater name is of the later one.
type Timeline string

var timelineName = regexp.MustCompile(`^([0-9a-f]{16})-([0-9]{10})$`)

// NewTimeline returns the name of a history that begins now.
func NewTimeline(etcdCluster uint64, now time.Time) Timeline {
	return Timeline(fmt.Sprintf("%016x-%010d", etcdCluster, now.Unix()))
}

// Valid reports whether it has the form of a timeline's name.
func (t Timeline) Valid() bool { return timelineName.MatchString(string(t)) }

// Of reports whether it is a history of the etcd cluster with an id, in hex as records have it.
func (t Timeline) Of(etcdCluster string) bool {
	return t.Valid() && strings.HasPrefix(string(t), etcdCluster+"-")
}

// EtcdCluster returns the id of the etcd cluster; 0 when the name is not valid.
func (t Timeline) EtcdCluster() uint64 {
	m := timelineName.FindStringSubmatch(string(t))
	if m == nil {
		return 0
	}
	id, _ := strconv.ParseUint(m[1], 16, 64)
	return id
}

// Start returns when the journal of this history began; zero when the name is not valid.
func (t Timeline) Start() time.Time {
	m := timelineName.FindStringSubmatch(string(t))
	if m == nil {
		return time.Time{}
	}
	seconds, _ := strconv.ParseInt(m[2], 10, 64)
	return time.Unix(seconds, 0).UTC()
}

// Compare orders timelines by their start, and by their names where they began in one second.
func (t Timeline) Compare(other Timeline) int {
	return cmp.Or(t.Start().Compare(other.Start()), cmp.Compare(t, other))
}

// Later reports whether the journal of this history began in a later second than that of another one. Compare orders
// two of one second as well, which is for lists: nothing says which of the two goes on.
func (t Timeline) Later(than Timeline) bool { return t.Start().After(than.Start()) }

var spanName = regexp.MustCompile(`^([0-9a-f]{16})-([0-9a-f]{16})$`)

// Name returns the name of the segment of these revisions.
func Name(first, last int64) string { return fmt.Sprintf("%016x-%016x", first, last) }

// ParseName returns the revisions in the name of a segment.
func ParseName(name string) (first, last int64, ok bool) {
	m := spanName.FindStringSubmatch(name)
	if m == nil {
		return 0, 0, false
	}
	first, err1 := strconv.ParseInt(m[1], 16, 64)
	last, err2 := strconv.ParseInt(m[2], 16, 64)
	return first, last, err1 == nil && err2 == nil && first > 0 && first <= last && last <= MaxRevision
}
