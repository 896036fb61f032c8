//go:build e2e

package e2e

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestThePackageIsInstalledAndRemoved has dpkg install the package into a root of its own, where a shell and stand-ins for
// systemd are, take another version in its place, remove and purge it.
func TestThePackageIsInstalledAndRemoved(t *testing.T) {
	p := newPackages(t)
	const began = "systemd-sysusers /usr/lib/sysusers.d/snapshotd.conf\nsystemctl daemon-reload\nsystemctl try-restart snapshotd.service\n"
	p.dpkg("--install", p.build("1.2.3"))
	p.called(began)
	p.works()

	config, state := p.in("etc/snapshotd/snapshotd.yaml"), p.in("var/lib/snapshotd/kept")
	edited := strings.ReplaceAll(p.read(config), "name: production", "name: mine")
	p.write(config, edited, 0o644)
	p.write(state, "a snapshot", 0o600)
	p.dpkg("--install", p.build("1.2.4"))
	p.called("systemctl daemon-reload\n" + began) // the old version's unit is gone first
	if got := p.read(config); got != edited {
		t.Errorf("the configuration that was edited is now\n%s", got)
	}

	p.dpkg("--remove", "snapshotd")
	p.called("systemctl disable --now snapshotd.service\nsystemctl daemon-reload\n")
	p.gone("usr/bin/snapshotd", "usr/lib/systemd/system/snapshotd.service", "usr/share/man/man1/snapshotd.1.gz")
	if got := p.read(config); got != edited {
		t.Errorf("after the removal the configuration is\n%s", got)
	}
	p.dpkg("--purge", "snapshotd")
	p.gone("etc/snapshotd/snapshotd.yaml")
	p.read(state) // it may be the only copy
}

// packages are packages of one program, and the root that they are installed into.
type packages struct {
	t           *testing.T
	stage, root string
}

func newPackages(t *testing.T) *packages {
	t.Helper()
	for _, needed := range []string{"dpkg", "make", "/bin/busybox"} {
		if _, err := exec.LookPath(needed); err != nil {
			t.Skipf("there is no %s (Debian's packages dpkg, make and busybox-static)", needed)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("only root installs packages")
	}
	p := &packages{t: t, stage: t.TempDir(), root: t.TempDir()}
	busybox := p.read("/bin/busybox")
	p.write(p.in("bin/busybox"), busybox, 0o755)
	p.write(p.in("bin/sh"), busybox, 0o755)
	for _, name := range []string{"systemctl", "systemd-sysusers"} {
		p.write(p.in("bin/"+name), fmt.Sprintf("#!/bin/sh\necho %s \"$@\" >>/called\n", name), 0o755)
	}
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "run/systemd/system"} {
		p.check(os.MkdirAll(p.in(dir), 0o755))
	}
	p.write(p.in("var/lib/dpkg/status"), "", 0o644)
	p.stageAll()
	return p
}

// stageAll makes what is packed, as the Makefile does, but for the list of modules and their licences.
func (p *packages) stageAll() {
	p.t.Helper()
	root := testenv.Root()
	p.check(os.Symlink(filepath.Join(root, "deploy"), filepath.Join(p.stage, "deploy")))
	p.write(filepath.Join(p.stage, "LICENSE"), p.read(filepath.Join(root, "LICENSE")), 0o644)
	p.write(filepath.Join(p.stage, "bin/snapshotd"), p.read(program(p.t, "")), 0o755)
	p.write(filepath.Join(p.stage, "bin/licences.txt"), "licences", 0o644)
	p.write(filepath.Join(p.stage, "bin/snapshotd.cdx.json"), "{}", 0o644)
	share := exec.CommandContext(p.t.Context(), "make", "share", "VERSION=v1.2.3", "SHARE="+filepath.Join(p.stage, "bin/share"))
	share.Dir = root
	share.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath -buildvcs=false") // as program builds it
	if out, err := share.CombinedOutput(); err != nil {
		p.t.Fatalf("make share: %v\n%s", err, out)
	}
}

// build makes the package of a version, and returns its file.
func (p *packages) build(version string) string {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), testenv.Tool(p.t, "nfpm", "github.com/goreleaser/nfpm/v2/cmd/nfpm"),
		"package", "-f", "deploy/nfpm/nfpm.yaml", "-p", "deb", "-t", p.stage)
	cmd.Dir = p.stage
	cmd.Env = append(os.Environ(), "VERSION="+version, "ARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("nfpm: %v\n%s", err, out)
	}
	return filepath.Join(p.stage, "snapshotd_"+version+"_amd64.deb")
}

// dpkg runs dpkg on the root. The architecture is that of the package, whatever this machine is.
func (p *packages) dpkg(args ...string) {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), "dpkg", append([]string{"--root=" + p.root, "--force-architecture"}, args...)...)
	cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("dpkg %v: %v\n%s", args, err, out)
	}
}

// works runs the installed program, and looks at the pages and completions.
func (p *packages) works() {
	p.t.Helper()
	out, err := exec.CommandContext(p.t.Context(), "chroot", p.root, "/usr/bin/snapshotd", "config", "check",
		"--config", "/etc/snapshotd/snapshotd.yaml").CombinedOutput()
	if err != nil {
		p.t.Errorf("config check: %v\n%s", err, out)
	}
	for _, name := range []string{"bash-completion/completions/snapshotd", "zsh/site-functions/_snapshotd", "fish/vendor_completions.d/snapshotd.fish"} {
		if !strings.Contains(p.read(p.in("usr/share/"+name)), "snapshotd") {
			p.t.Errorf("%s does not complete snapshotd", name)
		}
	}
	pages, err := filepath.Glob(p.in("usr/share/man/man1/snapshotd*.1.gz"))
	if err != nil || len(pages) < 20 || !slices.Contains(pages, p.in("usr/share/man/man1/snapshotd-restore.1.gz")) {
		p.t.Fatalf("the manual pages are %v, %v", pages, err)
	}
	for _, page := range pages {
		gz, err := gzip.NewReader(strings.NewReader(p.read(page)))
		p.check(err)
		text, err := io.ReadAll(gz)
		if err != nil || !strings.Contains(string(text), "\n.SH \"SYNOPSIS\"\n") {
			p.t.Errorf("%s is no page: %v\n%s", page, err, tail(string(text), 500))
		}
	}
}

// called compares what the scripts of the package have called since the last time.
func (p *packages) called(want string) {
	p.t.Helper()
	if got := p.read(p.in("called")); got != want {
		p.t.Errorf("the scripts have called\n%swant\n%s", got, want)
	}
	p.check(os.Remove(p.in("called")))
}

func (p *packages) gone(names ...string) {
	p.t.Helper()
	for _, name := range names {
		if _, err := os.Lstat(p.in(name)); !os.IsNotExist(err) {
			p.t.Errorf("%s is still there: %v", name, err)
		}
	}
}

func (p *packages) in(name string) string { return filepath.Join(p.root, name) }

func (p *packages) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *packages) read(file string) string {
	p.t.Helper()
	b, err := os.ReadFile(file)
	p.check(err)
	return string(b)
}

func (p *packages) write(file, content string, mode os.FileMode) {
	p.t.Helper()
	p.check(os.MkdirAll(filepath.Dir(file), 0o755))
	p.check(os.WriteFile(file, []byte(content), mode))
}
