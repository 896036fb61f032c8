package catalog

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// token says where a page ended. It is opaque to callers.
type token struct {
	Revision int64  `json:"r"` // at which all pages are read
	After    string `json:"a"` // last key of the page, within the index by time
	Query    []byte `json:"q"` // fingerprint of the query that it continues
}

func encodeToken(t token, q snapshot.Query) string {
	t.Query = fingerprint(q)
	b, _ := json.Marshal(t) // of a number, a string and bytes: it cannot fail
	return base64.RawURLEncoding.EncodeToString(b)
}

func decodeToken(s string, q snapshot.Query) (token, error) {
	var t token
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	if err != nil || t.Revision <= 0 || t.After == "" {
		return token{}, snapshot.Invalid("page_token", "%.80q is none of this service's; give back next_page_token as it came", s)
	}
	if string(t.Query) != string(fingerprint(q)) {
		return token{}, snapshot.Invalid("page_token", "it is of another query; keep the other fields as they were for the first page")
	}
	return t, nil
}

// fingerprint returns a hash of what a query chooses. The page's size may change from page to page.
func fingerprint(q snapshot.Query) []byte {
	q.PageSize, q.PageToken = 0, ""
	q.From, q.Until = q.From.UTC().Round(0), q.Until.UTC().Round(0)
	if len(q.Labels) == 0 {
		q.Labels = nil
	}
	if len(q.States) == 0 {
		q.States = nil
	}
	b, err := json.Marshal(struct {
		snapshot.Query
		From, Until time.Time
	}{q, q.From, q.Until})
	if err != nil { // a year that JSON cannot say
		b = []byte(err.Error())
	}
	sum := sha256.Sum256(b)
	return sum[:8]
}
