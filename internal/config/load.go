package config

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/snapshotd/snapshotd/internal/disk"
)

// Source says where a configuration is read from.
type Source struct {
	Flags  *Flags
	Getenv func(string) string
	Dev    bool // serve --dev: the etcd is embedded
}

// Load reads the configuration, fills in the defaults and validates it. The error is *[Problems] when the configuration
// is wrong; the Config then has the parts that could be read.
func Load(src Source) (*Config, error) {
	cfg, problems := defaults(), &Problems{}
	file := src.Flags.file
	if file == "" {
		file = src.Getenv("SNAPSHOTD_CONFIG")
	}
	if file != "" {
		cfg.file, cfg.watched = file, []string{file}
		data, err := readFile(file)
		if err != nil {
			problems.add("--config", "%s", whyUnread(err))
			return cfg, problems
		}
		parse(cfg, data, file, problems)
	}
	variables := environment(src.Getenv)
	if cfg.named() {
		// The other commands choose one of the service's clusters by the same variable. A cluster that it renamed would
		// have another prefix and other keys of the catalog, as if its snapshots were gone.
		delete(variables.values, clusterFlag)
	}
	for _, level := range []given{variables, src.Flags.given()} {
		cfg.apply(level, file, problems)
	}
	if src.Dev {
		cfg.dev(file, problems)
	}
	cfg.fillIn(src.Dev, problems)
	if len(problems.list) == 0 {
		// A value that could not be read would be reported a second time.
		cfg.validate(src.Dev, problems)
	}
	return cfg, problems.err()
}

// named reports whether the file names its clusters. Several of them need names.
func (c *Config) named() bool {
	return len(c.Clusters) > 1 || c.origins["clusters[0].name"] != ""
}

// apply sets the values of one level over those of the levels before.
func (c *Config) apply(level given, file string, problems *Problems) {
	cluster := c.clusterFor(level, file, problems)
	for _, s := range settings {
		values, ok := level.values[s.flag]
		if !ok {
			continue
		}
		var err error
		path := s.path
		switch {
		case s.service != nil:
			err = s.service(c, values)
		case cluster != nil:
			path = "clusters[0]." + s.path
			err = s.cluster(cluster, values)
			if s.flag == "etcd-user" && strings.Contains(values[0], ":") {
				c.origins.set("clusters[0].etcd.password", level.name(s))
			}
		default:
			continue
		}
		c.origins.set(path, level.name(s))
		if err != nil {
			problems.add(level.name(s), "%v", err)
		}
	}
}

// clusterFor returns the cluster that a level's settings belong to; nil when the level has none for a cluster.
func (c *Config) clusterFor(level given, file string, problems *Problems) *Cluster {
	var first *setting
	for _, s := range settings {
		if _, ok := level.values[s.flag]; ok && s.cluster != nil {
			first = &s
			break
		}
	}
	switch {
	case first == nil:
		return nil
	case len(c.Clusters) > 1:
		problems.add(level.name(*first), "is about one cluster, but %s has %d; set it there", file, len(c.Clusters))
		return nil
	case len(c.Clusters) == 0:
		c.Clusters = make([]Cluster, 1)
	}
	cluster := &c.Clusters[0]
	c.giveWay(&cluster.Etcd, level.values)
	return cluster
}

// giveWay clears settings that a level replaces by another form of the same.
func (c *Config) giveWay(e *Etcd, values map[string][]string) {
	if values["etcd-endpoints"] != nil || values["etcd-discovery-srv"] != nil {
		e.Endpoints, e.DiscoverySRV, e.DiscoverySRVName = nil, "", ""
		for _, key := range []string{"endpoints", "discovery_srv", "discovery_srv_name"} {
			c.origins.forget("clusters[0].etcd." + key)
		}
	}
	withPassword := func(user string) bool { return strings.Contains(user, ":") }
	if slices.ContainsFunc(values["etcd-user"], withPassword) || values["etcd-password-file"] != nil {
		e.Password, e.PasswordFile = "", ""
		c.origins.forget("clusters[0].etcd.password")
		c.origins.forget("clusters[0].etcd.password_file")
	}
}

// dev makes the configuration one of serve --dev.
func (c *Config) dev(file string, problems *Problems) {
	if file != "" {
		problems.add("--dev", "brings its own etcd and needs no --config %s; leave one of them out", file)
		return
	}
	if len(c.Clusters) == 0 {
		c.Clusters = make([]Cluster, 1)
	}
	if e := c.Clusters[0].Etcd; e.reachable() || e.User != "" || e.CACert != "" || e.Cert != "" || e.Key != "" ||
		e.PasswordFile != "" {
		problems.add("--dev", "brings its own etcd; leave out the --etcd-* flags and SNAPSHOTD_ETCD_* variables, or --dev")
	}
	if c.TLS.Enabled() {
		problems.add("--dev", "serves without TLS; leave out the --tls-* flags and SNAPSHOTD_TLS_* variables, or --dev")
	}
	if c.origins["log.level"] == "" {
		c.Log.Level = "warn" // the log shares a terminal with the printed first steps
	}
}

func (c *Config) fillIn(dev bool, problems *Problems) {
	dir := defaultDataDir
	if dev {
		dir = DefaultDevDir
	}
	if c.origins["data_dir"] == "" {
		c.DataDir = dir
	}
	if c.Access != nil {
		c.Access.fillIn(func(key string) bool { return c.origins["access."+key] != "" })
	}
	for i := range c.Clusters {
		c.Clusters[i].fillIn(func(key string) bool { return c.origins[fmt.Sprintf("clusters[%d].%s", i, key)] != "" })
	}
	if c.origins["node_name"] == "" {
		host, err := os.Hostname()
		if err != nil {
			problems.add("node_name", "the host name is not known (%v); set --node-name", err)
		}
		c.NodeName = host
	}
}

// whyUnread returns why a file cannot be read.
func whyUnread(err error) string {
	if why := disk.Denied(err); why != "" {
		return fmt.Sprintf("%v (%s)", err, why)
	}
	return err.Error()
}

// maxFile is far above the size of a configuration: ten thousand clusters take a megabyte.
const maxFile = 16 << 20

func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s has %d bytes; a configuration has at most %d", name, info.Size(), maxFile)
	}
	return os.ReadFile(name)
}

// ForgetOrigins frees the memory of where each value is from. Problems and warnings that are found later have only the
// keys.
func (c *Config) ForgetOrigins() { c.origins = nil }
