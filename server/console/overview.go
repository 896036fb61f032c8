package console

import (
	"time"

	"github.com/snapshotd/snapshotd/server/status"
)

// Overview is the content of the page at a glance. It is between the service and its page, and not part of the API.
type Overview struct {
	Version  string           `json:"version"`
	Time     time.Time        `json:"time"` // of the service's clock; ages count from it
	GRPC     string           `json:"grpc"` // address for the commands that the page shows
	TLS      bool             `json:"tls"`
	Clusters []status.Cluster `json:"clusters"`
}
