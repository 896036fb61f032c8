// Package testenv starts the real programs that tests need: etcd members, an S3 server, and the tools that check the
// outcome. It builds them from the pinned modules under tools/; only Go has to be installed.
package testenv

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv/tempdir"
)

// toolFlags are those of .ci/run, so that tools that were built beforehand are found in the cache. The tag leaves out
// most of Prometheus's service discovery, and the libraries of a dozen clouds.
const toolFlags = "-mod=mod -buildvcs=false -tags=remove_all_sd"

// versions are set in tools, by module, that do not know their own when they are built from a module: Helm asks the API
// server for it.
var versions = map[string]string{"apiserver": "-X k8s.io/component-base/version.gitVersion=v1.37.2"}

// Tool builds a tool of one of the modules under tools/ and returns the path of the program. A program that was built
// from the same sources is used again, and packages that are tested side by side wait for each other.
func Tool(tb testing.TB, module, pkg string) string {
	tb.Helper()
	toolMu.Lock()
	defer toolMu.Unlock()
	id := module + "/" + pkg
	if p, ok := toolPaths[id]; ok {
		return p
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		tb.Fatalf("find the cache directory: %v", err)
	}
	dir := filepath.Join(cache, "snapshotd-test", module)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		tb.Fatalf("make the cache directory: %v", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		tb.Fatalf("open the build lock: %v", err)
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		tb.Fatalf("take the build lock: %v", err)
	}
	out := filepath.Join(dir, toolName(pkg))
	if from := sources(tb, module); !builtFrom(out, from) {
		build(tb, module, pkg, out)
		if err := os.WriteFile(out+stampSuffix, from, 0o600); err != nil {
			tb.Fatalf("note how %s was built: %v", pkg, err)
		}
	}
	toolPaths[id] = out
	return out
}

// stampSuffix is the end of the file beside a tool that says from which sources it was built. To ask the go command
// whether the tool is current takes it a second for each package that is tested.
const stampSuffix = ".sources"

// sources returns the checksum of all that a tool is built from: the module's files, which pin all others, the version
// of Go, and the flags.
func sources(tb testing.TB, module string) []byte {
	tb.Helper()
	h := sha256.New()
	_, _ = fmt.Fprintln(h, runtime.Version(), runtime.GOOS, runtime.GOARCH, toolFlags+versions[module])
	dir := filepath.Join(Root(), "tools", module)
	files, err := os.ReadDir(dir)
	for _, f := range files {
		var content []byte
		if content, err = os.ReadFile(filepath.Join(dir, f.Name())); err != nil {
			break
		}
		_, _ = fmt.Fprintf(h, "%s %d\n%s", f.Name(), len(content), content)
	}
	if err != nil {
		tb.Fatalf("read the module of a tool: %v", err)
	}
	return fmt.Appendf(nil, "%x\n", h.Sum(nil))
}

func builtFrom(tool string, sources []byte) bool {
	stamp, err := os.ReadFile(tool + stampSuffix)
	if err != nil || !bytes.Equal(stamp, sources) {
		return false
	}
	_, err = os.Stat(tool)
	return err == nil
}

// build builds a tool. The objects and the program are large, and are not in memory while they are made.
func build(tb testing.TB, module, pkg, out string) {
	tb.Helper()
	_ = os.Remove(out + stampSuffix) // it is not true of a build that fails
	cmd := exec.Command("go", "build", "-ldflags", versions[module], "-o", out, pkg)
	cmd.Dir = filepath.Join(Root(), "tools", module)
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS="+toolFlags, "CGO_ENABLED=0", "TMPDIR="+tempdir.Disk())
	if b, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("build %s: %v\n%s", pkg, err, b)
	}
}

var (
	toolMu    sync.Mutex
	toolPaths = map[string]string{}
)

// toolName is the last element of a package's path that is not a version.
func toolName(pkg string) string {
	name := filepath.Base(pkg)
	if len(name) == 2 && name[0] == 'v' {
		name = filepath.Base(filepath.Dir(pkg))
	}
	return name
}

// Root returns the root of the repository.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}
