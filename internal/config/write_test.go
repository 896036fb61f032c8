package config_test

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/snapshotd/snapshotd/internal/config"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestEffectiveConfiguration(t *testing.T) {
	cfg := mustLoad(t, given{
		yaml: "log: {format: json}\n" + one,
		args: []string{"--backend=s3=s3://bucket?region=x&use_path_style=true", "--etcd-endpoints=a:2379,b:2379"},
		env:  map[string]string{"SNAPSHOTD_ETCD_USER": "root:hunter2", "SNAPSHOTD_LISTEN_GRPC": "127.0.0.1:0"},
	})
	var out bytes.Buffer
	if err := cfg.Write(&out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hunter2") {
		t.Errorf("a secret is shown:\n%s", out.String())
	}
	golden(t, "effective.yaml", out.Bytes())
}

func TestEffectiveConfigurationCanBeReadAgain(t *testing.T) {
	cfg := mustLoad(t, given{yaml: one, args: []string{"--tls-cert=c", "--tls-key=k"}})
	var first, second bytes.Buffer
	if err := cfg.Write(&first); err != nil {
		t.Fatal(err)
	}
	if err := mustLoad(t, given{yaml: first.String()}).Write(&second); err != nil {
		t.Fatal(err)
	}
	var a, b any
	if err := yaml.Unmarshal(first.Bytes(), &a); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(second.Bytes(), &b); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("written again it is\n%s\ninstead of\n%s", second.Bytes(), first.Bytes())
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	var log bytes.Buffer
	c := config.Cluster{
		Etcd: config.Etcd{Password: "hunter2"},
		Backends: []config.Backend{
			{URL: "s3://b?x-secret=hunter2"}, {URL: "s3://u:hunter2@b"}, {URL: "s3://%zz?secret=hunter2"},
		},
	}
	l := slog.New(slog.NewJSONHandler(&log, nil))
	l.Info("m", "cluster", c, "password", c.Etcd.Password, "url", c.Backends[0].URL)
	l.Info(fmt.Sprint(c))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&log, verb, c)
		fmt.Fprintf(&log, verb, c.Etcd.Password)
	}
	for _, hidden := range []string{"hunter2", "68756e74657232"} {
		if strings.Contains(log.String(), hidden) {
			t.Errorf("%s is in:\n%s", hidden, log.String())
		}
	}
	if c.Etcd.Password.Reveal() != "hunter2" {
		t.Error("the secret is lost")
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; -update writes it anew. got:\n%s", file, got)
	}
}
