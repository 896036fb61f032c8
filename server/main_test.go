package server_test

import (
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

func TestMain(m *testing.M) { testenv.RunWaiting(m) }
