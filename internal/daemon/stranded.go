package daemon

import (
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/snapshot"
)

// tellStranded warns once of each cluster that is not configured, and of which this replica keeps snapshots that no
// backend took: nothing delivers them.
func (s *Service) tellStranded(ctx context.Context) {
	kept := filepath.Join(s.dir.path, config.KeptDir)
	all, _ := os.ReadDir(kept) // the disk is opened for each cluster that is configured, and then its error is told
	for _, d := range all {
		name := d.Name()
		dir, err := filepath.Abs(filepath.Join(kept, name))
		prefix, found := keptUnder(dir)
		if err != nil || !found || named(s.clusters, name) != nil {
			// It is told again when it happens again: the cluster was configured for a while, or the directory was empty.
			delete(s.stranded, name)
			continue
		}
		if s.stranded[name] {
			continue
		}
		s.stranded[name] = true
		from := url.URL{Scheme: "file", Path: dir}
		s.log.WarnContext(ctx, "snapshots are kept of a cluster that is not configured, and nothing delivers them; "+
			"configure it again under its name, or restore them from there, before the directory is removed",
			"cluster", name, "dir", dir, "restore", fmt.Sprintf(
				"snapshotd restore latest --from %s --cluster %s --prefix '%s' --data-dir DIR", from.String(), name, prefix))
	}
}

// keptUnder returns the prefix of the first snapshot that is kept in a directory; false when there is none.
func keptUnder(dir string) (prefix string, found bool) {
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || !strings.HasSuffix(path, snapshot.ManifestSuffix) {
			return nil //nolint:nilerr // what cannot be read is not known to be a snapshot
		}
		file, _ := filepath.Rel(dir, path)
		prefix, found = strings.TrimSuffix(file, e.Name()), true
		return fs.SkipAll
	})
	return prefix, found
}
