package page

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Token says where a page ended. It is opaque to callers.
type Token struct {
	Revision int64  `json:"r"` // at which all pages are read
	After    string `json:"a"` // the [Key] of the page's last record
	Query    []byte `json:"q"` // fingerprint of the query that it continues
}

// Encode returns a token as callers get it, for the next page of a query.
func (t Token) Encode(q snapshot.Query) string {
	t.Query = fingerprint(q)
	b, _ := json.Marshal(t) // of a number, a string and bytes: it cannot fail
	return base64.RawURLEncoding.EncodeToString(b)
}

// Decode returns the token of a query; the zero token when the query asks for the first page. It returns an error when
// the page size is not allowed, or the token belongs to another query.
func Decode(q snapshot.Query) (Token, error) {
	var t Token
	if q.PageSize < 1 || q.PageSize > maxSize {
		return t, snapshot.Invalid("page_size", "%d is not between 1 and %d", q.PageSize, maxSize)
	}
	if q.PageToken == "" {
		return t, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(q.PageToken)
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	if err != nil || t.Revision <= 0 || t.After == "" {
		return Token{}, snapshot.Invalid("page_token",
			"%.80q is none of this service's; give back next_page_token as it came", q.PageToken)
	}
	if string(t.Query) != string(fingerprint(q)) {
		return Token{}, snapshot.Invalid("page_token",
			"it is of another query; keep the other fields as they were for the first page")
	}
	return t, nil
}

// fingerprint returns a hash of the fields that select records. The page's size may change from page to page.
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
