//go:build e2e

package e2e

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// restore restores a snapshot twice, with the public tools from the bucket and with snapshotd from either place, and
// compares the content of both etcds.
func (k *soak) restore(p promise) {
	defer k.during("restore " + p.Name)()
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

// calm does what operators do between two saves: now and then a promised snapshot is verified, deleted, pinned or
// unpinned, or retention is applied.
func (k *soak) calm() {
	what := k.chance.IntN(12)
	if what > 10 {
		k.prune()
		return
	}
	// A snapshot that was saved without the catalog may not be listed yet.
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(k.ready)), func(name string) bool { return !k.seen["local"][name] })
	if len(names) == 0 || what > 3 {
		return
	}
	name := names[k.chance.IntN(len(names))]
	// The service can read it, and sign it as it was signed.
	mine := k.config.encrypted || len(k.ready[name].EncryptionRecipients) == 0
	switch {
	case what == 0 && mine:
		if _, there := k.ask("a drill of "+name, name, "verify", name, "--level", "drill"); there {
			k.proven[name] = true
		}
	case what == 1 && !k.pinned[name]:
		k.remove(name)
	case what == 2 && mine:
		k.pin(name)
	default:
		k.ask("the checksums of "+name, name, "verify", name, "--level", "checksum")
	}
}

// ask runs a command about a snapshot until it succeeds, and returns its output. There is false when retention has
// removed the snapshot meanwhile.
func (k *soak) ask(what, name string, args ...string) (out string, there bool) {
	defer k.during(what)()
	there = true
	k.eventually("snapshotd "+args[0]+" succeeds between two rounds", func() bool {
		r := k.run(args...)
		if r.code == exitDamaged {
			k.errorf("snapshotd %v: %s", args, r.stderr)
		}
		if r.code == exitNotFound {
			k.list()
			_, there = k.ready[name]
		}
		out = r.stdout
		return r.code == 0 || r.code == exitDamaged || !there
	})
	return out, there
}

func (k *soak) remove(name string) {
	defer k.during("delete " + name)()
	k.eventually("snapshotd delete succeeds between two rounds", func() bool {
		r := k.run("delete", name)
		return r.code == 0 || r.code == exitNotFound // an attempt that failed otherwise has deleted it
	})
	k.removed++
	k.forget(name)
}

// holdDeleted checks that deleted and pruned copies are nowhere.
func (k *soak) holdDeleted(there map[string]snap) {
	keys := k.w.objects(k.t)
	for _, b := range backends {
		files := k.files(b, keys)
		for name, sn := range k.deleted {
			if s, ok := there[name]; ok || slices.Contains(files, sn.file()) {
				k.errorf("%s was deleted and is there again: %+v, on %s %v", name, s, b, slices.Contains(files, sn.file()))
			}
		}
	}
}
