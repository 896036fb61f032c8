package segments

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Put stores a segment: the timeline, if it is new, then the data, then the manifest, which makes it count. When it
// returns nil, the segment is durable.
//
// A segment is created only if none has its name. One that is there with the same history is a success, also when
// another writer stored it. Another history is an error that wraps [ErrOtherHistory]. A segment whose manifest is not
// usable is an error as of [Segments.Manifest]. Data without a manifest is of a writer that died, and is replaced; so
// is a manifest whose data is not there in full length.
func (s *Segments) Put(ctx context.Context, seg *segment.Segment) error {
	// The error of a catalog that does not answer is dropped, and must not hold up the journal: the changes of a
	// cluster are worth most when its etcd is in trouble.
	if _, err := s.repo.Open(ctx, repository.OpenOptions{Create: true}); err != nil {
		return err
	}
	m, data, err := s.prepare(seg)
	if err != nil {
		return err
	}
	return s.store(ctx, m, false, func(key string, ifAbsent bool) error {
		return s.put(ctx, key, data, repository.DataContentType, ifAbsent)
	})
}

// store stores the timeline, the data, by a call of put, and the manifest of a segment. Without replace, one that is
// there stays.
func (s *Segments) store(
	ctx context.Context, m *Manifest, replace bool, put func(key string, ifAbsent bool) error,
) (err error) {
	defer func() {
		if err != nil {
			s.forgetTimeline()
		}
	}()
	h := &m.Header
	if !replace {
		there, whole, err := s.whole(ctx, h)
		if whole || err != nil {
			return err
		}
		replace = there
	}
	// The timeline is written before its first segment, because readers find segments through it alone.
	asked, err := s.putTimeline(ctx, h.Timeline)
	if err != nil {
		return err
	}
	key := s.dataKey(m.Ref(), m.Encrypted())
	err = put(key, !replace)
	if errors.Is(err, snapshot.ErrExists) {
		// Another writer may have completed it meanwhile, with data that only its own manifest describes.
		if _, whole, err := s.whole(ctx, h); whole || err != nil {
			return err
		}
		replace = true
		err = put(key, false)
	}
	if err != nil {
		return err
	}
	// After data was replaced, a manifest of another writer would be of the data that it wrote.
	err = s.put(ctx, s.manifestKey(m.Ref()), m.Doc, repository.JSONContentType, !replace)
	if errors.Is(err, snapshot.ErrExists) {
		_, err = s.there(ctx, h)
	}
	if err == nil && replace {
		err = s.kept(ctx, m)
	}
	if err != nil || !asked {
		return err
	}
	return s.keepTimeline(ctx, h.Timeline)
}

// keepTimeline writes the document of a timeline that has a segment now: a sweep may have removed that of an empty one
// before it could see the segment.
func (s *Segments) keepTimeline(ctx context.Context, t segment.Timeline) error {
	if _, err := s.putTimeline(ctx, t); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known, s.knownAt = t, time.Now()
	return nil
}

// kept returns an error when data that was written over is gone: a sweep had found it without a manifest.
func (s *Segments) kept(ctx context.Context, m *Manifest) error {
	_, err := s.backend.Stat(ctx, s.dataKey(m.Ref(), m.Encrypted()))
	if snapshot.IsNotFound(err) {
		return snapshot.ReasonConflict.New("store the segment %s", s.URI(m.Ref())).On(s.Name()).
			Because(errors.New("its data was removed by a sweep while it was stored")).
			Advise("it is stored again with the next attempt")
	}
	return err
}

// prepare returns the manifest of a segment, and its data as it is stored.
func (s *Segments) prepare(seg *segment.Segment) (*Manifest, []byte, error) {
	m := &Manifest{Header: seg.Header, Cluster: s.cluster, Size: seg.Size, Recipients: s.recipients.Names()}
	data := seg.Data
	if m.Encrypted() {
		var encrypted bytes.Buffer
		w, err := s.recipients.NewWriter(&encrypted)
		if err == nil {
			_, err = w.Write(data)
			err = errors.Join(err, w.Close())
		}
		if err != nil {
			return nil, nil, fmt.Errorf("encrypt the segment %s: %w", m.Name(), err)
		}
		data = encrypted.Bytes()
	}
	sum := sha256.Sum256(data)
	m.StoredSize, m.StoredSHA256 = int64(len(data)), hex.EncodeToString(sum[:])
	var err error
	m.Doc, err = m.encode(s.signer)
	return m, data, err
}

// whole reports whether the backend has the manifest of a segment of this name with the same history, and whether its
// data is there in full length.
func (s *Segments) whole(ctx context.Context, h *segment.Header) (there, whole bool, err error) {
	m, err := s.there(ctx, h)
	if m == nil || err != nil {
		return false, false, err
	}
	// The length alone is compared. A reader compares the checksum, and a Put should not read a segment.
	data, err := s.backend.Stat(ctx, s.dataKey(m.Ref(), m.Encrypted()))
	if err != nil && !snapshot.IsNotFound(err) {
		return true, false, err
	}
	return true, err == nil && data.Size == m.StoredSize, nil
}

// there returns the manifest of a segment of this name with the same history; nil when the backend has none.
func (s *Segments) there(ctx context.Context, h *segment.Header) (*Manifest, error) {
	m, err := s.Manifest(ctx, RefOf(h))
	switch {
	case snapshot.IsNotFound(err):
		return nil, nil //nolint:nilnil // no segment is no error
	case err != nil:
		return nil, err
	// Chains are compared, and not checksums of data: two writers may cut or encrypt one history in different ways.
	case m.Chain != h.Chain || m.PreviousChain != h.PreviousChain || m.Previous != h.Previous:
		return nil, snapshot.ReasonConflict.New("store the segment %s", s.URI(RefOf(h))).On(s.Name()).
			Because(ErrOtherHistory).Final().
			Advise("etcd was restored, or another service with this cluster's name and prefix writes here")
	}
	return m, nil
}

func (s *Segments) put(ctx context.Context, key string, b []byte, contentType string, ifAbsent bool) error {
	opts := repository.PutOptions{ContentType: contentType, SizeHint: int64(len(b)), IfAbsent: ifAbsent}
	return s.backend.Put(ctx, key, bytes.NewReader(b), opts)
}

// timelineDoc is the document of a timeline. It makes the timeline known to a listing, and says nothing that its name
// does not say.
type timelineDoc struct {
	FormatVersion int              `json:"formatVersion"`
	Cluster       string           `json:"cluster"`
	Timeline      segment.Timeline `json:"timeline"`
	StartTime     time.Time        `json:"startTime"`
}

// timelineKnown is for how long the document of a timeline is taken to be there. A sweep removes that of a timeline
// which has been without segments for longer; a rule of the bucket, or a person, may remove any.
const timelineKnown = 10 * time.Minute

// putTimeline writes the document of a timeline, unless it is there. It reports whether the backend was asked.
func (s *Segments) putTimeline(ctx context.Context, t segment.Timeline) (asked bool, err error) {
	// One remembered timeline is enough. A writer adds to one at a time, and a second request is harmless.
	s.mu.Lock()
	known := s.known == t && time.Since(s.knownAt) < timelineKnown
	s.mu.Unlock()
	if known {
		return false, nil
	}
	doc, err := json.MarshalIndent(timelineDoc{formatVersion, s.cluster, t, t.Start()}, "", "  ")
	if err != nil {
		return false, fmt.Errorf("encode the timeline %s: %w", t, err)
	}
	doc = append(doc, '\n')
	if s.signer != nil {
		doc = s.signer.Sign(doc)
	}
	err = s.put(ctx, s.prefix+string(t)+manifestSuffix, doc, repository.JSONContentType, true)
	if err != nil && !errors.Is(err, snapshot.ErrExists) {
		return true, err
	}
	return true, nil
}

// forgetTimeline makes the document of the next segment's timeline be looked for.
func (s *Segments) forgetTimeline() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = ""
}
