package daemon

import (
	"context"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/telemetry"
)

// stopTimeout is how long a reload waits for the loops of clusters that are changed or removed.
const stopTimeout = 10 * time.Second

// Config of a [Service].
type Config struct {
	Config  *config.Config // validated
	Dev     bool           // start an etcd with data in it, and make a directory as backend where there is none
	Version string
	Log     io.Writer

	// Reload asks for the configuration to be read again, by Load. Both may be nil.
	Reload <-chan os.Signal
	Load   func() (*config.Config, error)
}

// Service is everything that `snapshotd serve` runs. Its methods are called once each, in this order: New, Open, Run.
type Service struct {
	cfg      *config.Config // in effect since the start, but for what a reload changes
	conf     Config
	applied  *config.Config // whose settings are in effect
	rules    *config.Access // in effect
	settings settings
	log      *slog.Logger
	// written is the part of the log that does not leave over OTLP.
	written slog.Handler

	events       *server.Events
	queues       queues
	atATime      int   // saves
	memory       int64 // bytes that the process may use; 0 when it is not known
	free         int64 // bytes on the disk of the spool at the start; 0 when it is not known
	telemetry    *telemetry.Telemetry
	server       *server.Server
	dir          *dataDir
	clusters     []*managed
	unopened     []unopened      // clusters of a changed configuration
	stranded     map[string]bool // clusters that are not configured, of which it was told that something is kept
	closers      closers
	certificates certificateReader

	loops     sync.WaitGroup // of the reloads
	retired   sync.WaitGroup // of clusters that are served no more, until they are closed
	stopLoops context.CancelFunc

	stopTimeout time.Duration
}

// New returns a service. It does no I/O.
func New(conf Config) (*Service, error) {
	s := &Service{
		cfg:         conf.Config,
		conf:        conf,
		applied:     conf.Config,
		rules:       conf.Config.Access,
		events:      &server.Events{},
		stopLoops:   func() {},
		stopTimeout: stopTimeout,
		stranded:    map[string]bool{},
	}
	if err := s.settings.set(conf.Config); err != nil {
		return nil, err
	}
	s.written = newHandler(conf.Log, conf.Config.Log.Format, &s.settings.level)
	s.log = newLogger(s.written, nil)
	return s, nil
}

// GRPCAddr returns the address that gRPC listens on, after Open.
func (s *Service) GRPCAddr() string { return s.server.GRPCAddr() }

// HTTPAddr returns the address that HTTP listens on, after Open.
func (s *Service) HTTPAddr() string { return s.server.HTTPAddr() }
