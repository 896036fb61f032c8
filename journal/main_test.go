package journal_test

import (
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
)

func TestMain(m *testing.M) {
	embedded.SmallLog()
	testenv.RunWaiting(m)
}
