package wire

import (
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// The largest parts of a status. It travels in the trailers: the message escaped, three bytes for one that is not
// printable ASCII, and once more with the details, in base64. 1000 + (1000 + 250 + 600 + 3000) · 4/3 stays below 8 KiB.
const (
	maxMessage  = 1000
	maxName     = 120
	maxText     = 300
	maxSnapshot = 3000
)

// shrink makes a snapshot fit into a status: the least important fields go first. It changes s.
func shrink(s *snapshotdv1.Snapshot) *snapshotdv1.Snapshot {
	steps := []func(){
		func() { shortenErrors(s, maxText) },
		func() { s.EarlierVerifications = nil },
		func() { s.Labels = nil },
		func() { s.Verification, s.Proof, s.JournalProof = nil, nil, nil },
		func() { s.EncryptionRecipients = nil },
		func() { shortenErrors(s, maxName) },
		func() {
			for _, l := range s.GetLocations() {
				l.Uri = ""
			}
		},
		func() { s.Locations, s.Alarms = nil, nil },
	}
	shortenErrors(s, maxMessage)
	for _, step := range steps {
		if proto.Size(s) <= maxSnapshot {
			break
		}
		step()
	}
	return s
}

func shortenErrors(s *snapshotdv1.Snapshot, limit int) {
	s.Error = shorten(s.GetError(), limit)
	for _, l := range s.GetLocations() {
		l.Error = shorten(l.GetError(), limit)
	}
	newest := []*snapshotdv1.Verification{s.GetVerification(), s.GetProof(), s.GetJournalProof()}
	for _, v := range append(newest, s.GetEarlierVerifications()...) {
		if v != nil {
			v.Error, v.Live = shorten(v.GetError(), limit), shorten(v.GetLive(), limit)
		}
	}
}

// shorten returns s as valid UTF-8 that takes at most limit bytes when it is escaped for a header. A text that is too
// long loses its middle: an error begins with the operation and ends with the hint.
func shorten(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if escapedLen(s) <= limit {
		return s
	}
	const gap = " ... "
	room := limit - len(gap)
	head := prefixOf(s, room*3/5)
	tail := suffixOf(s[len(head):], room-escapedLen(head))
	return head + gap + tail
}

// prefixOf returns the longest prefix of whole runes that takes at most limit bytes when escaped.
func prefixOf(s string, limit int) string {
	for i, r := range s {
		if limit -= escapedRune(r); limit < 0 {
			return s[:i]
		}
	}
	return s
}

// suffixOf returns the longest suffix of whole runes that takes at most limit bytes when escaped.
func suffixOf(s string, limit int) string {
	for i := len(s); i > 0; {
		r, size := utf8.DecodeLastRuneInString(s[:i])
		if limit -= escapedRune(r); limit < 0 {
			return s[i:]
		}
		i -= size
	}
	return s
}

func escapedLen(s string) int {
	n := 0
	for _, r := range s {
		n += escapedRune(r)
	}
	return n
}

// escapedRune returns the length of a rune in grpc-message: printable ASCII but '%' as it is, each other byte as %XX.
func escapedRune(r rune) int {
	if r >= ' ' && r <= '~' && r != '%' {
		return 1
	}
	return 3 * utf8.RuneLen(r)
}

// shrinkPruned leaves the decisions about copies that were removed, and then those about copies that could not be, as
// many as there is room for. It changes m.
func shrinkPruned(m *snapshotdv1.PruneResponse) *snapshotdv1.PruneResponse {
	m.Journal = nil
	all, room := m.GetDecisions(), maxSnapshot
	m.Decisions = nil
	all = slices.DeleteFunc(all, (*snapshotdv1.PruneDecision).GetStays)
	slices.SortStableFunc(all, func(a, b *snapshotdv1.PruneDecision) int { return failed(a) - failed(b) })
	for _, d := range all {
		d.Why = shorten(d.GetWhy(), maxName)
		if d.GetError() != nil {
			d.Error.Message = shorten(d.GetError().GetMessage(), maxText)
		}
		if room -= proto.Size(&snapshotdv1.PruneResponse{Decisions: []*snapshotdv1.PruneDecision{d}}); room < 0 {
			break
		}
		m.Decisions = append(m.Decisions, d)
	}
	return m
}

// failed returns 1 for the decision about a copy that could not be removed, and 0 for others.
func failed(d *snapshotdv1.PruneDecision) int {
	if d.GetError() != nil {
		return 1
	}
	return 0
}
