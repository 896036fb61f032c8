package database

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/etcd/server/v3/lease/leasepb"
	"google.golang.org/protobuf/proto"
)

// The buckets beside that of the keys. An etcd that starts, and etcdutl that restores, decode their entries and end the
// process at the first one that they cannot decode, so here it makes the database unreadable. The errors never hold
// keys or values.

// readers read an entry of a bucket by its name. Buckets that are not here are of a version that is not known.
var readers = map[string]func(r *Result, key, value []byte) error{
	metaBucket:        readMeta,
	leaseBucket:       readLease,
	"auth":            readAuth,
	"authUsers":       func(_ *Result, _, value []byte) error { return decode("a user", value, &authpb.User{}) },
	"authRoles":       func(_ *Result, _, value []byte) error { return decode("a role", value, &authpb.Role{}) },
	"cluster":         readCluster,
	"members":         readMember,
	"members_removed": func(_ *Result, key, _ []byte) error { return memberID(key) },
}

const (
	maxAlarms = 1000 // one for each member that ever was and each kind; any file may claim to be a database

	// maxVersion is how long a version may be: it becomes part of records.
	maxVersion = 100
)

// alarm reads a key of the bucket "alarm"; there are no values.
func (s *scan) alarm(key []byte) error {
	var a pb.AlarmMember
	if err := decode("an alarm", key, &a); err != nil {
		return unreadable("bucket %q: %v", alarmBucket, err)
	}
	switch {
	case a.GetAlarm() == pb.AlarmType_NONE:
		return unreadable("bucket %q: an alarm is of no kind", alarmBucket)
	case len(s.result.Alarms) == maxAlarms:
		return unreadable("bucket %q: there are more than %d alarms", alarmBucket, maxAlarms)
	}
	name, ok := pb.AlarmType_name[int32(a.GetAlarm())]
	if !ok { // of a later version
		name = fmt.Sprintf("ALARM_%d", uint32(a.GetAlarm()))
	}
	s.result.Alarms = append(s.result.Alarms, fmt.Sprintf("%s %016x", name, a.GetMemberID()))
	return nil
}

// readMeta reads the facts about the database as a whole.
func readMeta(r *Result, key, value []byte) error {
	switch name := string(key); name {
	case "consistent_index", "term":
		return eightBytes(name, value)
	case "finishedCompactRev", "scheduledCompactRev":
		rev, _, ok := parseRevision(value)
		if !ok {
			return fmt.Errorf("%s is no revision", name)
		}
		r.OldestRevision = max(r.OldestRevision, rev.main) // etcd goes on with a compaction when it starts
	case "confState":
		var members struct {
			Voters         []uint64 `json:"voters"`
			Learners       []uint64 `json:"learners"`
			VotersOutgoing []uint64 `json:"voters_outgoing"`
			LearnersNext   []uint64 `json:"learners_next"`
			AutoLeave      bool     `json:"auto_leave"`
		}
		return object(name, value, &members)
	case "storageVersion":
		storage := version.V3_6 // the first that is stored; Set replaces it
		if len(value) <= maxVersion && storage.Set(string(value)) == nil {
			r.StorageVersion = storage.String() // etcd takes a version that is none for none
		}
	}
	return nil
}

func readLease(_ *Result, key, value []byte) error {
	if err := eightBytes("the id of a lease", key); err != nil {
		return err
	}
	return decode("a lease", value, &leasepb.Lease{})
}

func readAuth(_ *Result, key, value []byte) error {
	if string(key) == "authRevision" {
		return eightBytes("authRevision", value)
	}
	return nil
}

func readCluster(_ *Result, key, value []byte) error {
	switch name := string(key); name {
	case "clusterVersion":
		return checkVersion(name, string(value))
	case "downgrade":
		var d struct {
			Target  string `json:"target-version"`
			Enabled bool   `json:"enabled"`
		}
		if err := object(name, value, &d); err != nil || !d.Enabled {
			return err
		}
		return checkVersion("the target of "+name, d.Target)
	}
	return nil
}

func readMember(_ *Result, key, value []byte) error {
	if err := memberID(key); err != nil {
		return err
	}
	var member struct {
		ID         uint64   `json:"id"`
		PeerURLs   []string `json:"peerURLs"`
		IsLearner  bool     `json:"isLearner"`
		Name       string   `json:"name"`
		ClientURLs []string `json:"clientURLs"`
	}
	return object("a member", value, &member)
}

// memberID returns an error unless a key is the id of a member.
func memberID(key []byte) error {
	if _, err := strconv.ParseUint(string(key), 16, 64); err != nil {
		return errors.New("the id of a member is no number")
	}
	return nil
}

func decode(what string, value []byte, into proto.Message) error {
	if err := proto.Unmarshal(value, into); err != nil {
		return fmt.Errorf("%s cannot be decoded", what)
	}
	return nil
}

func object(what string, value []byte, into any) error {
	if err := json.Unmarshal(value, into); err != nil {
		return fmt.Errorf("%s cannot be decoded", what)
	}
	return nil
}

func eightBytes(what string, b []byte) error {
	if len(b) != 8 {
		return fmt.Errorf("%s has %d bytes and not 8", what, len(b))
	}
	return nil
}

func checkVersion(what, text string) error {
	v := version.V3_6
	if len(text) > maxVersion || v.Set(text) != nil {
		return fmt.Errorf("%s is no version", what)
	}
	return nil
}
