package config_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/config"
)

// FuzzLoad: any file is either a valid configuration, which can be printed, or a list of problems; and a password in it
// is never shown.
func FuzzLoad(f *testing.F) {
	f.Add(one)
	f.Add(twoClusters("a", "b", "prefix: x/"))
	f.Add("listen_grpc: 1\nlisten_grpc: 2\n")
	f.Add("clusters: &a [*a]\n")
	f.Add("clusters: [{etcd: &e {<<: *e, user: x, password: y}}]\n")
	f.Add("tls: !!binary aGk=\nlog: !!str\n")
	f.Fuzz(func(t *testing.T, file string) {
		if strings.TrimSpace(file) == "" {
			return
		}
		cfg, err := load(t, given{yaml: file, env: map[string]string{"SNAPSHOTD_NODE_NAME": "n"}})
		if p, ok := errors.AsType[*config.Problems](err); err != nil && (!ok || len(p.List()) == 0) {
			t.Fatalf("load: %v is no list of problems", err)
		}
		var out bytes.Buffer
		if err := cfg.Write(&out); err != nil {
			t.Fatalf("write: %v", err)
		}
		for _, c := range cfg.Clusters {
			if p := c.Etcd.Password.Reveal(); len(p) > 12 && strings.Contains(out.String(), p) && strings.Count(file, p) == 1 {
				t.Errorf("the password %q is shown", p)
			}
		}
	})
}
