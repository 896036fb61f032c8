package config

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// What takes effect while the service runs: the settings, which are one value each, and what has parts of its own.
var (
	changing = []string{
		"limits.connections", "limits.streams", "limits.calls_per_principal", "limits.saves_per_minute",
		"limits.min_download_rate", "log.level", "max_concurrent_saves", "max_concurrent_restores", "max_concurrent_drills",
		"reconcile_interval", "shutdown_timeout", "trace_url",
	}
	replaced = []string{"access", "clusters", "clusters_dir", "defaults"}
)

// Settings returns the keys in which another configuration differs and that take effect while the service runs, without
// the clusters and the rules of access.
func (c *Config) Settings(other *Config) []string {
	return c.differs(other, func(key string) bool { return slices.Contains(changing, key) })
}

// AfterRestart returns the keys in which another configuration differs and that take effect with the next start.
func (c *Config) AfterRestart(other *Config) []string { return c.differs(other, fixed) }

// fixed reports whether the value of a key takes effect with the next start.
func fixed(key string) bool {
	return !slices.Contains(changing, key) && !slices.Contains(replaced, key)
}

// differs returns the keys of a kind whose values differ.
func (c *Config) differs(other *Config, kind func(key string) bool) (keys []string) {
	values := map[string]any{}
	each("", reflect.ValueOf(*other), func(key string, v any) { values[key] = v })
	each("", reflect.ValueOf(*c), func(key string, v any) {
		if kind(key) && !reflect.DeepEqual(v, values[key]) {
			keys = append(keys, key)
		}
	})
	return keys
}

// WriteReload prints which keys take effect without a restart, as comments of YAML.
func (c *Config) WriteReload(out io.Writer) error {
	var rest []string
	each("", reflect.ValueOf(*c), func(key string, _ any) {
		if fixed(key) {
			rest = append(rest, key)
		}
	})
	_, err := fmt.Fprintf(out,
		"# in effect as soon as a file changes, and on SIGHUP: %s\n# in effect after a restart: %s\n",
		strings.Join(slices.Concat(replaced, changing), ", "), strings.Join(rest, ", "))
	return err
}

// each calls f for each key of a value with its path in the file, and for those within it.
func each(path string, v reflect.Value, f func(key string, value any)) {
	for i := range v.NumField() {
		key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		switch field := v.Field(i); {
		case key == "":
		case field.Kind() == reflect.Struct:
			each(path+key+".", field, f)
		default:
			f(path+key, field.Interface())
		}
	}
}

// SameButLimits reports whether two clusters differ in no more than the limits of bytes per second.
func (c Cluster) SameButLimits(other Cluster) bool {
	other.StreamLimit, other.UploadLimit = c.StreamLimit, c.UploadLimit
	return reflect.DeepEqual(c, other)
}
