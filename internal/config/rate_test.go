package config_test

import "testing"

func TestRates(t *testing.T) {
	for rate, want := range map[string]int64{"": 0, "50MiB": 50 << 20, "20MB": 20_000_000, "1 GiB": 1 << 30,
		"65536": 64 << 10} {
		cfg := mustLoad(t, given{yaml: one + "    stream_limit: \"" + rate + "\"\n"})
		if n, err := cfg.Clusters[0].StreamLimit.PerSecond(); n != want || err != nil {
			t.Errorf("%q: %d, %v; want %d", rate, n, err, want)
		}
	}
}
