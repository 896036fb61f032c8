//go:build e2e

package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestTheImageIsBuiltAndRun has buildah build the Dockerfile, with the installed Go in the place of the base image, and
// runs the image: a service with an etcd of its own saves, and proves that the snapshot can be restored.
func TestTheImageIsBuiltAndRun(t *testing.T) {
	b := newBuildah(t)
	b.build()
	config := b.must("inspect", "--type", "image", "--format",
		"{{.OCIv1.Config.User}} {{.OCIv1.Config.Entrypoint}} {{len .OCIv1.Config.ExposedPorts}}", "localhost/snapshotd")
	if want := "65532:65532 [/usr/local/bin/snapshotd] 2"; strings.TrimSpace(config) != want {
		t.Errorf("user, entrypoint and number of ports are %q, want %q", config, want)
	}
	container := strings.TrimSpace(b.must("from", "--pull-never", "localhost/snapshotd"))
	b.checkContent(container)

	// The entrypoint, as a program.
	inside := filepath.Join(b.dir, "snapshotd")
	script := fmt.Sprintf("#!/bin/sh\nexec %s %s run %s -- /usr/local/bin/snapshotd \"$@\"\n", b.path, strings.Join(b.options, " "), container)
	if err := os.WriteFile(inside, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	var version struct{ Version, Commit string }
	decode(t, command(t.Context(), t, inside, "version", "--output", "json").stdout, &version)
	if version.Version != "v1.2.3" || version.Commit != "0123abc" {
		t.Errorf("the program in the image says that it is %+v", version)
	}
	s := start(t, options{binary: inside}, "--dev", "--log-level", "info", "--data-dir", "/var/lib/snapshotd/dev")
	t.Cleanup(s.end) // buildah ends what it runs only when it is asked to
	s.save()
	s.must("verify", "latest", "--level", "drill")
}

// buildah builds and runs images without a registry, in a storage of its own.
type buildah struct {
	t       *testing.T
	path    string
	dir     string
	options []string // of each command
}

func newBuildah(t *testing.T) *buildah {
	t.Helper()
	path, err := exec.LookPath("buildah")
	if err != nil {
		t.Skip("there is no buildah (Debian's package buildah)")
	}
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Skip("there is no /bin/busybox for the stand-in of the base image (Debian's package busybox-static)")
	}
	if os.Getuid() != 0 {
		t.Skip("only root can build an image without namespaces of users")
	}
	t.Setenv("BUILDAH_ISOLATION", "chroot")
	b := &buildah{t: t, path: path, dir: t.TempDir()}
	b.options = []string{"--root", filepath.Join(b.dir, "storage"), "--runroot", filepath.Join(b.dir, "run"), "--storage-driver", "vfs"}
	return b
}

func (b *buildah) must(args ...string) string {
	b.t.Helper()
	cmd := exec.CommandContext(b.t.Context(), b.path, append(slices.Clone(b.options), args...)...)
	cmd.Dir = testenv.Root()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		b.t.Fatalf("buildah %v: %v\n%s%s", args, err, out, stderr.String())
	}
	return string(out)
}

// build makes the image. The stand-in for the base image has a shell and certificates. Go, its modules and what it has
// built before are those of this machine.
func (b *buildah) build() {
	b.t.Helper()
	base := filepath.Join(b.dir, "base")
	for _, dir := range []string{"bin", "tmp", "etc/ssl/certs", "usr/local/go", "go/pkg/mod", "cache"} {
		if err := os.MkdirAll(filepath.Join(base, dir), 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range []struct {
		name    string
		content []byte
		mode    os.FileMode
	}{
		{"bin/sh", busybox, 0o755},
		{"bin/mkdir", busybox, 0o755},
		{"etc/ssl/certs/ca-certificates.crt", []byte("certificates\n"), 0o644},
		{"Dockerfile", []byte("FROM scratch\nCOPY . /\n" +
			"ENV PATH=/usr/local/go/bin:/bin GOPATH=/go GOCACHE=/cache GOTOOLCHAIN=local GOPROXY=off\n"), 0o644},
	} {
		if err := os.WriteFile(filepath.Join(base, f.name), f.content, f.mode); err != nil {
			b.t.Fatal(err)
		}
	}
	b.must("bud", "--tag", "localhost/build", base)
	program(b.t, "") // what it is made of, Go does not build again
	b.must("bud", "--pull-never", "--volume", goenv(b.t, "GOROOT")+":/usr/local/go:ro", "--volume", goenv(b.t, "GOMODCACHE")+":/go/pkg/mod:ro",
		"--volume", goenv(b.t, "GOCACHE")+":/cache", "--build-arg", "BUILD_IMAGE=localhost/build", "--build-arg", "VERSION=v1.2.3",
		"--build-arg", "COMMIT=0123abc", "--tag", "localhost/snapshotd", ".")
}

func goenv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// checkContent compares all that is in the image with what has to be there.
func (b *buildah) checkContent(container string) {
	b.t.Helper()
	root := strings.TrimSpace(b.must("mount", container))
	defer b.must("unmount", container)
	var found []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		if !d.IsDir() || owner.Uid != 0 {
			found = append(found, fmt.Sprintf("%s %s %d:%d", info.Mode(), strings.TrimPrefix(path, root), owner.Uid, owner.Gid))
		}
		return nil
	})
	want := []string{
		"-rw-r--r-- /etc/ssl/certs/ca-certificates.crt 0:0", "-rwxr-xr-x /usr/local/bin/snapshotd 0:0", "drwxr-xr-x /var/lib/snapshotd 65532:65532",
	}
	if err != nil || !slices.Equal(found, want) {
		b.t.Errorf("the image has %q, want %q; %v", found, want, err)
	}
}
