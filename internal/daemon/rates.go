package daemon

import (
	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/limit"
)

// rates are the limits of a cluster, which change without a new connection.
type rates struct {
	stream *limit.Limit // of reading etcd
	upload *limit.Limit // of uploads to S3
}

func newRates(cfg *config.Cluster) rates {
	r := rates{stream: limit.New(0), upload: limit.New(0)}
	r.set(cfg)
	return r
}

// set applies a configuration that was validated.
func (r rates) set(cfg *config.Cluster) {
	stream, _ := cfg.StreamLimit.PerSecond()
	upload, _ := cfg.UploadLimit.PerSecond()
	r.stream.Set(stream)
	r.upload.Set(upload)
}
