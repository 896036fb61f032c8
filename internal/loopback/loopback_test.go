package loopback_test

import (
	"testing"

	"github.com/snapshotd/snapshotd/internal/loopback"
)

func TestOnlyAddressesOfThisMachineAreLoopback(t *testing.T) {
	for addr, want := range map[string]bool{
		"localhost": true, "localhost:80": true, "LocalHost:80": true, "127.0.0.1": true, "127.1.2.3:80": true,
		"::1": true, "[::1]": true, "[::1]:80": true, "::ffff:127.0.0.1": true, "[::ffff:127.0.0.1]:80": true,
		"": false, ":80": false, "0.0.0.0:80": false, "[::]:80": false, "10.0.0.1:80": false, "localhost.example.org": false,
		"127.0.0.1.example.org:80": false, "example.org": false, "[::ffff:10.0.0.1]:80": false,
	} {
		if got := loopback.Is(addr); got != want {
			t.Errorf("Is(%q) = %v", addr, got)
		}
	}
}
