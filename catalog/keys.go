package catalog

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// keys is what all keys of a cluster begin with.
type keys string

func (k keys) records() string             { return string(k) + "snapshots/" }
func (k keys) record(name string) string   { return k.records() + snapshot.OrderKey(name) }
func (k keys) byTimes() string             { return string(k) + "by-time/" }
func (k keys) store(backend string) string { return string(k) + "stores/" + url.PathEscape(backend) }
func (k keys) request(id string) string    { return string(k) + "requests/" + url.PathEscape(id) }
func (k keys) lock() string                { return string(k) + "lock/save" }
func (k keys) leader() string              { return string(k) + "leader" }
func (k keys) schedule(name string) string { return string(k) + "schedules/" + url.PathEscape(name) }

// byTime returns the key of a record in the index by time.
func (k keys) byTime(s *snapshot.Snapshot) string { return k.atTime(s.CreateTime) + s.Name }

// atTime returns what the keys of all records of one nanosecond begin with; those of earlier times follow.
func (k keys) atTime(t time.Time) string { return fmt.Sprintf("%s%016x/", k.byTimes(), ^nanos(t)) }

// timeOf returns the time in a key of the index by time.
func (k keys) timeOf(key string) (time.Time, bool) {
	at, _, _ := strings.Cut(strings.TrimPrefix(key, k.byTimes()), "/")
	inverted, err := strconv.ParseUint(at, 16, 64)
	return time.Unix(0, int64(^inverted)), err == nil && int64(^inverted) >= 0
}

// nanos returns the time since 1970, and the nearest time that can be said so for one that cannot.
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

// nameByTime returns the name in a key of the index by time.
func (k keys) nameByTime(key string) (string, error) {
	_, name, ok := strings.Cut(strings.TrimPrefix(key, k.byTimes()), "/")
	if !ok || name == "" {
		return "", fmt.Errorf("the key %q names no snapshot", key)
	}
	return name, nil
}
