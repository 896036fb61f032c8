package catalog_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/catalog/conformance"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	catalogv1 "github.com/snapshotd/snapshotd/proto/snapshotd/catalog/v1"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// Replicas of an older version know the time of a proof alone.
func TestProofsOfOlderVersionsAreRead(t *testing.T) {
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	first, second := time.Unix(1700000000, 0).UTC(), time.Unix(1700000600, 0).UTC()
	passed := func(level snapshotdv1.Verification_Level, at time.Time, hash uint32) *snapshotdv1.Verification {
		return &snapshotdv1.Verification{
			Level: level, State: snapshotdv1.Verification_STATE_PASSED, Time: timestamppb.New(at), HashKv: hash,
		}
	}
	checksum, drill := snapshotdv1.Verification_LEVEL_CHECKSUM, snapshotdv1.Verification_LEVEL_DRILL
	for name, tc := range map[string]struct {
		verification, proof *snapshotdv1.Verification
		proven              time.Time
		want                time.Time
		hash                uint32
		void                bool
	}{
		"none":                                   {},
		"a checksum":                             {verification: passed(checksum, first, 0)},
		"a passed drill":                         {verification: passed(drill, first, 3), want: first, hash: 3},
		"a passed drill and its time":            {verification: passed(drill, first, 3), proven: first, want: first, hash: 3},
		"a checksum after a drill":               {verification: passed(checksum, second, 0), proven: first, want: first},
		"a proof":                                {proof: passed(drill, first, 3), proven: first, want: first, hash: 3},
		"an older replica has drilled since":     {verification: passed(drill, second, 4), proof: passed(drill, first, 3), proven: second, want: second, hash: 4},
		"and has read it since then":             {verification: passed(checksum, second, 0), proof: passed(drill, first, 3), proven: second, want: second},
		"an older replica found it unrestorable": {proof: passed(drill, first, 3), void: true, hash: 3},
	} {
		if err := c.Create(t.Context(), conformance.Record("a", 0)); err != nil {
			t.Fatal(err)
		}
		put(t, client, recordKey("a"), edited(t, client, "a", func(m *catalogv1.Record) {
			m.Snapshot.Verification, m.Snapshot.Proof, m.ProvenTime = tc.verification, tc.proof, nil
			if !tc.proven.IsZero() {
				m.ProvenTime = timestamppb.New(tc.proven)
			}
		}))
		r, err := c.Get(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if !r.Proven().Equal(tc.want) || tc.void != (r.Proof != nil && r.Proof.Error != "") || r.Proof != nil && r.Proof.HashKV != tc.hash {
			t.Errorf("%s: proven %v by %+v", name, r.Proven(), r.Proof)
		}
		if err := c.Remove(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
}
