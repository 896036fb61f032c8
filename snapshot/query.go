package snapshot

import "time"

// Query selects records; zero fields select all.
type Query struct {
	States  []State
	Backend string
	Labels  map[string]string
	From    time.Time // created at or after
	Until   time.Time // created before

	PageSize  int // 1 to 1000
	PageToken string
}

// Page is a page of records, newest first.
type Page struct {
	Records       []*Record
	NextPageToken string // empty when this is the last page

	// Unreadable are the errors of records that belong to the page's time and cannot be read, each wraps [ErrBadRecord].
	// Whether they match the query is not known. There may be more of them than the errors say.
	Unreadable []error
}

// Store is the identity of the directory or bucket behind a backend, as the catalog remembers it.
type Store struct {
	ID          string
	Initialized bool // its marker was seen
	Version     int64
}
