//go:build e2e

package e2e

import (
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestKubernetesTakesTheManifests has them checked by the API server's own code, and by the Pod Security Standard.
func TestKubernetesTakesTheManifests(t *testing.T) {
	check := testenv.Tool(t, "kubernetes", "github.com/snapshotd/snapshotd/tools/kubernetes")
	dir := filepath.Join(testenv.Root(), "deploy", "kubernetes")
	for path, want := range map[string][]string{
		dir: {"Namespace", "ServiceAccount", "Service", "StatefulSet", "PodDisruptionBudget", "NetworkPolicy", "ConfigMap"},
		filepath.Join(dir, "secrets.example.yaml"): {"Secret", "Secret"},
	} {
		out, err := exec.CommandContext(t.Context(), check, path).Output()
		if err != nil {
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				err = errors.New(string(exit.Stderr))
			}
			t.Fatalf("%s: %v", path, err)
		}
		var objects []struct{ Kind string }
		decode(t, string(out), &objects)
		var kinds []string
		for _, o := range objects {
			kinds = append(kinds, o.Kind)
		}
		if !slices.Equal(kinds, want) {
			t.Errorf("%s has %q, want %q", path, kinds, want)
		}
	}
}
