package restore

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/server/v3/embed"
)

// Members returns the members of the initial cluster, each with its own name and URLs.
func (m Member) Members() ([]Member, error) {
	var all []Member
	for part := range strings.SplitSeq(m.InitialCluster, ",") {
		if part == "" {
			continue // etcd does so, too
		}
		name, url, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--initial-cluster: %q is not NAME=URL", part)
		}
		i := slices.IndexFunc(all, func(other Member) bool { return other.Name == name })
		if i < 0 {
			i = len(all)
			one := m
			one.Name, one.PeerURLs = name, nil
			all = append(all, one)
		}
		all[i].PeerURLs = append(all[i].PeerURLs, url) // there may be several
	}
	if len(all) == 0 {
		return nil, errors.New("--initial-cluster: it names no member; write it as NAME=URL,NAME=URL")
	}
	cfg := embed.Config{InitialCluster: m.InitialCluster}
	_, _, err := cfg.PeerURLsMapAndToken("")
	return all, badCluster(err)
}

// Commands returns the command for each member of the initial cluster, with the member's own flags appended to args,
// which begin with the program.
func Commands(args []string, m Member) ([][]string, error) {
	members, err := m.Members()
	if err != nil {
		return nil, err
	}
	var all [][]string
	for _, one := range members {
		own := []string{"--name", one.Name, "--initial-advertise-peer-urls", strings.Join(one.PeerURLs, ",")}
		all = append(all, append(slices.Clone(args), own...))
	}
	return all, nil
}
