package cli_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/snapshotd/snapshotd/cluster"
	agekey "github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/repository/signing"
)

// paste runs a line as a person does who copies it into a shell.
func paste(t *testing.T, line string) (out string, err error) {
	t.Helper()
	bin := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	shim := fmt.Sprintf("#!/bin/sh\n%s=1 exec '%s' \"$@\"\n", beSnapshotd, self)
	if err := os.WriteFile(filepath.Join(bin, "snapshotd"), []byte(shim), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	cmd.Dir = bin
	var all bytes.Buffer
	cmd.Stdout, cmd.Stderr = &all, &all
	err = cmd.Run()
	return all.String(), err
}

// signedStore saves an etcd whose key is "pasted", encrypted and signed, and returns the file of the public signing
// key.
func signedStore(t *testing.T, dir, recipient, files string) string {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signing.NewSigner(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: doc}))
	if err != nil {
		t.Fatal(err)
	}
	recipients, err := agekey.NewRecipients([]string{recipient})
	if err != nil {
		t.Fatal(err)
	}
	storedAs(t, "pasted", func(c *cluster.Config) { c.Signer, c.Recipients = signer, recipients }, dir)
	if doc, err = x509.MarshalPKIXPublicKey(public); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(files, "signing key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: doc}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// commandsOf returns the commands of a plan.
func commandsOf(plan string) (all []string) {
	for line := range strings.Lines(plan) {
		if command := strings.TrimSpace(line); strings.HasPrefix(command, "snapshotd restore ") {
			all = append(all, command)
		}
	}
	return all
}

// The commands of a plan are complete: nothing has to be added, whatever the names are like.
func TestCommandsOfAPlanCanBePasted(t *testing.T) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	odd := filepath.Join(t.TempDir(), "it's a $HOME & more")
	store, files := filepath.Join(odd, "store"), filepath.Join(odd, "keys")
	for _, dir := range []string{store, files} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	identity := filepath.Join(files, "key file.txt")
	if err := os.WriteFile(identity, []byte(key.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	signing := signedStore(t, store, key.Recipient().String(), files)
	data := filepath.Join(odd, "etcd data")
	plan := run(t.Context(), nil, "restore", "latest", "--from", "file://"+strings.ReplaceAll(store, " ", "%20"),
		"--data-dir", data, "--wal-dir", filepath.Join(odd, "the wal"), "--identity", identity, "--signing-public-key-file", signing,
		"--initial-cluster", "m1=http://127.0.0.1:2380,m1=http://127.0.0.1:2390,m2=http://127.0.0.1:2480",
		"--initial-cluster-token", "etcd $cluster; 2", "--for-kubernetes", "--disarm", "--dry-run")
	commands := commandsOf(plan.stdout)
	if plan.code != 0 || len(commands) != 2 {
		t.Fatalf("exit code %d: %s%s", plan.code, plan.stdout, plan.stderr)
	}
	for _, command := range commands {
		if out, err := paste(t, command); err != nil {
			t.Fatalf("%s\n%v: %s", command, err, out)
		}
		if _, err := os.Stat(filepath.Join(data, "member", "snap", "db")); err != nil {
			t.Errorf("%s: %v", command, err)
		}
		for _, made := range []string{data, filepath.Join(odd, "the wal")} {
			if err := os.RemoveAll(made); err != nil {
				t.Fatal(err)
			}
		}
	}
	alone := run(t.Context(), nil, "restore", "latest", "--from", "file://"+strings.ReplaceAll(store, " ", "%20"), "--data-dir", data,
		"--identity", identity, "--dry-run")
	if commands = commandsOf(alone.stdout); len(commands) != 1 {
		t.Fatalf("exit code %d: %s%s", alone.code, alone.stdout, alone.stderr)
	}
	if out, err := paste(t, commands[0]); err != nil {
		t.Fatalf("%s\n%v: %s", commands[0], err, out)
	}
	if v, _ := valueIn(t, data); v != "pasted" {
		t.Errorf("restored %q", v)
	}
}

// A directory of etcd's user stays that user's.
func TestCommandsOfAPlanGiveTheDirectoryToItsOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("another owner needs root")
	}
	store, data := t.TempDir(), filepath.Join(t.TempDir(), "etcd")
	s := stored(t, "owned", store)
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	const uid, gid = 54321, 54322
	if err := os.Chown(data, uid, gid); err != nil {
		t.Fatal(err)
	}
	plan := run(t.Context(), nil, "restore", s.Name, "--from", "file://"+store, "--data-dir", data, "--dry-run")
	commands := commandsOf(plan.stdout)
	if len(commands) != 1 || !strings.Contains(commands[0], "chown -R 54321:54322 ") {
		t.Fatalf("exit code %d: %s%s", plan.code, plan.stdout, plan.stderr)
	}
	if out, err := paste(t, commands[0]); err != nil {
		t.Fatalf("%s\n%v: %s", commands[0], err, out)
	}
	out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "find", data, "!", "-uid", fmt.Sprint(uid)).Output()
	if err != nil || len(out) > 0 {
		t.Errorf("of another user: %s, %v", out, err)
	}
}
