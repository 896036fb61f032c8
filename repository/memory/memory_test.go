package memory_test

import (
	"testing"

	"github.com/snapshotd/snapshotd/repository/conformance"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
)

func TestConformance(t *testing.T) {
	conformance.Run(t, func(*testing.T) conformance.Subject {
		b := memory.New("one", snapshot.BackendS3)
		return conformance.Subject{
			Backend:   b,
			Leftovers: func(*testing.T) []string { return b.Leftovers() },
			Plant:     func(_ *testing.T, key string) { b.Plant(key) },
			Vanish:    func(*testing.T) { b.Vanish() },
		}
	})
}
