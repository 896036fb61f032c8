package server

import (
	"cmp"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Snapshots on a page of List.
const (
	defaultPageSize = 100
	maxPageSize     = 1000
)

// queryOf checks a request and returns its query.
func queryOf(req *snapshotdv1.ListRequest) (snapshot.Query, error) {
	q := snapshot.Query{
		Backend:   req.GetBackend(),
		Labels:    req.GetLabels(),
		PageSize:  int(req.GetPageSize()),
		PageToken: req.GetPageToken(),
	}
	if q.PageSize < 0 || q.PageSize > maxPageSize {
		return q, snapshot.Invalid("page_size", "is %d; 1 to %d are allowed, 0 means %d",
			q.PageSize, maxPageSize, defaultPageSize)
	}
	q.PageSize = cmp.Or(q.PageSize, defaultPageSize)
	for _, state := range req.GetStates() {
		s := snapshot.State(state)
		if s < snapshot.StateSaving || s > snapshot.StateDeleting {
			return q, snapshot.Invalid("states", "%v is not a state that a snapshot has", state)
		}
		q.States = append(q.States, s)
	}
	if _, ok := q.Labels[""]; ok {
		return q, snapshot.Invalid("labels", "has an empty key")
	}
	var err error
	if q.From, err = timeOf("create_time_from", req.GetCreateTimeFrom()); err != nil {
		return q, err
	}
	if q.Until, err = timeOf("create_time_until", req.GetCreateTimeUntil()); err != nil {
		return q, err
	}
	if !q.From.IsZero() && !q.Until.IsZero() && !q.From.Before(q.Until) {
		return q, snapshot.Invalid("create_time_until", "%s is not after create_time_from, %s",
			q.Until.Format(time.RFC3339), q.From.Format(time.RFC3339))
	}
	return q, nil
}

// timeOf returns the time of a field; the zero time when it is unset.
func timeOf(field string, ts *timestamppb.Timestamp) (time.Time, error) {
	if ts == nil {
		return time.Time{}, nil
	}
	if err := ts.CheckValid(); err != nil {
		return time.Time{}, snapshot.Invalid(field, "%d seconds and %d nanoseconds are no time between the years 1 and 9999",
			ts.GetSeconds(), ts.GetNanos())
	}
	return ts.AsTime(), nil
}
