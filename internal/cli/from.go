package cli

import (
	"cmp"
	"errors"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/wire"
	"github.com/snapshotd/snapshotd/snapshot"
)

// clusterName returns the name of the cluster whose snapshots are read with --from.
func clusterName(fs *pflag.FlagSet) string {
	cluster, _ := fs.GetString("cluster")
	return cmp.Or(cluster, config.DefaultClusterName)
}

// clusterPrefix returns the prefix of the cluster's keys there: that of --prefix, or else its name and '/'.
func clusterPrefix(fs *pflag.FlagSet) string {
	if fs.Changed("prefix") {
		prefix, _ := fs.GetString("prefix")
		return prefix
	}
	return clusterName(fs) + "/"
}

// signedFor returns the cluster that signed manifests must belong to: the one that was given, or that the prefix is
// made of. A prefix alone says nothing about it.
func signedFor(fs *pflag.FlagSet) string {
	if fs.Changed("prefix") && !fs.Changed("cluster") {
		return ""
	}
	return clusterName(fs)
}

// localError gives an error of this process the form of an error of the service, and so its exit code.
func localError(err error) error {
	st := wire.Status(err, "", nil)
	switch {
	case st.Code() == codes.DataLoss:
		return &damagedError{errors.New(st.Message())}
	case wire.DetailsOf(st.Err()).Reason == snapshot.ReasonInternal:
		return err
	}
	return st.Err()
}
