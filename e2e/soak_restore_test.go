//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// restore restores a snapshot twice, with the public tools from the bucket and with snapshotd from either place, and compares
// what etcd says of each.
func (k *soak) restore(p promise) {
	from := k.w.s3URL("")
	if k.chance.IntN(2) == 0 {
		from = "file://" + k.w.dir
	}
	for name, into := range map[string]func(*testing.T, promise, string){
		"by hand": k.restoreByHand,
		"snapshotd restore": func(t *testing.T, p promise, data string) {
			args := []string{"restore", p.Name, "--from", from, "--data-dir", data, "--identity", k.config.identity}
			if len(p.EncryptionRecipients) > 0 {
				args = append(args, "--signing-public-key-file", k.config.public)
			}
			cmd := exec.Command(program(t, ""), args...)
			cmd.Env = append(os.Environ(), k.s3.Env()...)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("snapshotd %v: %v\n%s", args, err, out)
			}
		},
	} {
		k.t.Run("restore "+name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "restored")
			into(t, p, data)
			restored := testenv.StartRestored(t, data)
			if got := liveHash(t, restored.Client(t), restored.Endpoints()[0], p.Revision); got != p.hashKV {
				t.Errorf("HashKV of %s restored at revision %d is %d, of the live one %d", p.Name, p.Revision, got, p.hashKV)
			}
		})
	}
	k.checked++
}

func (k *soak) restoreByHand(t *testing.T, p promise, data string) {
	stored := k.w.object(t, "default/"+p.file())
	if len(p.EncryptionRecipients) > 0 {
		cmd := exec.Command(testenv.Tool(t, "age", "filippo.io/age/cmd/age"), "-d", "-i", k.config.identity)
		cmd.Stdin = bytes.NewReader(stored)
		var err error
		if stored, err = cmd.Output(); err != nil {
			t.Fatalf("age -d %s: %v", p.Name, err)
		}
	}
	db := filepath.Join(t.TempDir(), "snapshot.db")
	decompress(t, stored, db)
	etcdutl := testenv.Tool(t, "servers", "go.etcd.io/etcd/etcdutl/v3")
	if out, err := exec.Command(etcdutl, "snapshot", "restore", db, "--data-dir", data).CombinedOutput(); err != nil {
		t.Fatalf("etcdutl snapshot restore %s: %v\n%s", p.Name, err, out)
	}
}

// calm does what people do between two saves: now and then something that was promised is verified, or deleted.
func (k *soak) calm() {
	names := slices.Sorted(maps.Keys(k.ready))
	what := k.chance.IntN(12)
	if len(names) == 0 || what > 2 {
		return
	}
	name := names[k.chance.IntN(len(names))]
	args := []string{"verify", name, "--level", "checksum"}
	switch {
	case what == 1 && (k.config.sealed || len(k.ready[name].EncryptionRecipients) == 0):
		args[3] = "drill"
	case what == 2:
		args = []string{"delete", name}
	}
	eventually(k.t, args[0]+" succeeds between two rounds", func() bool {
		r := k.serve.runContext(context.Background(), args...)
		if r.code == 4 {
			k.t.Errorf("snapshotd %v: %s", args, r.stderr)
		}
		return r.code == 0 || r.code == 4 || what == 2 && r.code == 6 // deleted by an attempt that failed otherwise
	})
	if what == 2 {
		k.deleted = append(k.deleted, k.ready[name])
		delete(k.ready, name)
	}
}

// holdDeleted sees to it that what was deleted is nowhere.
func (k *soak) holdDeleted(there map[string]snap) {
	for _, p := range k.deleted {
		_, err := os.Stat(filepath.Join(k.w.dir, "default", p.file()))
		if sn, ok := there[p.Name]; ok || err == nil {
			k.t.Errorf("%s was deleted and is there again: %+v, %v", p.Name, sn, err)
		}
	}
	if keys := k.w.objects(k.t); len(k.deleted) > 0 {
		for _, p := range k.deleted {
			if slices.Contains(keys, "etcd/default/"+p.file()) {
				k.t.Errorf("%s was deleted and is in the bucket again", p.Name)
			}
		}
	}
}
