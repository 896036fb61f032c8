//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// zstd and etcdutl accept downloads from a directory and a bucket; an interrupted download goes on; damage leaves no
// file; grpcurl can call it.
func TestDownload(t *testing.T) {
	w := newWorld(t, 40<<20)
	s := start(t, w.options(), w.args(t, "")...)
	name := s.save()
	dir := t.TempDir()
	stored := w.object(t, "default/"+name+".db.zst")
	var sn snap
	for _, one := range s.list() {
		if one.Name == name {
			sn = one
		}
	}
	for _, backend := range []string{"local", "s3"} {
		file := filepath.Join(dir, backend+".db.zst")
		s.must("download", name, "--backend", backend, "--output", file)
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, stored) {
			t.Errorf("%s: %d bytes instead of %d, %v", backend, len(got), len(stored), err)
		}
		db := filepath.Join(dir, backend+".db")
		s.must("download", "latest", "--decoded", "--backend", backend, "--output", db)
		compareWithEtcdutl(t, db, sn)
	}
	if out := s.must("download", name); out != string(stored) {
		t.Errorf("on standard output: %d bytes instead of %d", len(out), len(stored))
	}

	resumes(t, s, name, filepath.Join(dir, "s3.db"))

	tool := testenv.Tool(t, "servers", "github.com/fullstorydev/grpcurl/cmd/grpcurl")
	r := command(t.Context(), t, tool, "-plaintext", "-d", `{"name":"`+name+`","offset":"10"}`, s.grpc,
		"snapshotd.v1.SnapshotService/Download")
	if r.code != 0 || !strings.Contains(r.stdout, `"fileName": "`+name+`.db.zst"`) ||
		!strings.Contains(r.stdout, `"data"`) {
		t.Errorf("grpcurl: exit code %d: %.500s%s", r.code, r.stdout, r.stderr)
	}

	path := filepath.Join(w.s3.Dir(), w.bucket, "etcd", "default", name+".db.zst")
	stored[len(stored)/2] ^= 1
	if err := os.WriteFile(path, stored, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, decoded := range []bool{false, true} {
		file := filepath.Join(dir, "damaged.db")
		args := []string{"download", name, "--backend", "s3", "--output", file}
		if decoded {
			args = append(args, "--decoded")
		}
		r := s.run(args...)
		if left, _ := filepath.Glob(file + "*"); r.code != 4 || len(left) > 0 {
			t.Errorf("of the damaged copy: exit code %d, left %q: %s", r.code, left, r.stderr)
		}
	}
	if r := s.run("download", "nothing"); r.code != 6 {
		t.Errorf("of none: exit code %d: %s", r.code, r.stderr)
	}
}

// resumes kills a download half-way and takes it up again.
func resumes(t *testing.T, s *service, name, want string) {
	t.Helper()
	proxy := testenv.StartProxy(t, s.grpc)
	proxy.SetRate(8 << 20)
	file := filepath.Join(t.TempDir(), "again.db")
	ctx, kill := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		command(ctx, t, s.path, "download", name, "--decoded", "--output", file, "--addr", proxy.Addr())
	}()
	eventually(t, "there is a part", func() bool {
		info, err := os.Stat(file + ".part")
		return err == nil && info.Size() > 1<<20
	})
	kill()
	<-ended
	if _, err := os.Stat(file); err == nil {
		t.Error("a file of what is not whole")
	}
	proxy.SetRate(0)
	_, before := proxy.Bytes()
	r := command(t.Context(), t, s.path, "download", name, "--decoded", "--output", file, "--addr", proxy.Addr())
	_, after := proxy.Bytes()
	got, err := os.ReadFile(file)
	whole, _ := os.ReadFile(want)
	if r.code != 0 || err != nil || !bytes.Equal(got, whole) {
		t.Errorf("exit code %d, %d bytes instead of %d, %v: %s", r.code, len(got), len(whole), err, r.stderr)
	}
	if after-before > int64(len(whole))-(1<<20) {
		t.Errorf("%d bytes came again", after-before)
	}
}
