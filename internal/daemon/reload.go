package daemon

import (
	"context"
	"os"
	"reflect"
	"time"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/limit"
)

// limits are the settings of a cluster that can change while the service runs.
type limits struct {
	stream *limit.Limit // of reading etcd
	upload *limit.Limit // of uploads to S3
}

func newLimits(cfg *config.Cluster) limits {
	l := limits{stream: limit.New(0), upload: limit.New(0)}
	l.set(cfg)
	return l
}

// set applies the limits of a configuration that was validated.
func (l limits) set(cfg *config.Cluster) {
	stream, _ := cfg.StreamLimit.PerSecond()
	upload, _ := cfg.UploadLimit.PerSecond()
	l.stream.Set(stream)
	l.upload.Set(upload)
}

// rulesInterval is how often the file is looked at for other rules of access.
const rulesInterval = 2 * time.Second

// watchReloads reads the configuration again at each request, and its rules of access when the file has changed, until
// ctx is done. Who loses a role must lose it without a signal.
func (s *Service) watchReloads(ctx context.Context) {
	file := s.cfg.File()
	seen, _ := os.Stat(file) // nil, another one than every file, when it is not there
	tick := time.NewTicker(rulesInterval)
	defer tick.Stop()
	for {
		select {
		case <-s.conf.Reload:
			s.reload(ctx)
		case <-tick.C:
			if now, err := os.Stat(file); file != "" && err == nil && changed(seen, now) {
				seen = now
				s.reloadRules(ctx)
			}
		case <-ctx.Done():
			return
		}
	}
}

func changed(before, now os.FileInfo) bool {
	return before == nil || !os.SameFile(before, now) || before.Size() != now.Size() ||
		!before.ModTime().Equal(now.ModTime())
}

// reloadRules applies the rules of the file as it is now.
func (s *Service) reloadRules(ctx context.Context) {
	if s.conf.Load == nil {
		return
	}
	cfg, err := s.conf.Load()
	if err != nil {
		s.log.ErrorContext(ctx, "configuration has changed and is wrong; the earlier rules of access stay in effect",
			"error", err)
		return
	}
	s.applyRules(ctx, cfg)
}

// applyRules applies the rules of access of a configuration. Rules that are gone stay: a service must not open because
// half of a file was lost.
func (s *Service) applyRules(ctx context.Context, cfg *config.Config) {
	switch {
	case reflect.DeepEqual(cfg.Access, s.rules):
		return
	case cfg.Access == nil:
		s.log.WarnContext(ctx, "the rules of access are gone from the configuration; they stay in effect until a restart")
		return
	}
	if err := s.server.SetAccess(cfg.Access.Auth()); err != nil {
		s.log.ErrorContext(ctx, "rules of access not applied; the earlier ones stay in effect", "error", err)
		return
	}
	s.rules = cfg.Access
	s.log.InfoContext(ctx, "rules of access are in effect", "rules", len(cfg.Access.Rules))
}

// reload applies the limits and the rules of access of the configuration as it is now. A wrong configuration changes nothing, and other changes
// wait for the next start; both are logged.
func (s *Service) reload(ctx context.Context) {
	cfg, err := s.conf.Load()
	if err != nil {
		s.log.ErrorContext(ctx, "configuration not read again; the earlier one stays in effect", "error", err)
		return
	}
	if !reflect.DeepEqual(cfg.LimitsAside(), s.read) {
		s.log.WarnContext(ctx, "the configuration differs in more than stream_limit, upload_limit and access; "+
			"the other changes take effect after a restart")
	}
	s.applyRules(ctx, cfg)
	for i := range cfg.Clusters {
		for _, c := range s.clusters {
			if c.Name() == cfg.Clusters[i].Name {
				c.limits.set(&cfg.Clusters[i])
				s.log.InfoContext(ctx, "limits are in effect", "cluster", c.Name(),
					"stream_limit", shown(cfg.Clusters[i].StreamLimit), "upload_limit", shown(cfg.Clusters[i].UploadLimit))
			}
		}
	}
}

func shown(r config.Rate) string {
	if r == "" {
		return "none"
	}
	return string(r) + " per second"
}
