package restore

import (
	"fmt"
	"slices"
	"strings"
)

// Commands returns the command for each member of the initial cluster, with the member's own flags appended to args,
// which begin with the program.
func Commands(args []string, m Member) ([][]string, error) {
	var names []string
	urls := map[string][]string{} // by member, which may have several
	for part := range strings.SplitSeq(m.InitialCluster, ",") {
		name, url, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--initial-cluster: %q is not NAME=URL", part)
		}
		if urls[name] == nil {
			names = append(names, name)
		}
		urls[name] = append(urls[name], url)
	}
	var all [][]string
	for _, name := range names {
		own := []string{"--name", name, "--initial-advertise-peer-urls", strings.Join(urls[name], ",")}
		all = append(all, append(slices.Clone(args), own...))
	}
	return all, nil
}
