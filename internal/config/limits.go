package config

import (
	"time"

	"github.com/snapshotd/snapshotd/server/limits"
)

// Limits are what callers may take of the service at a time.
type Limits struct {
	Connections          int           `yaml:"connections"`            // open, over all ports
	HandshakeTimeout     time.Duration `yaml:"handshake_timeout"`      // until a connection has to be one
	StreamsPerConnection int           `yaml:"streams_per_connection"` // calls under way
	Streams              int           `yaml:"streams"`                // Watch, Download and Verify under way
	CallsPerPrincipal    int           `yaml:"calls_per_principal"`    // under way; streams and others are counted apart
	SavesPerMinute       int           `yaml:"saves_per_minute"`       // that callers begin, for each cluster
	MinDownloadRate      Bytes         `yaml:"min_download_rate"`      // a second, while another download waits
}

func defaultLimits() Limits {
	d := limits.Defaults
	return Limits{
		Connections: d.Connections, HandshakeTimeout: d.HandshakeTimeout, StreamsPerConnection: d.StreamsPerConnection,
		Streams: d.Streams, CallsPerPrincipal: d.CallsPerPrincipal, SavesPerMinute: d.SavesPerMinute,
		MinDownloadRate: Bytes(d.MinDownloadRate),
	}
}

// Server returns the limits as the service takes them.
func (l Limits) Server() limits.Limits {
	return limits.Limits{
		Connections: l.Connections, HandshakeTimeout: l.HandshakeTimeout, StreamsPerConnection: l.StreamsPerConnection,
		Streams: l.Streams, CallsPerPrincipal: l.CallsPerPrincipal, SavesPerMinute: l.SavesPerMinute,
		MinDownloadRate: int64(l.MinDownloadRate),
	}
}

// mostOfALimit is far above what a machine can do, and has room in the numbers of the protocols.
const mostOfALimit = 1_000_000

func (v validator) limits() {
	l := v.Limits
	for key, n := range map[string]int64{
		"connections": int64(l.Connections), "streams_per_connection": int64(l.StreamsPerConnection),
		"streams": int64(l.Streams), "calls_per_principal": int64(l.CallsPerPrincipal),
		"saves_per_minute": int64(l.SavesPerMinute),
	} {
		v.upTo("limits."+key, n, mostOfALimit)
	}
	v.atLeast("limits.handshake_timeout", l.HandshakeTimeout, time.Second)
	v.upTo("limits.min_download_rate", int64(l.MinDownloadRate), 1<<40)
	if v.given("max_concurrent_saves") {
		v.upTo("max_concurrent_saves", int64(v.MaxConcurrentSaves), mostOfALimit)
	}
	if v.given("max_concurrent_restores") {
		v.upTo("max_concurrent_restores", int64(v.MaxConcurrentRestores), mostOfALimit)
	}
	v.upTo("max_concurrent_drills", int64(v.MaxConcurrentDrills), mostOfALimit)
}

func (v validator) upTo(path string, n, most int64) {
	if n < 1 || n > most {
		v.problem(path, "%d is not allowed; give a number from 1 to %d", n, most)
	}
}
