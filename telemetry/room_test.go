package telemetry_test

import (
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/telemetry"
)

// The disk is asked at each scrape. One that does not answer has no series: zero would be a full disk.
func TestTheRoomOnDisksIsKnown(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	free := int64(-1)
	ask := func() int64 { return free }
	tel.AddDataDir(ask)
	tel.AddRooms("prod", map[string]func() int64{"local": ask})
	if text := scrape(t, tel, ""); strings.Contains(text, "_free_bytes") {
		t.Errorf("disks that do not answer have\n%s", only(text, "snapshotd_"))
	}
	for _, n := range []string{"7", "0"} {
		free = int64(n[0] - '0')
		has(t, tel, `snapshotd_data_dir_free_bytes `+n)
		has(t, tel, `snapshotd_backend_free_bytes{backend="local",cluster="prod"} `+n)
	}
	tel.AddRooms("prod", map[string]func() int64{"other": ask}) // after a reload
	if text := scrape(t, tel, ""); strings.Contains(text, `snapshotd_backend_free_bytes{backend="local"`) {
		t.Error("the backend is removed, and its room is still there")
	}
	tel.Forget("prod", "")
	if text := scrape(t, tel, ""); strings.Contains(text, "snapshotd_backend_free_bytes") {
		t.Error("the cluster is removed, and its room is still there")
	}
}

// Many clusters may have their directories on one network file system, which hangs.
func TestDisksAreAskedSideBySide(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	met := make(chan struct{})
	tel.AddRooms("prod", map[string]func() int64{
		"one": func() int64 { met <- struct{}{}; return 1 },
		"two": func() int64 { <-met; return 2 },
	})
	has(t, tel, `snapshotd_backend_free_bytes{backend="two",cluster="prod"} 2`)
}
