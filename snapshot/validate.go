package snapshot

import (
	"regexp"
	"slices"
)

// Limits of what a caller may attach to a snapshot. They keep a record far below etcd's 1.5 MiB and a name below what
// file systems allow.
const (
	MaxNamePrefix = 100
	MaxLabels     = 64
	MaxLabelKey   = 63
	MaxLabelValue = 255
	MaxRequestID  = 128
)

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// ValidName reports whether s can be part of a snapshot's name: letters, digits, '.', '_' and '-', no dot or dash first.
func ValidName(s string) bool { return namePattern.MatchString(s) }

// validateSave checks a request and fills in what it left open.
func (c *Cluster) validateSave(req SaveRequest) (SaveRequest, []Backend, error) {
	if req.NamePrefix == "" {
		req.NamePrefix = DefaultNamePrefix
	}
	if len(req.NamePrefix) > MaxNamePrefix || !ValidName(req.NamePrefix) {
		return req, nil, Invalid("name_prefix", "%.120q is not a name prefix: up to %d letters, digits, '.', '_' and '-', a letter or digit first", req.NamePrefix, MaxNamePrefix)
	}
	if len(req.RequestID) > MaxRequestID {
		return req, nil, Invalid("request_id", "has %d bytes; up to %d are allowed", len(req.RequestID), MaxRequestID)
	}
	if err := ValidateLabels(req.Labels); err != nil {
		return req, nil, err
	}
	if i := slices.Index(req.Backends, ""); i >= 0 {
		return req, nil, Invalid("backends", "name %d is empty; leave the list empty to choose all: %s", i+1, listed(c.BackendNames()))
	}
	if req.Trigger == TriggerUnspecified {
		req.Trigger = TriggerManual
	}
	backends, err := c.choose(req.Backends)
	return req, backends, err
}

// ValidateLabels returns an [Error] with ReasonInvalidArgument when labels are too many or too long.
func ValidateLabels(labels map[string]string) error {
	if len(labels) > MaxLabels {
		return Invalid("labels", "there are %d; up to %d are allowed", len(labels), MaxLabels)
	}
	for k, v := range labels {
		if k == "" || len(k) > MaxLabelKey {
			return Invalid("labels", "key %.80q has %d bytes; 1 to %d are allowed", k, len(k), MaxLabelKey)
		}
		if len(v) > MaxLabelValue {
			return Invalid("labels", "the value of %q has %d bytes; up to %d are allowed", k, len(v), MaxLabelValue)
		}
	}
	return nil
}
