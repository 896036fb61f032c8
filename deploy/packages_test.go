package deploy_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// packaged is what a package has: its files with mode and owner, those of them that are configuration, and its scripts.
type packaged struct {
	files   map[string]string
	config  []string
	scripts map[string]string
}

// The packages have the program, its unit, user and configuration, and start the program where they have put it.
func TestThePackagesHaveAllThatTheServiceNeeds(t *testing.T) {
	dir := t.TempDir()
	stage(t, dir)
	for _, packager := range []string{"deb", "rpm"} {
		pack(t, dir, packager)
	}
	const program, text = "0755 root:root", "0644 root:root"
	want := map[string]string{
		"/usr/bin/snapshotd":                                       program,
		"/usr/lib/systemd/system/snapshotd.service":                text,
		"/usr/lib/systemd/system/snapshotd.service.d/package.conf": text,
		"/usr/lib/sysusers.d/snapshotd.conf":                       text,
		"/etc/snapshotd/snapshotd.yaml":                            text,
		"/usr/share/bash-completion/completions/snapshotd":         text,
		"/usr/share/zsh/site-functions/_snapshotd":                 text,
		"/usr/share/fish/vendor_completions.d/snapshotd.fish":      text,
		"/usr/share/man/man1/snapshotd-restore.1.gz":               text,
		"/usr/share/doc/snapshotd/copyright":                       text,
		"/usr/share/doc/snapshotd/licences.txt":                    text,
		"/usr/share/doc/snapshotd/snapshotd.cdx.json":              text,
		"/usr/share/doc/snapshotd/prometheus-rules.yaml":           text,
	}
	scripts := map[string]string{
		"after installation": read(t, "nfpm", "postinstall.sh"), "before removal": read(t, "nfpm", "preremove.sh"),
		"after removal": read(t, "nfpm", "postremove.sh"),
	}
	for name, got := range map[string]packaged{
		"deb": debian(t, filepath.Join(dir, "snapshotd_1.2.3_amd64.deb")),
		"rpm": redHat(t, filepath.Join(dir, "snapshotd-1.2.3-1.x86_64.rpm")),
	} {
		if !maps.Equal(got.files, want) {
			t.Errorf("the %s has the files %v, want %v", name, got.files, want)
		}
		if !slices.Equal(got.config, []string{"/etc/snapshotd/snapshotd.yaml"}) {
			t.Errorf("the %s keeps the changes of %v", name, got.config)
		}
		if !maps.Equal(got.scripts, scripts) {
			t.Errorf("the %s has the scripts %q, want %q", name, got.scripts, scripts)
		}
	}
	start := "\nExecStart=\nExecStart=/usr/bin/snapshotd " + strings.Join(unitArgs(t), " ") + "\n"
	if got := read(t, "nfpm", "package.conf"); !strings.Contains(got, start) {
		t.Errorf("the package starts the program otherwise than the unit: %s", got)
	}
}

// The scripts stop the service when the package goes, let it go on with a new version, and touch nothing where systemd
// does not run.
func TestTheScriptsOfThePackages(t *testing.T) {
	const stop, reload, restart = "systemctl disable --now snapshotd.service\n", "systemctl daemon-reload\n",
		"systemctl try-restart snapshotd.service\n"
	const user = "systemd-sysusers /usr/lib/sysusers.d/snapshotd.conf\n"
	for _, c := range []struct {
		script, args string
		want         string
	}{
		{"postinstall.sh", "configure", user + reload + restart},       // Debian
		{"postinstall.sh", "configure 1.2.2", user + reload + restart}, // Debian, another version before
		{"postinstall.sh", "1", user + reload + restart},               // Red Hat
		{"postinstall.sh", "2", user + reload + restart},
		{"preremove.sh", "remove", stop},
		{"preremove.sh", "upgrade 1.2.4", ""},
		{"preremove.sh", "deconfigure", ""},
		{"preremove.sh", "0", stop},
		{"preremove.sh", "1", ""},
		{"postremove.sh", "remove", reload},
		{"postremove.sh", "0", reload},
	} {
		for _, systemd := range []bool{true, false} {
			dir := t.TempDir()
			for _, name := range []string{"systemctl", "systemd-sysusers"} {
				called := fmt.Sprintf("#!/bin/sh\necho %s \"$@\" >>%s/called\n", name, dir)
				if err := os.WriteFile(filepath.Join(dir, name), []byte(called), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			runs := filepath.Join(dir, "systemd")
			if systemd {
				if err := os.Mkdir(runs, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			script := strings.ReplaceAll(read(t, "nfpm", c.script), "/run/systemd/system", runs)
			cmd := exec.CommandContext(t.Context(), "sh", append([]string{"-s", "--"}, strings.Fields(c.args)...)...)
			cmd.Stdin, cmd.Env = strings.NewReader(script), []string{"PATH=" + dir + ":/usr/bin:/bin"}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s %s: %v\n%s", c.script, c.args, err, out)
			}
			called, err := os.ReadFile(filepath.Join(dir, "called"))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			want := c.want
			if !systemd {
				want = ""
			}
			if string(called) != want {
				t.Errorf("%s %s, with systemd %v, has called\n%swant\n%s", c.script, c.args, systemd, called, want)
			}
		}
	}
}

// stage makes what the Makefile makes, with other content.
func stage(t *testing.T, dir string) {
	t.Helper()
	root := testenv.Root()
	if err := os.Symlink(filepath.Join(root, "deploy"), filepath.Join(dir, "deploy")); err != nil {
		t.Fatal(err)
	}
	license, err := os.ReadFile(filepath.Join(root, "LICENSE")) // a link would be packed as a link
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"LICENSE": string(license), "bin/snapshotd": "a program", "bin/licences.txt": "licences", "bin/snapshotd.cdx.json": "{}",
		"bin/share/bash-completion/completions/snapshotd": "completion", "bin/share/zsh/site-functions/_snapshotd": "completion",
		"bin/share/fish/vendor_completions.d/snapshotd.fish": "completion", "bin/share/man/man1/snapshotd-restore.1.gz": "a page",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// pack makes a package of what was staged.
func pack(t *testing.T, dir, packager string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testenv.Tool(t, "nfpm", "github.com/goreleaser/nfpm/v2/cmd/nfpm"),
		"package", "-f", "deploy/nfpm/nfpm.yaml", "-p", packager, "-t", dir)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "VERSION=1.2.3", "ARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", packager, err, out)
	}
}
