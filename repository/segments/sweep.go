package segments

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Sweep removes the data of a timeline that has no manifest and was last written before a time: its writer, or its
// remover, has died. It returns how many objects it has removed, and how many others there are below the timeline. On a
// backend that removes nothing, they stay, which is no error.
func (s *Segments) Sweep(ctx context.Context, t segment.Timeline, before time.Time) (removed, left int, err error) {
	for _, l := range segment.Levels() {
		prefix := s.prefix + string(t) + "/" + string(l) + "/"
		var manifest string // the name of the last manifest: it is listed before the data
		for o, err := range s.backend.List(ctx, prefix) {
			if err != nil {
				return removed, left, err
			}
			left++
			file := strings.TrimPrefix(o.Key, prefix)
			if name, found := strings.CutSuffix(file, manifestSuffix); found {
				manifest = name
				continue
			}
			name, _, _, ok := splitData(file)
			if !ok || name == manifest || !o.ModTime.Before(before) {
				continue
			}
			gone, err := s.sweep(ctx, o.Key, prefix+name+manifestSuffix, before)
			if gone {
				removed, left = removed+1, left-1
			}
			if err != nil {
				return removed, left, err
			}
		}
	}
	return removed, left, nil
}

// sweep removes one object if it is still as it was listed.
func (s *Segments) sweep(ctx context.Context, key, manifest string, before time.Time) (bool, error) {
	// A listing of many pages takes a while, in which a writer may have replaced the data and written its manifest.
	if _, err := s.backend.Stat(ctx, manifest); !snapshot.IsNotFound(err) {
		return false, err
	}
	if gone, err := s.removeOld(ctx, key, before); !gone || err != nil {
		return false, err
	}
	// The backend cannot delete on condition. A writer that has stored the segment just now may not have seen that.
	_, err := s.backend.Stat(ctx, manifest)
	if _, lost := s.backend.Stat(ctx, key); err == nil && snapshot.IsNotFound(lost) {
		return true, snapshot.ReasonConflict.New("sweep %s", key).On(s.Name()).
			Because(errors.New("its segment was completed meanwhile, and has lost its data")).
			Advise("it is stored again by its writer, or copied from another backend")
	}
	return true, nil
}

// removeOld removes an object that was written before a time, and reports whether it did: it may be gone, be a newer
// one, or be locked.
func (s *Segments) removeOld(ctx context.Context, key string, before time.Time) (bool, error) {
	o, err := s.backend.Stat(ctx, key)
	if snapshot.IsNotFound(err) || err == nil && !o.ModTime.Before(before) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := s.backend.Delete(ctx, key); IsRefused(err) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return true, nil
}

// SweepTimeline removes the document of a timeline of which nothing else is there, and reports whether it did. The
// caller knows that this has been so for long. One that was written after a time stays.
func (s *Segments) SweepTimeline(ctx context.Context, t segment.Timeline, before time.Time) (bool, error) {
	gone, err := s.removeOld(ctx, s.prefix+string(t)+manifestSuffix, before)
	s.forgetTimeline()
	if !gone || err != nil {
		return false, err
	}
	// A replica may have begun to upload an old part meanwhile, which no reader would find without the document.
	if _, left, err := s.Sweep(ctx, t, time.Time{}); left > 0 || err != nil {
		_, perr := s.putTimeline(context.WithoutCancel(ctx), t)
		return false, errors.Join(err, perr)
	}
	return true, nil
}
