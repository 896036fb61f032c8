package cluster_test

import (
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/snapshot/retention"
)

// Nothing is listed for a name that is wrong, and that is not to be taken for an empty backend.
func TestListRefusesABackendThatThereIsNot(t *testing.T) {
	f := newFixture(t)
	f.mustSave(t)
	fl := newFleet(t, true, retention.Rules{})
	without := f.replica(t, func(c *cluster.Config) { c.Backends = c.Backends[:1] }) // "two" is not configured any more
	for name, tc := range map[string]struct {
		of     *cluster.Cluster
		query  snapshot.Query
		listed int
		bad    bool
	}{
		"its own":                       {of: f.Cluster, query: snapshot.Query{Backend: "one"}, listed: 1},
		"its own without a match":       {of: f.Cluster, query: snapshot.Query{Backend: "one", Labels: map[string]string{"a": "b"}}},
		"misspelled":                    {of: f.Cluster, query: snapshot.Query{Backend: "One"}, bad: true},
		"misspelled, and filtered":      {of: f.Cluster, query: snapshot.Query{Backend: "One", Labels: map[string]string{"a": "b"}}, bad: true},
		"not configured any more":       {of: without, query: snapshot.Query{Backend: "two"}, listed: 1},
		"the same without a match":      {of: without, query: snapshot.Query{Backend: "two", Labels: map[string]string{"a": "b"}}},
		"of this node, as configured":   {of: fl.at["a"], query: snapshot.Query{Backend: "local"}},
		"of another node":               {of: fl.at["a"], query: snapshot.Query{Backend: "local@b"}},
		"shared, with a node's name":    {of: fl.at["a"], query: snapshot.Query{Backend: "one@b"}, bad: true},
		"misspelled, of another node":   {of: fl.at["a"], query: snapshot.Query{Backend: "locale@b"}, bad: true},
		"of another node, but not here": {of: f.Cluster, query: snapshot.Query{Backend: "local@b"}, bad: true},
	} {
		tc.query.PageSize = 10
		page, err := tc.of.List(t.Context(), tc.query)
		if bad := snapshot.ReasonOf(err) == snapshot.ReasonInvalidArgument; err != nil && !bad || bad != tc.bad || len(page.Records) != tc.listed {
			t.Errorf("%s: %d are listed, %v", name, len(page.Records), err)
		}
		if tc.bad && err != nil && !strings.Contains(err.Error(), "it has "+strings.Join(tc.of.BackendNames(), ", ")) {
			t.Errorf("%s: no way out in %q", name, err)
		}
	}
}
