package cluster_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/repository/signing"
)

// formatPage returns the documentation of the format.
func formatPage(t *testing.T) string {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join(testenv.Root(), "docs", "format.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

// A snapshot can be verified and restored with the commands of the documentation, as they stand there, and nothing
// else: no program of ours, no catalog.
func TestFormatPageRestoresASnapshot(t *testing.T) {
	for _, program := range []string{"zstd", "openssl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("there is no %s here", program)
		}
	}
	programs := t.TempDir()
	for _, tool := range []string{
		testenv.Tool(t, "age", "filippo.io/age/cmd/age"), testenv.Tool(t, "age", "filippo.io/age/cmd/age-keygen"),
		testenv.Tool(t, "servers", "go.etcd.io/etcd/etcdutl/v3"),
	} {
		if err := os.Symlink(tool, filepath.Join(programs, filepath.Base(tool))); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	shell := func(name, script string) string {
		t.Helper()
		cmd := exec.Command("sh", "-euc", script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+programs+":"+os.Getenv("PATH"), "name="+name)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s\n%v\n%s", script, err, out)
		}
		return string(out)
	}
	shell("", "age-keygen -o identity.txt && openssl genpkey -algorithm ed25519 -out signing.pem && openssl pkey -in signing.pem -pubout -out signing.pub")
	recipient := strings.TrimSpace(shell("", "age-keygen -y identity.txt"))
	signer, err := signing.NewSigner(read(t, filepath.Join(dir, "signing.pem")))
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, func(c *cluster.Config) { c.Recipients, c.Signer = recipients(t, recipient), signer })
	s := f.mustSave(t)
	for _, suffix := range []string{".db.zst.age", ".json"} {
		writeFile(t, filepath.Join(dir, s.Name+suffix), string(read(t, f.path("one", s.Name, suffix))))
	}

	blocks := strings.Split(formatPage(t), "```sh\n")[1:]
	if len(blocks) < 5 {
		t.Fatalf("the page has %d blocks of commands", len(blocks))
	}
	for _, b := range blocks {
		commands, _, _ := strings.Cut(b, "```")
		t.Logf("%s%s", commands, shell(s.Name, commands))
	}
	var status struct{ Revision, TotalKey int64 }
	if err := json.Unmarshal([]byte(shell(s.Name, `etcdutl snapshot status "$name.db" --write-out json`)), &status); err != nil {
		t.Fatal(err)
	}
	if status.Revision != s.Revision {
		t.Errorf("etcdutl says revision %d, the snapshot %d", status.Revision, s.Revision)
	}
	if _, err := os.Stat(filepath.Join(dir, "restored", "member", "snap", "db")); err != nil {
		t.Error(err)
	}

	// The commands are worth something only if they find mistakes.
	verify, _, _ := strings.Cut(blocks[0], "```")
	sum, _, _ := strings.Cut(blocks[1], "```")
	for what, step := range map[string]struct{ script, file string }{"signature": {verify, ".json"}, "checksum": {sum, ".db.zst.age"}} {
		file := filepath.Join(dir, s.Name+step.file)
		good := read(t, file)
		bad := bytes.Clone(good)
		bad[len(bad)/3] ^= 1
		writeFile(t, file, string(bad))
		cmd := exec.Command("sh", "-euc", step.script)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "name="+s.Name)
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("%s: the commands find nothing wrong with a flipped bit\n%s", what, out)
		}
		writeFile(t, file, string(good))
	}
}
