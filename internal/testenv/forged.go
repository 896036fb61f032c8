package testenv

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// Forgery is an entry that no etcd makes, in a database whose pages and checksum are right. An etcd that starts on one,
// or etcdutl, ends the process at most of them.
type Forgery struct {
	Name   string
	Bucket string
	Key    []byte
	Value  []byte
	Says   string // part of the error
}

// Forgeries returns one forgery of each kind.
func Forgeries() []Forgery {
	garbage, long := []byte{0xff, 0xff, 0xff}, bytes.Repeat([]byte{'x'}, 40)
	revision := func(main uint64) []byte {
		return append(binary.BigEndian.AppendUint64(nil, main), "_\x00\x00\x00\x00\x00\x00\x00\x00"...)
	}
	return []Forgery{
		{"lease that cannot be decoded", "lease", make([]byte, 8), garbage, `"lease": a lease cannot be decoded`},
		{"lease with a short id", "lease", []byte("id"), nil, `"lease": the id of a lease has 2 bytes`},
		{"user", "authUsers", []byte("root"), garbage, `"authUsers": a user cannot be decoded`},
		{
			"user with a role that is no text", "authUsers", []byte("root"), []byte{0x1a, 1, 0xff},
			`"authUsers": a user cannot be decoded`,
		},
		{"role", "authRoles", []byte("root"), garbage, `"authRoles": a role cannot be decoded`},
		{"revision of the users", "auth", []byte("authRevision"), []byte("1"), `"auth": authRevision has 1 bytes`},
		{"alarm", "alarm", garbage, nil, `"alarm": an alarm cannot be decoded`},
		{"alarm of no kind", "alarm", []byte{0x08, 1}, nil, `"alarm": an alarm is of no kind`},
		{"member", "members", []byte("8e9e05c52164694d"), []byte("{"), `"members": a member cannot be decoded`},
		{"member whose id is none", "members", []byte("me"), []byte("{}"), `"members": the id of a member is no number`},
		{"removed member", "members_removed", long, []byte("removed"), `"members_removed": the id of a member is no number`},
		{"index", "meta", []byte("consistent_index"), []byte("1"), `"meta": consistent_index has 1 bytes`},
		{"term", "meta", []byte("term"), nil, `"meta": term has 0 bytes`},
		{"voters", "meta", []byte("confState"), []byte("[]"), `"meta": confState cannot be decoded`},
		{"compaction", "meta", []byte("finishedCompactRev"), []byte("1"), `"meta": finishedCompactRev is no revision`},
		{"compaction at the end of all revisions", "meta", []byte("scheduledCompactRev"), revision(1<<63 - 1),
			`"meta": scheduledCompactRev is no revision`},
		{"version", "cluster", []byte("clusterVersion"), []byte("three"), `"cluster": clusterVersion is no version`},
		{"downgrade", "cluster", []byte("downgrade"), []byte("3.6"), `"cluster": downgrade cannot be decoded`},
		{"downgrade to nothing", "cluster", []byte("downgrade"), []byte(`{"enabled":true}`),
			`"cluster": the target of downgrade is no version`},
		{"key without a revision", "key", []byte("key"), nil, "malformed revision"},
		{"key at the end of all revisions", "key", revision(1<<63 - 1), nil, "malformed revision"},
		{"key that cannot be decoded", "key", revision(1 << 50), garbage, "is malformed"},
		{"key that is a number", "key", revision(1 << 50), []byte{0x08, 1}, "is malformed"},
	}
}

// Forge returns a snapshot as etcd sends it with an entry put into its database, and the right checksum.
func Forge(tb testing.TB, data []byte, bucket string, key, value []byte) []byte {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "forged.db")
	err := os.WriteFile(path, data[:len(data)-sha256.Size], 0o600)
	var db *bolt.DB
	if err == nil {
		db, err = bolt.Open(path, 0o600, &bolt.Options{NoSync: true})
	}
	if err == nil {
		err = db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(bucket))
			if err != nil {
				return err
			}
			return b.Put(key, value)
		})
	}
	var out bytes.Buffer
	if err == nil {
		err = db.View(func(tx *bolt.Tx) error {
			_, err := tx.WriteTo(&out)
			return err
		})
	}
	if err != nil {
		tb.Fatalf("forge a database: %v", err)
	}
	if err := db.Close(); err != nil {
		tb.Fatalf("forge a database: %v", err)
	}
	sum := sha256.Sum256(out.Bytes())
	return append(out.Bytes(), sum[:]...)
}

// Alarmed returns a snapshot as etcd sends it with an alarm in its database, such as "NOSPACE 8e9e05c52164694d".
func Alarmed(tb testing.TB, data []byte, alarm string) []byte {
	tb.Helper()
	kind, id, _ := strings.Cut(alarm, " ")
	member := pb.AlarmMember{Alarm: pb.AlarmType(pb.AlarmType_value[kind])}
	if _, err := fmt.Sscanf(id, "%x", &member.MemberID); err != nil {
		tb.Fatal(err)
	}
	key, err := proto.Marshal(&member)
	if err != nil {
		tb.Fatal(err)
	}
	return Forge(tb, data, "alarm", key, nil)
}
