package daemon

import (
	"context"
	"reflect"

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

// watchReloads reads the configuration again at each request, until ctx is done.
func (s *Service) watchReloads(ctx context.Context) {
	for {
		select {
		case <-s.conf.Reload:
			s.reload(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// reload applies the limits of the configuration as it is now. A wrong configuration changes nothing, and other changes
// wait for the next start; both are logged.
func (s *Service) reload(ctx context.Context) {
	cfg, err := s.conf.Load()
	if err != nil {
		s.log.ErrorContext(ctx, "configuration not read again; the earlier one stays in effect", "error", err)
		return
	}
	if !reflect.DeepEqual(cfg.LimitsAside(), s.read) {
		s.log.WarnContext(ctx, "the configuration differs in more than stream_limit and upload_limit; "+
			"the other changes take effect after a restart")
	}
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
