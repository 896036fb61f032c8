//go:build e2e

package e2e

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// composition is deploy/demo/compose.yaml.
type composition struct {
	Services map[string]struct {
		Image       string
		Build       string
		Entrypoint  []string
		Command     []string
		Environment map[string]string
		Configs     []struct{ Source, Target string }
		Volumes     []string
		Ports       []string
	}
	Configs map[string]struct{ Content string }
	Volumes map[string]any

	dir  string            // where the services have their files
	addr map[string]string // of the services, on the loopback interface
}

func readComposition(t *testing.T) *composition {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join(testenv.Root(), "deploy", "demo", "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c := &composition{dir: t.TempDir(), addr: map[string]string{}}
	if err := yaml.Unmarshal(doc, c); err != nil {
		t.Fatal(err)
	}
	for i, name := range slices.Sorted(maps.Keys(c.Services)) {
		c.addr[name] = "127.0.79." + string(rune('1'+i))
	}
	return c
}

// TestTheComposeDemo runs what deploy/demo/compose.yaml says without containers: with the programs of the same names,
// on an address of the loopback interface for each service.
func TestTheComposeDemo(t *testing.T) {
	c := readComposition(t)
	pinned := regexp.MustCompile(`^[a-z0-9./-]+:v?[0-9]+\.[0-9]+\.[0-9]+$`)
	for name, s := range c.Services {
		if s.Build == "" && !pinned.MatchString(s.Image) {
			t.Errorf("%s: the image %q has no version", name, s.Image)
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s: other machines reach the port %s", name, p)
			}
		}
	}
	for _, name := range []string{"m1", "m2", "m3"} {
		c.start(t, name, testenv.Tool(t, "servers", "go.etcd.io/etcd/server/v3"), c.Services[name].Command[1:]...)
	}
	c.start(t, "s3", testenv.Tool(t, "servers", "github.com/versity/versitygw/cmd/versitygw"), c.Services["s3"].Command...)
	s := &service{t: t, path: program(t, ""), grpc: c.addr["snapshotd"] + ":7379", http: c.addr["snapshotd"] + ":7380"}
	c.start(t, "snapshotd", s.path, c.Services["snapshotd"].Command...)
	eventually(t, "a first snapshot on both backends", func() bool {
		for _, at := range []string{"snapshotd/var/lib/snapshotd", "s3/objects/backups/etcd"} {
			if found, err := filepath.Glob(filepath.Join(c.dir, at, "demo", "*.json")); err != nil || len(found) == 0 {
				return false
			}
		}
		return strings.Contains(s.run("list").stdout, "READY")
	})
	eventually(t, "the journal", func() bool { return strings.Contains(s.run("window").stdout, "demo") })

	c.mount(t, "prometheus")
	p := testenv.StartPrometheus(t, c.text(t, "prometheus", "prometheus"))
	eventually(t, "Prometheus finds the service", func() bool {
		up, err := p.Query(`up{job="snapshotd"}`)
		return err == nil && slices.Equal(up, []float64{1})
	})
	if rules := p.Rules(); len(rules) == 0 {
		t.Error("Prometheus has no alerts")
	}
	c.checkGrafana(t)
}

// root is the directory that a service has for its root.
func (c *composition) root(name string) string { return filepath.Join(c.dir, name) }

// here returns a text as the programs of this machine need it.
func (c *composition) here(name, text string) string {
	root := c.root(name)
	switch {
	case strings.HasPrefix(text, "/"):
		text = root + text
	case strings.HasPrefix(text, ":"):
		text = c.addr[name] + text
	}
	text = hostPort.ReplaceAllStringFunc(text, func(match string) string {
		m := hostPort.FindStringSubmatch(match)
		if addr, ok := c.addr[m[2]]; ok {
			return m[1] + addr + m[3]
		}
		return match
	})
	return strings.NewReplacer(
		"0.0.0.0", c.addr[name], "file:///", "file://"+root+"/", " /spool", " "+root+"/spool", "[/etc/", "["+root+"/etc/", "$$", "$",
	).Replace(text)
}

// hostPort is where a service is named.
var hostPort = regexp.MustCompile(`(http://|")([a-z0-9]+)(:[0-9])`)

// text returns a configuration.
func (c *composition) text(t *testing.T, name, config string) string {
	t.Helper()
	content, ok := c.Configs[config]
	if !ok {
		t.Fatalf("%s: there is no configuration %s", name, config)
	}
	return c.here(name, content.Content)
}

// mount makes the files and directories that a service has.
func (c *composition) mount(t *testing.T, name string) {
	t.Helper()
	put := func(target string, content []byte) {
		path := filepath.Join(c.root(name), target)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, config := range c.Services[name].Configs {
		put(config.Target, []byte(c.text(t, name, config.Source)))
	}
	for _, v := range c.Services[name].Volumes {
		source, target, _ := strings.Cut(v, ":")
		if file, ok := strings.CutPrefix(source, ".."); ok {
			content, err := os.ReadFile(filepath.Join(testenv.Root(), "deploy", file))
			if err != nil {
				t.Fatal(err)
			}
			put(strings.TrimSuffix(target, ":ro"), content)
			continue
		}
		if _, ok := c.Volumes[source]; !ok {
			t.Errorf("%s: there is no volume %s", name, source)
		}
		if err := os.MkdirAll(filepath.Join(c.root(name), target), 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// start runs the program of a service until the test ends.
func (c *composition) start(t *testing.T, name, path string, args ...string) {
	t.Helper()
	c.mount(t, name)
	cmd := exec.Command(path)
	for _, a := range args {
		cmd.Args = append(cmd.Args, c.here(name, a))
	}
	cmd.Env = os.Environ()
	for key, value := range c.Services[name].Environment {
		cmd.Env = append(cmd.Env, key+"="+c.here(name, value))
	}
	log := &testenv.Buffer{}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", name, tail(log.String(), 2000))
		}
	})
}

// checkGrafana runs the command that makes the dashboard, and looks for what an import would have asked for.
func (c *composition) checkGrafana(t *testing.T) {
	t.Helper()
	c.mount(t, "grafana")
	command, _, ok := strings.Cut(c.Services["grafana"].Entrypoint[2], " && exec /run.sh")
	root, made := c.root("grafana"), t.TempDir()
	command = strings.NewReplacer("/snapshotd.json >/tmp/", root+"/snapshotd.json >"+made+"/", "$$", "$").Replace(command)
	if out, err := exec.Command("sh", "-c", command).CombinedOutput(); !ok || err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	before, err := os.ReadFile(filepath.Join(testenv.Root(), "deploy", "grafana", "snapshotd.json"))
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(filepath.Join(made, "snapshotd.json"))
	if want := strings.ReplaceAll(string(before), "${VAR_PREFIX}", ""); err != nil || string(after) != want {
		t.Errorf("the dashboard is not that without a prefix, %v", err)
	}
}
