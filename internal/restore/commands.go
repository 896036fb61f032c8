package restore

import (
	"fmt"
	"strings"
)

// Commands returns the command for each member of the initial cluster, with the member's own flags appended to args,
// which begin with the program.
func Commands(args []string, m Member) ([][]string, error) {
	var all [][]string
	for part := range strings.SplitSeq(m.InitialCluster, ",") {
		name, url, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--initial-cluster: %q is not NAME=URL", part)
		}
		all = append(all, append(append([]string(nil), args...), "--name", name, "--initial-advertise-peer-urls", url))
	}
	return all, nil
}
