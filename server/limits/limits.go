package limits

import (
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Limits are the limits of a service, by their keys in the configuration under "limits".
type Limits struct {
	Connections          int           // open at a time, over all ports
	HandshakeTimeout     time.Duration // until a connection has to be one: TLS, and the first bytes of the protocol
	StreamsPerConnection int           // calls under way on one connection
	Streams              int           // under way, of all callers, of each kind of streams
	CallsPerPrincipal    int           // calls under way of one principal, of each kind
	SavesPerMinute       int           // that callers begin, for each cluster
	MinDownloadRate      int64         // bytes per second of a download while another one waits for its place
}

// Defaults are limits that no use of the service by people and their programs comes near to.
var Defaults = Limits{
	Connections: 500, HandshakeTimeout: 10 * time.Second, StreamsPerConnection: 250, Streams: 1000, CallsPerPrincipal: 250,
	SavesPerMinute: 120, MinDownloadRate: 64 << 10,
}

// OrDefaults returns l with the defaults in place of what is zero.
func (l Limits) OrDefaults() Limits {
	orDefault(&l.Connections, Defaults.Connections)
	orDefault(&l.HandshakeTimeout, Defaults.HandshakeTimeout)
	orDefault(&l.StreamsPerConnection, Defaults.StreamsPerConnection)
	orDefault(&l.Streams, Defaults.Streams)
	orDefault(&l.CallsPerPrincipal, Defaults.CallsPerPrincipal)
	orDefault(&l.SavesPerMinute, Defaults.SavesPerMinute)
	orDefault(&l.MinDownloadRate, Defaults.MinDownloadRate)
	return l
}

func orDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// reached is the error that a limit is reached. It names the limit by its key, so that the operator can change it.
func reached(key, format string, args ...any) *snapshot.Error {
	return snapshot.ReasonLimitReached.New(format, args...).
		Advise("try again later; limits.%s in the service's configuration is the limit", key)
}
