package config

import (
	"fmt"
	"maps"
	"strings"
)

// origins has the origin of each value: "--listen-grpc", "SNAPSHOTD_LISTEN_GRPC" or "snapshotd.yaml:3", by its path in
// the file, such as clusters[0].etcd.user. A value that is not in it is a default.
type origins map[string]string

// of returns the origin of a path, or of the nearest path that encloses it.
func (o origins) of(path string) string {
	for p := path; p != ""; p = parent(p) {
		if from, ok := o[p]; ok {
			return from
		}
	}
	return ""
}

// set notes the origin of a value, and forgets those of the values below it.
func (o origins) set(path, from string) {
	o.forget(path)
	o[path] = from
}

func (o origins) forget(path string) {
	maps.DeleteFunc(o, func(p, _ string) bool {
		rest, ok := strings.CutPrefix(p, path)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// parts returns each path that has an origin, and all paths that enclose one.
func (o origins) parts() map[string]bool {
	parts := make(map[string]bool, len(o))
	for p := range o {
		for ; p != "" && !parts[p]; p = parent(p) {
			parts[p] = true
		}
	}
	return parts
}

func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// Problems are all errors of a configuration.
type Problems struct{ list []string }

// List returns the problems, one line each, in the order of the configuration.
func (p *Problems) List() []string { return p.list }

// Error implements error.
func (p *Problems) Error() string {
	return "configuration: " + strings.Join(p.list, "; ")
}

func (p *Problems) add(where, format string, args ...any) {
	p.list = append(p.list, where+": "+fmt.Sprintf(format, args...))
}

func (p *Problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	return p
}
