package config

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// maxName keeps a snapshot's name, of which the node is a part, below the limits of file systems. Names become parts of
// keys and of metrics' labels.
const maxName = 100

// validator collects the problems of a configuration.
type validator struct {
	*Config
	dev      bool
	problems *Problems
	parts    map[string]bool // that are given: c.origins.parts()
	names    map[string]int  // of clusters, with the place of the first that has it
}

// problem adds a problem at the origin of a value, or else at its key with the flag that sets it.
func (v validator) problem(path, format string, args ...any) {
	where := path
	switch from := v.origins.of(path); {
	case strings.Contains(from, ":"):
		where = from + ": " + path
	case from != "":
		where = from
	default:
		if flag := flagOf(path); flag != "" {
			where += " (" + flag + ")"
		}
	}
	v.problems.add(where, format, args...)
}

// flagOf returns the flag for a path, or "".
func flagOf(path string) string {
	inCluster := regexp.MustCompile(`^clusters\[\d+\]\.`).ReplaceAllString(path, "")
	for _, s := range settings {
		if (s.cluster != nil) == (inCluster != path) && s.path == inCluster {
			return "--" + s.flag
		}
	}
	return ""
}

// given reports whether a part of the configuration is there, even without a value.
func (v validator) given(path string) bool { return v.parts[path] }

func (v validator) pair(certPath, keyPath, cert, key string) {
	switch {
	case cert != "" && key == "":
		v.problem(keyPath, "is missing; a certificate and its key are needed together")
	case cert == "" && key != "":
		v.problem(certPath, "is missing; a key and its certificate are needed together")
	}
}

func (v validator) name(path, name string) {
	if len(name) > maxName || !snapshot.ValidName(name) {
		v.problem(path, "%.120q is not a name; use up to %d letters, digits, '.', '_' and '-', a letter or digit first",
			name, maxName)
	}
}

func (v validator) oneOf(path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		v.problem(path, "%q is not one of %s", value, strings.Join(allowed, ", "))
	}
}

func (v validator) notNegative(path string, n int64, shown any) {
	if n < 0 {
		v.problem(path, "%v is negative; remove the line for no such rule", shown)
	}
}

func (v validator) atLeast(path string, d, least time.Duration) {
	if d < least {
		v.problem(path, "%v is too short; %v is the least", d, least)
	}
}

func (v validator) rate(path string, r Rate) {
	if _, err := r.PerSecond(); err != nil {
		v.problem(path, "%v", err)
	}
}
