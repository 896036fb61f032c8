package segments

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/signing"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Suffixes of the objects.
const (
	dataSuffix     = ".seg"
	ageSuffix      = ".age"
	manifestSuffix = ".json"
)

// folder holds all objects of a journal, below the prefix of the cluster's keys.
const folder = "journal/"

// ErrOtherHistory: the backend has another history of the same revisions under a segment's name. The cluster's etcd was
// restored, or two writers followed two clusters: the writer begins a new timeline.
var ErrOtherHistory = errors.New("it is another history of the same revisions")

// Config says where the segments of which cluster are.
type Config struct {
	Repository *repository.Repository // of the cluster's snapshots: backend, prefix, trust and signer are its
	Recipients age.Recipients         // optional; segments that are written are encrypted for them
	Identities age.Identities         // needed to read encrypted segments
}

// Segments is the journal of one cluster on one backend. All methods may be called at once from several goroutines.
// Reads do not open the store: a restore has no catalog to compare the marker with. The manifests' trust and the chain
// of histories bind each segment to its journal instead.
type Segments struct {
	repo       *repository.Repository
	backend    repository.Backend
	cluster    string
	prefix     string // of the journal's keys
	signer     *signing.Signer
	trust      *signing.Trust
	recipients age.Recipients
	identities age.Identities

	mu      sync.Mutex
	known   segment.Timeline // whose document is there
	knownAt time.Time        // when that was seen
}

// New returns the journal on a backend. It does no I/O.
func New(cfg Config) *Segments {
	c := cfg.Repository.Config()
	return &Segments{
		repo: cfg.Repository, backend: c.Backend, cluster: c.Cluster, prefix: c.Prefix + folder,
		signer: c.Signer, trust: c.Trust, recipients: cfg.Recipients, identities: cfg.Identities,
	}
}

// Name returns the name of the backend.
func (s *Segments) Name() string { return s.repo.Name() }

// OpenStore makes sure that the backend is the store that it was, as far as the catalog or this process knows it: the
// journal in an unmounted directory looks like none. It writes nothing.
func (s *Segments) OpenStore(ctx context.Context) error {
	_, err := s.repo.Open(ctx, repository.OpenOptions{})
	return err
}

// Ref names a segment.
type Ref struct {
	Timeline    segment.Timeline
	Level       segment.Level
	First, Last int64
}

// path returns the key of a segment without a suffix, below the journal's prefix.
func (r Ref) path() string {
	return string(r.Timeline) + "/" + string(r.Level) + "/" + segment.Name(r.First, r.Last)
}

// RefOf returns the name of a segment with this header.
func RefOf(h *segment.Header) Ref { return Ref{h.Timeline, h.Level, h.First, h.Last} }

func (s *Segments) manifestKey(r Ref) string { return s.prefix + r.path() + manifestSuffix }

func (s *Segments) dataKey(r Ref, encrypted bool) string {
	if encrypted {
		return s.prefix + r.path() + dataSuffix + ageSuffix
	}
	return s.prefix + r.path() + dataSuffix
}

// URI returns where a segment is, without a suffix, for a person.
func (s *Segments) URI(r Ref) string { return s.repo.URI(folder + r.path()) }

// Timelines returns the timelines of which there is a journal, in ascending order.
func (s *Segments) Timelines(ctx context.Context) ([]segment.Timeline, error) {
	var all []segment.Timeline
	// Only the documents of timelines are listed. A listing of all segments grows with the age of the journal.
	for o, err := range s.backend.List(ctx, s.prefix) {
		if err != nil {
			return nil, err
		}
		name, found := strings.CutSuffix(strings.TrimPrefix(o.Key, s.prefix), manifestSuffix)
		if t := segment.Timeline(name); found && t.Valid() {
			all = append(all, t)
		}
	}
	return all, nil
}

// splitData returns the segment of a file's name, which is one of data; false when it is none.
func splitData(file string) (name string, first, last int64, ok bool) {
	name, found := strings.CutSuffix(strings.TrimSuffix(file, ageSuffix), dataSuffix)
	first, last, valid := segment.ParseName(name)
	return name, first, last, found && valid
}

// Item is a segment as a listing shows it: its manifest and its data are there.
type Item struct {
	Ref
	Size int64 // of the data as it is stored
}

// List yields the segments of a level of a timeline, in ascending order of their first and then their last revisions. A
// listing that fails yields an error, last. Data without a manifest is no segment, and neither is a manifest without
// data.
func (s *Segments) List(ctx context.Context, t segment.Timeline, l segment.Level) iter.Seq2[Item, error] {
	prefix := s.prefix + string(t) + "/" + string(l) + "/"
	return func(yield func(Item, error) bool) {
		var manifest string // the name of the last manifest: it is listed before the data
		for o, err := range s.backend.List(ctx, prefix) {
			if err != nil {
				yield(Item{}, err)
				return
			}
			file := strings.TrimPrefix(o.Key, prefix)
			if name, found := strings.CutSuffix(file, manifestSuffix); found {
				manifest = name
				continue
			}
			name, first, last, ok := splitData(file)
			if !ok || name != manifest {
				continue
			}
			manifest = "" // the data of a segment may be there twice, when a backend did not let the other one go
			if !yield(Item{Ref{t, l, first, last}, o.Size}, nil) {
				return
			}
		}
	}
}

// Every yields the segments of all timelines, those of upper levels first. A listing that fails yields an error, last.
func (s *Segments) Every(ctx context.Context) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		timelines, err := s.Timelines(ctx)
		if err != nil {
			yield(Item{}, err)
			return
		}
		for _, t := range timelines {
			all, err := s.Of(ctx, t)
			if err != nil {
				yield(Item{}, err)
				return
			}
			// Upper levels come first, because they hold more revisions in fewer objects.
			for _, l := range slices.Backward(segment.Levels()) {
				for _, item := range all {
					if item.Level == l && !yield(item, nil) {
						return
					}
				}
			}
		}
	}
}

// Of returns the segments of a timeline, those of lower levels first. A merge that goes on meanwhile hides none: the
// merged segment is there before the others go.
func (s *Segments) Of(ctx context.Context, t segment.Timeline) (all []Item, err error) {
	for _, l := range segment.Levels() {
		for item, err := range s.List(ctx, t, l) {
			if err != nil {
				return nil, err
			}
			all = append(all, item)
		}
	}
	return all, nil
}

// Newest returns the manifest of the segment with the highest last revision of a timeline, on any level; nil when there
// is none. A writer goes on behind it.
func (s *Segments) Newest(ctx context.Context, t segment.Timeline) (*Manifest, error) {
	// Any level can have the newest segment: a merge removes those of the lower level at once.
	all, err := s.Of(ctx, t)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	newest := slices.MaxFunc(all, func(a, b Item) int { return cmp.Compare(a.Last, b.Last) })
	return s.Manifest(ctx, newest.Ref)
}

// Remove removes a segment: its manifest and then its data. One that is not there is no error.
func (s *Segments) Remove(ctx context.Context, r Ref) error {
	// The manifest goes first, so that no reader takes the segment any more. Both names of the data are deleted,
	// because the manifest that told them apart may be gone since an earlier attempt.
	for _, key := range []string{s.manifestKey(r), s.dataKey(r, false), s.dataKey(r, true)} {
		if err := s.backend.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// IsRefused reports whether an error says that a backend removes nothing: its policy has no right for that, or a lock
// protects the object.
func IsRefused(err error) bool {
	reason := snapshot.ReasonOf(err)
	return reason == snapshot.ReasonBackendAccessDenied || reason == snapshot.ReasonObjectLocked
}

// damaged is the error of a segment that is not as it was written. No retry makes it better.
func (s *Segments) damaged(r Ref, cause error) error {
	return snapshot.ReasonChecksumMismatch.New("read the segment %s, revisions %d to %d", s.URI(r), r.First, r.Last).
		On(s.Name()).Because(cause).Final().
		Advise("this copy is damaged; another backend or another level may have these revisions")
}
