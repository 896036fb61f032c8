package daemon

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/etcd/member"
)

// openDev starts an etcd with some data in it and makes a directory for the snapshots, both in the data directory,
// where a later start finds them again.
func (s *Service) openDev(ctx context.Context, dir *dataDir) error {
	root, err := filepath.Abs(dir.path)
	if err != nil {
		return fmt.Errorf("find the data directory: %w", err)
	}
	member, err := member.Start(ctx, member.Config{Dir: filepath.Join(root, "etcd")})
	if err != nil {
		return err
	}
	s.closers.later("embedded etcd", member.Close)
	if err := fill(ctx, member.Endpoints()); err != nil {
		return fmt.Errorf("put data into the embedded etcd: %w", err)
	}
	cluster := &s.cfg.Clusters[0]
	cluster.Etcd.Endpoints = member.Endpoints()
	if len(cluster.Backends) > 0 {
		return nil
	}
	snapshots := filepath.Join(root, "snapshots")
	if err := os.MkdirAll(snapshots, 0o700); err != nil {
		return fmt.Errorf("make the directory for snapshots: %w", err)
	}
	place := url.URL{Scheme: "file", Path: snapshots}
	cluster.Backends = []config.Backend{{Name: "local", URL: config.URL(place.String())}}
	return nil
}

// The data of the embedded etcd: enough for a snapshot to look like one of a small Kubernetes cluster.
const (
	devRoot       = "/registry/"
	devNamespaces = 5
	devPods       = 40 // in each namespace
)

// fill puts data into an etcd that has none.
func fill(ctx context.Context, endpoints []string) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Context: ctx})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // nothing is pending
	there, err := client.Get(ctx, devRoot, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || there.Count > 0 {
		return err
	}
	for ns := range devNamespaces {
		var ops []clientv3.Op
		for pod := range devPods {
			ops = append(ops, devPod(fmt.Sprintf("team-%d", ns), fmt.Sprintf("app-%02d", pod)))
		}
		if _, err := client.Txn(ctx).Then(ops...).Commit(); err != nil {
			return err
		}
	}
	return nil
}

func devPod(namespace, name string) clientv3.Op {
	const pod = `{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":%q,"name":%q,"annotations":{"about":%q}},` +
		`"spec":{"containers":[{"name":"main","image":"registry.example/%s:1.0"}]},"status":{"phase":"Running"}}`
	about := strings.Repeat("snapshotd serve --dev made this up. ", 10)
	return clientv3.OpPut(devRoot+"pods/"+namespace+"/"+name, fmt.Sprintf(pod, namespace, name, about, name))
}
