package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Shelf reads a store without a service and without a catalog: the manifests beside the data say all there is to know.
type Shelf struct {
	Backend Backend
	Prefix  string // of the cluster's keys: empty or ending with '/'
	Trust   *Trust // optional; which manifests are believed, all when nil
	Cluster string // optional; with Trust, manifests of another cluster are not believed, whoever has signed them
}

// Entry is a snapshot on a shelf, as far as the listing shows it.
type Entry struct {
	Name  string
	Time  time.Time // when it was taken, by its name, or else when it was written
	Size  int64     // of its object; 0 when that is missing
	group *group
}

// Entries returns what lies on the shelf, newest first. Only what the listing shows is held in memory, no object is read.
func (s *Shelf) Entries(ctx context.Context) ([]Entry, error) {
	var all []Entry
	list := s.Backend.List(ctx, s.Prefix)
	for g, err := range groups(s.Prefix, list, func(string) {}) {
		if err != nil {
			return nil, err
		}
		e := Entry{Name: g.name, group: g}
		for _, o := range g.objects {
			e.Size = max(e.Size, o.Size)
			e.Time, _ = originOf(g.name, o.ModTime)
		}
		if e.Size > 0 {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b Entry) int { return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(b.Name, a.Name)) })
	return all, nil
}

// Record returns what is known of an entry: what its manifest says, or, of a snapshot of another program, what its name says.
// Its only location is READY when the listing does not contradict that. The error is a [Error] with ReasonSnapshotUnreadable
// when it is no snapshot that could be restored.
func (s *Shelf) Record(ctx context.Context, e Entry) (*Record, error) {
	if e.group.manifest {
		return s.own(ctx, e)
	}
	if !s.Trust.believesUnsigned() {
		return nil, s.unusable(e, errors.New("it has no manifest, and only signed ones are believed"))
	}
	for _, o := range e.group.objects {
		file := strings.TrimPrefix(o.Key, s.Prefix)
		if suffix := strings.TrimPrefix(file, e.Name); suffix != "" && suffix != zipSuffix && suffix != dataSuffix {
			continue
		}
		rec := &Record{Snapshot: Snapshot{Name: e.Name, Trigger: TriggerAdopted, Compression: compressionOf(file), StoredSize: o.Size}, File: file}
		rec.CreateTime, rec.Node = originOf(e.Name, o.ModTime)
		rec.State, rec.Locations = StateReady, []Location{s.location(rec, o.Size)}
		return rec, nil
	}
	return nil, s.unusable(e, errors.New("its manifest is missing"))
}

func (s *Shelf) own(ctx context.Context, e Entry) (*Record, error) {
	key := s.Prefix + ManifestKey(e.Name)
	rec, err := ReadManifest(ctx, s.Backend, key, s.Trust)
	if err == nil && s.Trust != nil && s.Cluster != "" && rec.Cluster != s.Cluster {
		return nil, untrusted(s.Backend, key, fmt.Errorf("it is of cluster %q, and not of %q", rec.Cluster, s.Cluster))
	}
	if err == nil && rec.Name != e.Name {
		err = fmt.Errorf("its manifest is of %q", rec.Name)
	}
	var known *Error
	switch {
	case errors.As(err, &known):
		return nil, err
	case err != nil:
		return nil, s.unusable(e, err)
	}
	data := e.group.data(s.Prefix + rec.DataKey())
	switch {
	case data == nil:
		return nil, s.unusable(e, errors.New("its data is missing"))
	case data.Size != rec.StoredSize:
		return nil, s.unusable(e, fmt.Errorf("it has %d bytes instead of %d", data.Size, rec.StoredSize))
	}
	rec.State, rec.Locations = StateReady, []Location{s.location(rec, data.Size)}
	return rec, nil
}

func (s *Shelf) location(rec *Record, size int64) Location {
	return Location{
		Backend: s.Backend.Name(), Kind: s.Backend.Kind(), URI: s.Backend.URI(s.Prefix + rec.DataKey()), Size: size, State: StateReady,
	}
}

func (s *Shelf) unusable(e Entry, err error) error {
	return &Error{
		Reason: ReasonSnapshotUnreadable, Backend: s.Backend.Name(), Err: err,
		Message: fmt.Sprintf("%s is not whole", s.Backend.URI(s.Prefix+e.Name)),
	}
}
