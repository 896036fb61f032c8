package loopback_test

import (
	"testing"

	"github.com/snapshotd/snapshotd/internal/loopback"
)

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]bool{
		"localhost": true, "LOCALHOST:80": true, "127.0.0.1": true, "127.9.9.9:7379": true, "::1": true, "[::1]": true,
		"unix:///run/x.sock": true, "[::1]:7379": true, "::ffff:127.0.0.1": true,
		"": false, ":7379": false, "0.0.0.0": false, "[::]:7379": false, "10.0.0.1:7379": false, "localhost.example": false,
		"128.0.0.1": false, "::ffff:10.0.0.1": false,
	} {
		if got := loopback.Is(addr); got != want {
			t.Errorf("%q: %t, want %t", addr, got, want)
		}
	}
}
