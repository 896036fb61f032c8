package server

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/snapshotd/snapshotd/server/limits"
)

// Settings can change while the server runs. The first ones are those of the [Config].
type Settings struct {
	Limits          limits.Limits // HandshakeTimeout and StreamsPerConnection stay those of the Config
	ShutdownTimeout time.Duration
	TraceURL        string // where a trace is shown, with {trace_id} in it; empty when traces are shown nowhere
}

// Apply changes the settings. What is under way beyond a new limit goes on. Zero values mean the defaults.
func (s *Server) Apply(to Settings) {
	to.ShutdownTimeout = cmp.Or(to.ShutdownTimeout, DefaultShutdownTimeout)
	to.Limits = to.Limits.OrDefaults()
	s.gate.Set(to.Limits.Connections)
	s.under.Set(to.Limits)
	s.downloads.Set(to.Limits)
	s.settings.Store(&to)
}

// SetClusters replaces the clusters that are served, at least one; their order is kept wherever they are listed. Calls
// under way go on with the clusters that they began with, and watches end, to begin anew.
func (s *Server) SetClusters(clusters []Cluster) error {
	if len(clusters) == 0 {
		return errors.New("at least one cluster is needed")
	}
	seen := make(map[string]bool)
	for _, c := range clusters {
		if seen[c.Name()] {
			return fmt.Errorf("there are two clusters named %q", c.Name())
		}
		seen[c.Name()] = true
	}
	f := &s.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed != nil {
		close(f.changed)
	}
	f.clusters, f.changed = clusters, make(chan struct{})
	s.counts.Forget()
	return nil
}
