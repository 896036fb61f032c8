package server

import (
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
	setDefault(&to.ShutdownTimeout, DefaultShutdownTimeout)
	to.Limits = to.Limits.OrDefaults()
	s.gate.Set(to.Limits.Connections)
	s.under.Set(to.Limits)
	s.downloads.Set(to.Limits)
	s.settings.Store(&to)
}
