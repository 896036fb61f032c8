package cli_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Errors of files that belong to another user name both users, and a way out.
func TestFilesOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can run a program as another user")
	}
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "snapshotd")
	if r := run(t.Context(), nil, "install", program); r.code != 0 {
		t.Fatalf("install: %s", r.stderr)
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(dir, "closed")
	if err := os.MkdirAll(filepath.Join(closed, "default"), 0o700); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, "restored")
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(dir, "mine")
	if err := os.Mkdir(mine, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(mine, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "socket")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	if err := os.Chmod(socket, 0o600); err != nil {
		t.Fatal(err)
	}
	of := func(path, mode string) string {
		return "this program runs as nobody (uid 65534), and " + path + " belongs to root (uid 0) with mode " + mode +
			": run it as root (uid 0), or give access to nobody (uid 65534) with chown or chmod"
	}
	key, directory := of(secret, "-rw-------"), of(closed, "drwx------")
	one := []string{"serve", "--node-name", "n", "--etcd-endpoints", "127.0.0.1:1", "--backend", "local=file://" + closed}
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"the configuration":    {[]string{"serve", "--config", secret}, key},
		"a data directory":     {append(one, "--data-dir", closed), directory},
		"one to be made":       {append(one, "--data-dir", filepath.Join(target, "d")), of(target, "drwxr-xr-x")},
		"a key that signs":     {append(one, "--data-dir", mine, "--signing-key-file", secret), key},
		"a client certificate": {[]string{"list", "--cacert", secret}, key},
		"an identity":          {[]string{"verify", "x", "--from", "file://" + closed, "--identity", secret}, key},
		"a public key":         {[]string{"verify", "x", "--from", "file://" + closed, "--signing-public-key-file", secret}, key},
		"a backend":            {[]string{"list", "--from", "file://" + closed}, directory},
		"what is restored":     {[]string{"restore", "latest", "--from", "file://" + closed, "--data-dir", target}, of(target, "drwxr-xr-x")},
		"a socket": {[]string{"list", "--addr", "unix://" + socket},
			"permission denied; a socket is for the user of the service"},
		"a program": {[]string{"install", filepath.Join(target, "snapshotd")}, of(target, "drwxr-xr-x")},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(program, tc.args...)
			cmd.Env = append(os.Environ(), beSnapshotd+"=1")
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), tc.want) {
				t.Errorf("%v: %v\n%s\nwant %s", tc.args, err, out, tc.want)
			}
			if strings.Count(string(out), "this program runs as") > 1 {
				t.Errorf("it is said twice:\n%s", out)
			}
		})
	}
}
