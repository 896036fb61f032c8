package rest

import (
	"regexp"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/internal/wire"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Texts of the gateway and of protobuf about a request that they cannot read.
var (
	unreadField = regexp.MustCompile(`^(?:parsing (?:field|list|map) "([^"]+)": |too many values for field "([^"]+)": |` +
		`type mismatch, parameter: ([^,]+), error: )(.*)$`)
	unreadNumber = regexp.MustCompile(`^strconv\.\w+: parsing (".*"): (value out of range|invalid syntax)$`)
	unreadTime   = regexp.MustCompile(`^parsing time (".*?"):? `)
	unreadBody   = regexp.MustCompile(`^proto:[\s\x{a0}]*`) // protobuf chooses one of the two spaces at random
)

// unreadable returns the status of a request whose query or body cannot be read, in the words of its fields.
func unreadable(text string) *status.Status {
	m := unreadField.FindStringSubmatch(text)
	if m == nil {
		text = unreadBody.ReplaceAllString(text, "the body: ")
		return withReason(status.New(codes.InvalidArgument, text), string(snapshot.ReasonInvalidArgument))
	}
	field, why := m[1]+m[2]+m[3], m[4]
	switch {
	case m[2] != "":
		why = "is given more than once: " + why
	case unreadNumber.MatchString(why):
		n := unreadNumber.FindStringSubmatch(why)
		why = n[1] + " is not a whole number"
		if strings.Contains(n[2], "range") {
			why = n[1] + " is too large or too small a number"
		}
	case unreadTime.MatchString(why):
		why = unreadTime.FindStringSubmatch(why)[1] + " is not a time; write it as 2026-07-15T12:00:00Z"
	}
	return wire.Status(snapshot.Invalid(field, "%s", why), "", nil)
}
