package catalog

import (
	"net/url"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/catalog/internal/page"
	"github.com/snapshotd/snapshotd/snapshot"
)

// keys is the prefix of all keys of a cluster.
type keys string

func (k keys) records() string             { return string(k) + "snapshots/" }
func (k keys) record(name string) string   { return k.records() + snapshot.OrderKey(name) }
func (k keys) byTimes() string             { return string(k) + "by-time/" }
func (k keys) store(backend string) string { return string(k) + "stores/" + url.PathEscape(backend) }
func (k keys) request(id string) string    { return string(k) + "requests/" + url.PathEscape(id) }
func (k keys) lock() string                { return string(k) + "lock/save" }
func (k keys) told() string                { return string(k) + "lock/told" }
func (k keys) leader() string              { return string(k) + "leader" }
func (k keys) timeline() string            { return string(k) + "journal/timeline" }
func (k keys) journal() string             { return string(k) + "journal/notes" }
func (k keys) scrub() string               { return string(k) + "scrub" }
func (k keys) reconciled() string          { return string(k) + "reconciled" }
func (k keys) successor() string           { return string(k) + "successor" }
func (k keys) schedule(name string) string { return string(k) + "schedules/" + url.PathEscape(name) }

// byTime returns the key of a record in the index by time.
func (k keys) byTime(s *snapshot.Snapshot) string { return k.byTimes() + page.Key(s) }

// atTime returns the prefix of the keys of all records of one nanosecond; those of earlier times follow.
func (k keys) atTime(t time.Time) string { return k.byTimes() + page.KeyAt(t) }

// timeOf returns the time in a key of the index by time, also one without a name.
func (k keys) timeOf(key string) (time.Time, bool) {
	return page.TimeOf(strings.TrimPrefix(key, k.byTimes()))
}

// nameByTime returns the name in a key of the index by time; false when no record has such a key.
func (k keys) nameByTime(key string) (string, bool) {
	return page.NameOf(strings.TrimPrefix(key, k.byTimes()))
}

// nameOfRecord returns the name in the key of a record; false when no name has such a key. It need not be one that a
// snapshot can have.
func (k keys) nameOfRecord(key string) (string, bool) {
	place, ok := strings.CutPrefix(key, k.records())
	name := snapshot.NameOfOrderKey(place)
	return name, ok && name != "" && snapshot.OrderKey(name) == place
}
