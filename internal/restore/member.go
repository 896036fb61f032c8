package restore

import (
	"fmt"
	"strings"

	"go.etcd.io/etcd/server/v3/config"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Alone returns the member as --initial-cluster has it when there is no other.
func (m Member) Alone() string { return m.Name + "=" + strings.Join(m.PeerURLs, ","+m.Name+"=") }

// Check returns an error unless the member is one of its cluster, with the URLs that it has there. etcd's library
// checks the same, but only after the snapshot was read.
func (m Member) Check() error {
	alone := embed.Config{InitialCluster: m.Alone()}
	self, _, err := alone.PeerURLsMapAndToken("")
	if err != nil {
		return fmt.Errorf("--initial-advertise-peer-urls: %w", err)
	}
	whole := embed.Config{InitialCluster: m.InitialCluster}
	members, _, err := whole.PeerURLsMapAndToken("")
	if err != nil {
		return badCluster(err)
	}
	if members[m.Name] == nil {
		return fmt.Errorf("--name: --initial-cluster has no member %q; it is %s", m.Name, members)
	}
	urls := members.URLs() // in order
	for i, url := range urls[1:] {
		if url == urls[i] {
			return fmt.Errorf("--initial-cluster: %s is there twice; each member has URLs of its own", url)
		}
	}
	cfg := config.ServerConfig{
		Logger: zap.NewNop(), Name: m.Name, PeerURLs: self[m.Name], InitialPeerURLsMap: members,
		InitialClusterToken: m.ClusterToken,
	}
	if err := cfg.VerifyBootstrap(); err != nil {
		return fmt.Errorf("--initial-advertise-peer-urls: it must be what --initial-cluster has for the member %q: %w",
			m.Name, err)
	}
	return nil
}

// badCluster returns the error that etcd cannot read the initial cluster; nil when it can.
func badCluster(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("--initial-cluster: %w; write it as NAME=URL,NAME=URL", err)
}
