package s3

import (
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage/driver"
)

// Kind is that of buckets.
var Kind = driver.Kind{
	Backend: snapshot.BackendS3,
	Example: "s3://BUCKET?region=REGION",
	Params:  params,
	New:     func(loc driver.Location, opts driver.Options) (driver.Store, error) { return newStore(loc, opts) },
	Explain: explain,
}
