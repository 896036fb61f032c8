package daemon

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
)

func TestMain(m *testing.M) {
	for _, e := range testenv.S3Env() {
		name, value, _ := strings.Cut(e, "=")
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	embedded.SmallLog()
	testenv.RunWaiting(m)
}

// oneCluster returns a configuration as it is after it was loaded.
func oneCluster(etcd config.Etcd, backends ...config.Backend) *config.Config {
	return &config.Config{Clusters: []config.Cluster{{
		Name: "default", Etcd: etcd, Catalog: config.Catalog{Prefix: config.DefaultCatalogPrefix},
		Prefix: new("default/"), LockTTL: config.DefaultLockTTL, Backends: backends,
	}}}
}

func backendAt(name, url string) config.Backend {
	return config.Backend{Name: name, URL: config.URL(url)}
}

// failures returns the failed checks, as "part: action".
func failures(all []Checked) (failed []string, text string) {
	for _, c := range all {
		if c.Err != nil {
			failed = append(failed, c.Part+": "+c.Action)
			text += c.Err.Error() + "\n"
		}
	}
	return failed, text
}

// treeOf returns all files below a directory.
func treeOf(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		files = append(files, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// objectsIn returns the objects in a bucket, and the unfinished uploads.
func objectsIn(t *testing.T, server *testenv.S3, bucket string) (keys []string) {
	t.Helper()
	client := server.Client()
	objects, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(bucket)})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects.Contents {
		keys = append(keys, aws.ToString(o.Key)+" "+aws.ToString(o.ETag))
	}
	uploads, err := client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String(bucket)})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range uploads.Uploads {
		keys = append(keys, "upload of "+aws.ToString(u.Key))
	}
	return keys
}

func TestCheckLeavesEverythingAsItWas(t *testing.T) {
	t.Parallel()
	etcd, server, dir := embedded.StartEtcd(t), testenv.StartS3(t), t.TempDir()
	server.MakeBucket("empty")
	server.MakeBucket("used")
	const object = "default/etcd-snapshot-n-1700000000.db"
	_, err := server.Client().PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: aws.String("used"), Key: aws.String(object), Body: strings.NewReader("x"),
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := oneCluster(config.Etcd{Endpoints: etcd.Endpoints()}, backendAt("local", "file://"+dir),
		backendAt("empty", server.URL("empty", "")), backendAt("used", server.URL("used", "")))
	before := objectsIn(t, server, "used")
	all := Check(t.Context(), cfg)
	if failed, text := failures(all); len(failed) > 0 {
		t.Errorf("failed: %q\n%s", failed, text)
	}
	asked := map[string]int{}
	for _, c := range all {
		asked[c.Part]++
	}
	for part, n := range map[string]int{"etcd": 2, "catalog": 2, `backend "local"`: 12, `backend "empty"`: 12, `backend "used"`: 12} {
		if asked[part] < n {
			t.Errorf("%s was asked for %d things", part, asked[part])
		}
	}
	if left := treeOf(t, dir); len(left) != 1 {
		t.Errorf("left in the directory: %q", left)
	}
	if left := objectsIn(t, server, "empty"); len(left) > 0 {
		t.Errorf("left in the bucket: %q", left)
	}
	if after := objectsIn(t, server, "used"); !slices.Equal(after, before) {
		t.Errorf("the bucket has %q, and had %q", after, before)
	}
	got, err := etcd.Client(t).Get(t.Context(), "/snapshotd/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil || got.Count > 0 {
		t.Errorf("left in etcd: %v, %v", got, err)
	}
}

func TestCheckNamesAllThatFailsAtOnce(t *testing.T) {
	t.Parallel()
	dead := config.Etcd{Endpoints: []string{"http://127.0.0.1:1"}}
	sealed := filepath.Join(t.TempDir(), "missing")
	cfg := oneCluster(dead, backendAt("local", "file://"+sealed),
		backendAt("s3", "s3://b?endpoint=http://127.0.0.1:1&use_path_style=true"))
	cfg.Clusters[0].Signing.KeyFile = sealed
	other := oneCluster(config.Etcd{Endpoints: []string{"http://127.0.0.1:1"}, User: "u", PasswordFile: sealed}).Clusters[0]
	other.Name = "other"
	cfg.Clusters = append(cfg.Clusters, other)
	failed, text := failures(Check(t.Context(), cfg))
	for _, want := range []string{
		"keys: read the keys of signatures", "etcd: status of http://127.0.0.1:1", "catalog: read the catalog",
		`backend "local": list`, `backend "s3": list`, "etcd: open",
	} {
		if !slices.Contains(failed, want) && !slices.Contains(failed, strings.Replace(want, "list", "recognize the store", 1)) {
			t.Errorf("%q is not among %q", want, failed)
		}
	}
	if strings.Contains(text, "password of") {
		t.Error(text)
	}
}

// What a user of etcd may not do is told, be it the snapshot or the catalog.
func TestCheckFindsMissingPermissionsOfEtcd(t *testing.T) {
	t.Parallel()
	etcd := embedded.StartEtcd(t)
	root := etcd.Client(t)
	ctx := t.Context()
	prefix := config.DefaultCatalogPrefix
	for _, step := range []func() error{
		func() error { _, err := root.UserAdd(ctx, "root", "pw"); return err },
		func() error { _, err := root.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := root.UserAdd(ctx, "catalog", "pw"); return err },
		func() error { _, err := root.UserAdd(ctx, "reader", "pw"); return err },
		func() error { _, err := root.RoleAdd(ctx, "catalog"); return err },
		func() error { _, err := root.RoleAdd(ctx, "reader"); return err },
		func() error {
			_, err := root.RoleGrantPermission(ctx, "catalog", prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error {
			_, err := root.RoleGrantPermission(ctx, "reader", prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermRead))
			return err
		},
		func() error { _, err := root.UserGrantRole(ctx, "catalog", "catalog"); return err },
		func() error { _, err := root.UserGrantRole(ctx, "reader", "reader"); return err },
		func() error { _, err := root.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		user, password string
		failed         []string
		text           string
	}{
		{"root", "pw", nil, ""},
		{"catalog", "pw", []string{"etcd: read a snapshot"}, "only a user with the role root may read snapshots"},
		{"reader", "pw", []string{"etcd: read a snapshot", "catalog: write to the catalog"}, "etcdctl role grant-permission"},
		{"root", "wrong", []string{"etcd: status of " + etcd.Endpoints()[0], "catalog: read the catalog"}, `user "root" or its password is wrong`},
	} {
		cfg := oneCluster(config.Etcd{Endpoints: etcd.Endpoints(), User: test.user, Password: config.Secret(test.password)})
		failed, text := failures(Check(t.Context(), cfg))
		if !slices.Equal(failed, test.failed) || !strings.Contains(text, test.text) {
			t.Errorf("%s: failed: %q\n%s", test.user, failed, text)
		}
	}
}

// Each feature that an odd server lacks is found, with the parameter that helps, and with it nothing fails.
func TestCheckFindsWhatAStoreLacks(t *testing.T) {
	t.Parallel()
	etcd, server := embedded.StartEtcd(t), testenv.StartS3(t)
	denies := func(operation string) testenv.HTTPFault {
		return testenv.On(operation, testenv.Refuses(http.StatusForbidden, "AccessDenied"))
	}
	for n, test := range []struct {
		name   string
		fault  testenv.HTTPFault
		failed []string
		text   string
		param  string
	}{
		{"no conditional writes", testenv.RefusesConditions, []string{"write an object only where none is"}, "conditional_writes=false", "&conditional_writes=false"},
		{"one part", testenv.MostParts(1), []string{"write a large object"}, "max_parts=1000", "&max_parts=1"},
		{"ranges are ignored", testenv.IgnoresRange, nil, "", ""},
		{"uploads are not listed", testenv.On("ListMultipartUploads", testenv.Refuses(405, "MethodNotAllowed")), nil, "", ""},
		{"no listing", denies("ListObjectsV2"), []string{"list"}, "s3:ListBucket", ""},
		{"no reading", denies("GetObject"), []string{"recognize the store"}, "s3:GetObject", ""},
		{"no deleting", denies("DeleteObject"), []string{"delete it"}, "DeleteObject", ""},
		{"no listing of uploads", denies("ListMultipartUploads"), []string{"find and remove the parts of unfinished writes"}, "s3:ListBucketMultipartUploads", ""},
		{"no aborting", denies("AbortMultipartUpload"), []string{"find and remove the parts of unfinished writes"}, "AbortMultipartUpload", ""},
		{"a login page", testenv.LoginPage, []string{"recognize the store", "list", "write an object"}, "a page of HTML", ""},
		{"listings without a token", testenv.TruncatedWithoutToken, []string{"list"}, "not how to get them", ""},
		{"a large object is lost", testenv.On("CompleteMultipartUpload", testenv.Says(200, "", "")), []string{"write a large object"}, "200 with an empty body", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			bucket := fmt.Sprintf("check-%d", n)
			server.MakeBucket(bucket)
			proxy := testenv.StartHTTPProxy(t, server.Addr(), nil)
			proxy.Set(test.fault)
			check := func(params string) ([]string, string) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				return failures(Check(ctx, oneCluster(config.Etcd{Endpoints: etcd.Endpoints()},
					backendAt("s3", server.URLAt(proxy.Addr(), bucket, "")+params))))
			}
			failed, text := check("")
			for _, f := range test.failed {
				if !slices.Contains(failed, `backend "s3": `+f) {
					t.Errorf("%s is not among what failed", f)
				}
			}
			if len(test.failed) == 0 && len(failed) > 0 || len(failed) > len(test.failed)+1 || !strings.Contains(text, test.text) {
				t.Errorf("failed: %q\n%s", failed, text)
			}
			if test.param != "" {
				if failed, text = check(test.param); len(failed) > 0 {
					t.Errorf("with %s: failed: %q\n%s", test.param, failed, text)
				}
			}
			proxy.Set(nil)
			if test.name != "no deleting" && test.name != "no aborting" {
				if left := objectsIn(t, server, bucket); len(left) > 0 {
					t.Errorf("left behind: %q", left)
				}
			}
		})
	}
}
