package cli

import (
	"cmp"
	"errors"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/wire"
)

// clusterPrefix returns what --prefix says, or what it is without it: the prefix of the cluster's keys in the place that --from
// names.
func clusterPrefix(fs *pflag.FlagSet) string {
	prefix, _ := fs.GetString("prefix")
	cluster, _ := fs.GetString("cluster")
	if fs.Changed("prefix") {
		return prefix
	}
	return cmp.Or(cluster, config.DefaultClusterName) + "/"
}

// localError gives an error of this process the shape of one of the service, and so its exit code.
func localError(err error) error {
	st := wire.Status(err, "", nil)
	switch {
	case st.Code() == codes.DataLoss:
		return &damagedError{errors.New(st.Message())}
	case wire.DetailsOf(st.Err()).Reason == "INTERNAL":
		return err
	}
	return st.Err()
}
