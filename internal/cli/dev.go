package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"google.golang.org/grpc"

	"github.com/snapshotd/snapshotd/internal/cli/client"
	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	"github.com/snapshotd/snapshotd/internal/config"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// firstSteps takes a snapshot and reconciles, over gRPC like any client, and prints the result and commands to try
// next.
func firstSteps(ctx context.Context, sys System, cfg *config.Config, grpcAddr, httpAddr string) error {
	grpcAddr, httpAddr = reachable(grpcAddr), reachable(httpAddr)
	opts := client.Options{Addr: grpcAddr, Plaintext: true}
	c, err := client.Dial(&opts, Version().Version)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Save(ctx, &snapshotdv1.SaveRequest{}, grpc.WaitForReady(true)); err != nil {
		return fmt.Errorf("take the first snapshot: %s", exit.Message(c.Explain(err)))
	}
	resp, err := c.Reconcile(ctx, &snapshotdv1.ReconcileRequest{})
	if err != nil {
		return fmt.Errorf("reconcile: %s", exit.Message(c.Explain(err)))
	}
	if err := reconcileFailed(resp); err != nil {
		return err
	}
	const some = 5
	listed, err := c.ListAll(ctx, &snapshotdv1.ListRequest{}, some)
	if err != nil {
		return fmt.Errorf("list: %s", exit.Message(c.Explain(err)))
	}
	if err := output.ListTable(sys.Stdout, listed.GetSnapshots(), sys.Now(), false); err != nil {
		return err
	}
	return printNext(sys.Stdout, self(), cfg.DataDir, grpcAddr, httpAddr)
}

// printNext prints the addresses, and commands that work as they are printed.
func printNext(w io.Writer, self, dataDir, grpcAddr, httpAddr string) error {
	at := ""
	if grpcAddr != config.DefaultListenGRPC {
		at = " --addr " + grpcAddr
	}
	_, err := fmt.Fprintf(w, `
gRPC  %[2]s
HTTP  http://%[3]s (the console, in a browser)
data  %[4]s (etcd and snapshots; remove it to begin anew)

Try, in another shell:
  %[1]s save%[5]s
  %[1]s list%[5]s
  grpcurl -plaintext %[2]s list
  grpcurl -plaintext -d '{"labels": {"by": "grpcurl"}}' %[2]s snapshotd.v1.SnapshotService/Save
  curl -s -X POST http://%[3]s/v1/snapshots:save
  curl -s http://%[3]s/metrics | grep etcd_snapshot
`, self, grpcAddr, httpAddr, dataDir, at)
	return err
}

// reachable returns an address that can be dialled for an address that is listened on.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip, perr := netip.ParseAddr(host); err == nil && perr == nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

// self returns the command that starts this program again from here.
func self() string {
	const name = "snapshotd"
	exe, err := os.Executable()
	if err != nil {
		return name
	}
	if main := "./cmd/snapshotd"; strings.Contains(exe, string(filepath.Separator)+"go-build") && exists(main) {
		return "go run " + main
	}
	if found, err := exec.LookPath(name); err == nil && sameFile(found, exe) {
		return name
	}
	if dir, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(dir, exe); err == nil && filepath.IsLocal(rel) {
			exe = "./" + rel
		}
	}
	return output.Word(exe)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func sameFile(a, b string) bool {
	ai, aerr := os.Stat(a)
	bi, berr := os.Stat(b)
	return aerr == nil && berr == nil && os.SameFile(ai, bi)
}
