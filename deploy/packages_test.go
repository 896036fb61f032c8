package deploy_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// The packages have the program, its unit, user and configuration, and start the program where they have put it.
func TestThePackagesHaveAllThatTheServiceNeeds(t *testing.T) {
	nfpm := testenv.Tool(t, "nfpm", "github.com/goreleaser/nfpm/v2/cmd/nfpm")
	root, dir := testenv.Root(), t.TempDir()
	if err := os.Symlink(filepath.Join(root, "deploy"), filepath.Join(dir, "deploy")); err != nil {
		t.Fatal(err)
	}
	license, err := os.ReadFile(filepath.Join(root, "LICENSE")) // a link would be packed as a link
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "LICENSE"), license, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{ // as the Makefile makes them
		"bin/snapshotd", "bin/share/bash-completion/completions/snapshotd", "bin/share/man/man1/snapshotd-restore.1.gz",
		"bin/licences.txt", "bin/snapshotd.cdx.json",
	} {
		name := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("a program"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, packager := range []string{"deb", "rpm"} {
		cmd := exec.CommandContext(t.Context(), nfpm, "package", "-f", "deploy/nfpm/nfpm.yaml", "-p", packager, "-t", dir)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "VERSION=1.2.3", "ARCH=amd64")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", packager, err, out)
		}
	}
	if rpm, err := filepath.Glob(filepath.Join(dir, "snapshotd-1.2.3*.x86_64.rpm")); err != nil || len(rpm) != 1 {
		t.Errorf("the rpm is %v, %v", rpm, err)
	}
	files := debian(t, filepath.Join(dir, "snapshotd_1.2.3_amd64.deb"))
	for name, mode := range map[string]int64{
		"./usr/bin/snapshotd": 0o755, "./usr/lib/systemd/system/snapshotd.service": 0o644, "./usr/lib/sysusers.d/snapshotd.conf": 0o644,
		"./usr/lib/systemd/system/snapshotd.service.d/package.conf": 0o644, "./etc/snapshotd/snapshotd.yaml": 0o644,
		"./usr/share/bash-completion/completions/snapshotd": 0o755, "./usr/share/man/man1/snapshotd-restore.1.gz": 0o755, "./usr/share/doc/snapshotd/copyright": 0o644,
		"./usr/share/doc/snapshotd/licences.txt": 0o644, "./usr/share/doc/snapshotd/snapshotd.cdx.json": 0o644,
	} {
		if got, ok := files[name]; !ok || got != mode {
			t.Errorf("%s has the mode %o, want %o; there are %v", name, got, mode, files)
		}
	}
	want := "\nExecStart=\nExecStart=/usr/bin/snapshotd " + strings.Join(unitArgs(t), " ") + "\n"
	if got := read(t, "nfpm", "package.conf"); !strings.Contains(got, want) {
		t.Errorf("the package starts the program otherwise than the unit: %s", got)
	}
}

// debian returns the modes of the files of a Debian package, by name.
func debian(t *testing.T, file string) map[string]int64 {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data, err := member(b, "data.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	gz, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]int64{}
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			files[h.Name] = h.Mode
		}
	}
}

// member returns a file of an ar archive.
func member(archive []byte, name string) ([]byte, error) {
	rest, ok := bytes.CutPrefix(archive, []byte("!<arch>\n"))
	for ok && len(rest) >= 60 {
		size, err := strconv.Atoi(strings.TrimSpace(string(rest[48:58])))
		if err != nil || size > len(rest)-60 {
			break
		}
		if strings.TrimRight(strings.TrimSpace(string(rest[:16])), "/") == name {
			return rest[60 : 60+size], nil
		}
		rest = rest[60+size+size%2:]
	}
	return nil, fmt.Errorf("the package has no %s", name)
}
