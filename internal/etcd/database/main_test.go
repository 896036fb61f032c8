package database_test

import (
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv/tempdir"
)

func TestMain(m *testing.M) { tempdir.Run(m) }
