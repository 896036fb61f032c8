// Command etcd-load fills an etcd with data like that of Kubernetes.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/snapshotd/snapshotd/internal/loader"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "etcd-load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	endpoints := flag.String("endpoints", "127.0.0.1:2379", "etcd's `addresses`, separated by commas")
	bytes := flag.Int64("bytes", 64<<20, "`size` in bytes that the database is to reach")
	seed := flag.Uint64("seed", 1, "`seed` of the data")
	flag.Parse()
	client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(*endpoints, ","), Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	percent := int64(-1)
	return loader.Load(ctx, client, loader.Config{Bytes: *bytes, Seed: *seed, Progress: func(done, total int64) {
		if p := done * 100 / total; p != percent {
			percent = p
			fmt.Fprintf(os.Stderr, "%3d %% (%d of %d bytes)\n", min(p, 100), done, total)
		}
	}})
}
