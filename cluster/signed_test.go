package cluster_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// One key signs for several clusters. What is signed for another one is not restored as this one's, wherever it lies.
func TestSignedManifestOfAnotherClusterIsNotBelieved(t *testing.T) {
	signer, trust := newSigner(t)
	other := newFixture(t, func(c *cluster.Config) { c.Name, c.Prefix, c.Signer, c.Trust = "other", "other/", signer, trust })
	s := other.mustSave(t)
	dir := other.dirs["one"]
	if err := os.Rename(filepath.Join(dir, "other"), filepath.Join(dir, "default")); err != nil {
		t.Fatal(err)
	}
	for cluster, want := range map[string]snapshot.Reason{"default": snapshot.ReasonManifestUntrusted, "other": "", "": ""} {
		repo := repository.New(repository.Config{Backend: other.backends["one"], Prefix: "default/", Trust: trust, Cluster: cluster})
		entries, err := repo.Entries(t.Context())
		if err != nil || len(entries) != 1 {
			t.Fatalf("%d entries, %v", len(entries), err)
		}
		rec, err := repo.Record(t.Context(), entries[0])
		switch {
		case want == "" && (err != nil || rec.Name != s.Name):
			t.Errorf("for %q: %v", cluster, err)
		case want != "" && (snapshot.ReasonOf(err) != want || !strings.Contains(err.Error(), `is of cluster "other", and not of "default"`)):
			t.Errorf("for %q: %v", cluster, err)
		}
	}
}
