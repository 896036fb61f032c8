package config

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// live are the keys whose changes take effect while the service runs.
var live = []string{"access", "clusters", "clusters_dir", "defaults"}

// AfterRestart returns the keys in which another configuration differs and that take effect with the next start.
func (c *Config) AfterRestart(other *Config) []string {
	var keys []string
	each(func(key string, i int) {
		a, b := reflect.ValueOf(c).Elem().Field(i), reflect.ValueOf(other).Elem().Field(i)
		if !slices.Contains(live, key) && !reflect.DeepEqual(a.Interface(), b.Interface()) {
			keys = append(keys, key)
		}
	})
	return keys
}

// WriteReload prints which keys take effect without a restart, as comments of YAML.
func (c *Config) WriteReload(out io.Writer) error {
	var rest []string
	each(func(key string, _ int) {
		if !slices.Contains(live, key) {
			rest = append(rest, key)
		}
	})
	_, err := fmt.Fprintf(out, "# in effect as soon as a file changes, and on SIGHUP: %s\n# in effect after a restart: %s\n",
		strings.Join(live, ", "), strings.Join(rest, ", "))
	return err
}

// each calls f for each key at the top of the file.
func each(f func(key string, field int)) {
	t := reflect.TypeFor[Config]()
	for i := range t.NumField() {
		if key, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ","); key != "" {
			f(key, i)
		}
	}
}
