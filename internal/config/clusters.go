package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// defaultsKey and clustersKey are the keys of the file that clusters are put together from.
const (
	defaultsKey = "defaults"
	clustersKey = "clusters"
)

// withDefaults gives each cluster of a file the settings of defaults that it does not have itself. It returns the
// defaults for the clusters in files of their own; nil when there are none, or when they are wrong.
func (c *checker) withDefaults(doc *yaml.Node) *yaml.Node {
	defaults := valueOf(doc, defaultsKey)
	if defaults == nil || isNull(defaults) {
		return nil
	}
	before := len(c.problems.list)
	c.value(defaults, reflect.TypeFor[Cluster](), defaultsKey)
	if name := valueOf(defaults, "name"); name != nil {
		c.problem(name, defaultsKey+".name", "cannot be the same for all clusters; give each its own")
	}
	merges := func(k *yaml.Node) bool { return k.Tag == "!!merge" }
	if defaults = resolved(defaults); slices.ContainsFunc(defaults.Content, merges) {
		c.problem(defaults, defaultsKey, "must not merge with <<; write its settings out")
	}
	if len(c.problems.list) > before {
		return nil
	}
	if clusters := valueOf(doc, clustersKey); clusters != nil && clusters.Kind == yaml.SequenceNode {
		for i := range clusters.Content {
			clusters.Content[i] = merged(defaults, clusters.Content[i])
		}
	}
	return defaults
}

// merged returns a mapping with the keys of both. What over has itself stays, and mappings in both are merged in the
// same way; lists and values are not.
func merged(under, over *yaml.Node) *yaml.Node {
	under, over = resolved(under), resolved(over)
	if under == nil || under.Kind != yaml.MappingNode || over.Kind != yaml.MappingNode {
		return over
	}
	both := *over
	both.Content = slices.Clone(over.Content)
	for i := 0; i+1 < len(under.Content); i += 2 {
		key, val := under.Content[i], under.Content[i+1]
		at := indexOf(over, key.Value)
		switch {
		case at >= 0:
			both.Content[at] = merged(val, over.Content[at])
		case valueOf(over, key.Value) == nil: // otherwise it has it by <<
			both.Content = append(both.Content, key, val)
		}
	}
	return &both
}

// indexOf returns where the value of a key is among the children of a mapping; -1 when it has none of its own.
func indexOf(n *yaml.Node, key string) int {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key && n.Content[i].Tag != "!!merge" {
			return i + 1
		}
	}
	return -1
}

// valueOf returns the value of a key of a mapping, its own or by <<; nil when there is none.
func valueOf(n *yaml.Node, key string) *yaml.Node {
	if n = resolved(n); n.Kind != yaml.MappingNode {
		return nil
	}
	if i := indexOf(n, key); i >= 0 {
		return n.Content[i]
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if from := resolved(n.Content[i+1]); n.Content[i].Tag == "!!merge" && from.Kind == yaml.MappingNode {
			if j := indexOf(from, key); j >= 0 {
				return from.Content[j]
			}
		}
	}
	return nil
}

func resolved(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// readClusters adds the clusters of a directory, each a file of its own with the keys of one cluster. Its name is that
// of the file when it has none.
func (c *Config) readClusters(defaults *yaml.Node, problems *Problems) {
	if c.ClustersDir == "" {
		return
	}
	dir := c.ClustersDir
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(filepath.Dir(c.file), dir)
	}
	c.watched = append(c.watched, dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		problems.add(c.origins.of("clusters_dir")+": clusters_dir", "%v", err)
		return
	}
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") || ext != ".yaml" && ext != ".yml" {
			continue
		}
		file := filepath.Join(dir, e.Name())
		c.watched = append(c.watched, file)
		c.readCluster(file, defaults, problems)
	}
}

// readCluster adds the cluster of a file.
func (c *Config) readCluster(file string, defaults *yaml.Node, problems *Problems) {
	name := filepath.Join(filepath.Base(filepath.Dir(file)), filepath.Base(file))
	data, err := readFile(file)
	if err != nil {
		problems.add(name, "%s", whyUnread(err))
		return
	}
	before := len(problems.list)
	n := document(data, name, problems)
	if n == nil {
		if len(problems.list) == before {
			problems.add(name, "is empty; it must have the keys of a cluster, such as etcd and backends")
		}
		return
	}
	path := fmt.Sprintf("clusters[%d]", len(c.Clusters))
	check := &checker{file: name, defaultsFile: filepath.Base(c.file), origins: c.origins, problems: problems}
	if defaults != nil {
		n = check.mark(defaults, n)
	}
	check.value(n, reflect.TypeFor[Cluster](), path)
	if len(problems.list) > before {
		return
	}
	var cluster Cluster
	if err := n.Decode(&cluster); err != nil {
		problems.add(name, "%s", decodeError(err))
		return
	}
	if c.origins[path+".name"] == "" {
		cluster.Name = strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
		c.origins[path+".name"] = name + ":1"
	}
	c.Clusters = append(c.Clusters, cluster)
}

// mark merges the defaults into a cluster of another file, and remembers which of the nodes are theirs.
func (c *checker) mark(defaults, cluster *yaml.Node) *yaml.Node {
	c.theirs = map[*yaml.Node]bool{}
	var walk func(*yaml.Node)
	walk = func(n *yaml.Node) {
		if c.theirs[n] {
			return
		}
		c.theirs[n] = true
		for _, child := range n.Content {
			walk(child)
		}
		if n.Alias != nil {
			walk(n.Alias)
		}
	}
	walk(defaults)
	return merged(defaults, cluster)
}
