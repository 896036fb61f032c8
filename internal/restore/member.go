package restore

import (
	"fmt"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/config"
	"go.uber.org/zap"
)

// Check wants a member to be one of its cluster, with the URLs that it has there. etcd's library looks at the same, but when
// the snapshot has been read.
func (m Member) Check() error {
	urls, err := types.NewURLs(m.PeerURLs)
	if err != nil {
		return fmt.Errorf("--initial-advertise-peer-urls: %w", err)
	}
	members, err := types.NewURLsMap(m.InitialCluster)
	if err != nil {
		return fmt.Errorf("--initial-cluster: %w; write it as NAME=URL,NAME=URL", err)
	}
	if members[m.Name] == nil {
		return fmt.Errorf("--name: --initial-cluster has no member %q; it is %s", m.Name, members)
	}
	cfg := config.ServerConfig{
		Logger: zap.NewNop(), Name: m.Name, PeerURLs: urls, InitialPeerURLsMap: members, InitialClusterToken: m.ClusterToken,
	}
	if err := cfg.VerifyBootstrap(); err != nil {
		return fmt.Errorf("--initial-advertise-peer-urls: it must be what --initial-cluster has for the member %q: %w", m.Name, err)
	}
	return nil
}
