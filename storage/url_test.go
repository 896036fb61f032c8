package storage_test

import (
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
)

func TestURLsSayWhereKeysAre(t *testing.T) {
	for _, test := range []struct {
		url  string
		kind snapshot.BackendKind
		uri  string
	}{
		{"file:///var/lib/snapshots", snapshot.BackendLocal, "file:///var/lib/snapshots/default/x.db"},
		{"file://localhost/var/lib//snapshots/", snapshot.BackendLocal, "file:///var/lib/snapshots/default/x.db"},
		{"file:///var/lib?prefix=/a/b", snapshot.BackendLocal, "file:///var/lib/a/b/default/x.db"},
		{"s3://backups?region=eu-central-1", snapshot.BackendS3, "s3://backups/default/x.db"},
		{"s3://backups/?prefix=etcd", snapshot.BackendS3, "s3://backups/etcd/default/x.db"},
		{"s3://backups?prefix=a/b/&endpoint=https://s3.example.com:9000&use_path_style=true&ssetype=aws:kms&kmskeyid=key&region=", snapshot.BackendS3, "s3://backups/a/b/default/x.db"},
		{"s3://backups?s3ForcePathStyle=1&accelerate=false&disable_https=0&request_checksum_calculation=when_required", snapshot.BackendS3, "s3://backups/default/x.db"},
	} {
		b, err := storage.New(storage.Config{Name: "one", URL: test.url})
		if err != nil {
			t.Errorf("%s: %v", test.url, err)
			continue
		}
		if b.Info().Name != "one" || b.Info().Kind != test.kind || b.Info().URI("default/x.db") != test.uri {
			t.Errorf("%s: got %s, %s, %s, want %s, %s", test.url, b.Info().Name, b.Info().Kind, b.Info().URI("default/x.db"), test.kind, test.uri)
		}
	}
}

func TestNameOfABackendThatNobodyNamed(t *testing.T) {
	for url, want := range map[string]string{
		"file:///var/backups/etcd":                        "file:///var/backups/etcd",
		"s3://backups?region=eu-1&prefix=etcd/":           "s3://backups",
		"s3://key:hunter2@backups?endpoint=http://u:p@h#": "s3://backups",
		"%zz": "--from",
		"":    "--from",
	} {
		if got := storage.NameOf(url); got != want {
			t.Errorf("%s: %q, want %q", url, got, want)
		}
	}
}

func TestWrongURLsSayWhatIsWrong(t *testing.T) {
	for url, want := range map[string]string{
		"":                                      "no scheme",
		"backups/etcd":                          "no scheme; write it as file:///DIRECTORY",
		"/var/backups/etcd/":                    "write it as file:///var/backups/etcd",
		"gs://backups":                          "file and s3 are known",
		"file://relative/dir":                   "three slashes",
		"file:relative":                         "three slashes",
		"file:///":                              "does not name a directory",
		"file:///dir?create_dir=1":              `parameter "create_dir" is not known for file; allowed: prefix`,
		"file:///dir?prefix=../up":              `parameter "prefix"`,
		"file:///dir#part":                      "fragment",
		"s3://":                                 "does not name a bucket",
		"s3://backups/etcd":                     "write it as s3://backups?prefix=etcd/",
		"s3://backups?regoin=x":                 `parameter "regoin" is not known for s3; allowed: accelerate, anonymous, `,
		"s3://backups?region=a&region=b":        `parameter "region" is given 2 times`,
		"s3://backups?use_path_style=yes":       `parameter "use_path_style" is "yes"; allowed: true, false`,
		"s3://backups?endpoint=localhost:9000":  `parameter "endpoint" is not a URL`,
		"s3://backups?endpoint=http://u:p@host": `parameter "endpoint" is more than a URL`,
		"s3://backups?ssetype=rot13":            `parameter "ssetype" is "rot13"; allowed: AES256`,
		"s3://backups?role=admin":               `parameter "role" is not an ARN`,
		"s3://backups?ca_cert=ca.pem":           `parameter "ca_cert" is "ca.pem", which is not the absolute path of a file`,
		"s3://backups?proxy=host:3128":          `parameter "proxy" is not a URL such as http://HOST:PORT`,
		"s3://backups?proxy=http://u:hunter2@h": `parameter "proxy" has a user or password in it`,
		"s3://backups?rate_limiter_capacity=-1": "allowed: 0 to 2147483647",
		"s3://backups?prefix=a//b":              `parameter "prefix"`,
		"s3://key:hunter2@backups":              "credentials come from the environment",
		"s3://backups?a=%zz":                    "query that cannot be read",
		"s3://back ups:hunter2":                 "cannot be read",
	} {
		_, err := storage.New(storage.Config{Name: "one", URL: url})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `backend "one"`) {
			t.Errorf("%s: got %v, want %s", url, err, want)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the secret is in the error: %v", url, err)
		}
	}
	if _, err := storage.New(storage.Config{URL: "s3://backups"}); err == nil {
		t.Error("a backend without a name")
	}
}

func FuzzURL(f *testing.F) {
	f.Add("s3://backups?prefix=a/&endpoint=http://host")
	f.Add("file:///dir?prefix=%2e%2e")
	f.Fuzz(func(t *testing.T, url string) {
		b, err := storage.New(storage.Config{Name: "one", URL: url})
		if err != nil {
			return
		}
		uri := b.Info().URI("default/x.db")
		if !strings.HasSuffix(uri, "/default/x.db") || strings.Contains(uri, "..") && !strings.Contains(url, "..") && !strings.Contains(url, "%") {
			t.Errorf("%q is at %q", url, uri)
		}
	})
}
