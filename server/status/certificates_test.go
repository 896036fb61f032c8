package status_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

func TestACertificateThatEndsSoonNeedsAttention(t *testing.T) {
	const day = 24 * time.Hour
	for name, tc := range map[string]struct {
		age, left time.Duration
		says      string
	}{
		"of a year, new":        {day, 364 * day, ""},
		"of a year, a month":    {335 * day, 30 * day, ""},
		"of a year, six days":   {359 * day, 6 * day, "/etc/client.crt, expires in 6d, at 2026-07-21 03:00 UTC. Renew it before"},
		"of a year, over":       {366 * day, -day, "/etc/client.crt, expired at 2026-07-14 03:00 UTC, and new connections to etcd fail"},
		"of an hour, a half":    {30 * time.Minute, 30 * time.Minute, ""},
		"of an hour, ten left":  {50 * time.Minute, 10 * time.Minute, "expires in 10m"},
		"of a day, never begun": {-time.Hour, 25 * time.Hour, ""},
	} {
		c := status.Judge(status.Known{
			Name: "prod", Places: []status.Place{{Name: "local", Free: -1}}, Records: []*snapshot.Record{saved("a", time.Minute, proven)},
			All: true, Now: now, Certificates: []status.Certificate{{File: "/etc/client.crt", Begin: now.Add(-tc.age), End: now.Add(tc.left)}},
		})
		switch {
		case tc.says == "" && c.Verdict == status.Safe:
		case tc.says != "" && c.Verdict == status.Attention && len(c.Findings) == 1 && strings.Contains(c.Findings[0].Text, tc.says):
		default:
			t.Errorf("%s: %s, %+v", name, c.Verdict, c.Findings)
		}
	}
}

// A file that systemd has copied does not follow its source: whoever is told that it is read again waits for nothing.
func TestACertificateThatSystemdHasCopiedNeedsARestart(t *testing.T) {
	for name, left := range map[string]time.Duration{"expires": 48 * time.Hour, "expired": -time.Hour} {
		for copied, says := range map[bool]string{
			true:  "renew its source, which LoadCredential= of the unit names, and restart the service",
			false: "is read again",
		} {
			c := status.Judge(status.Known{
				Name: "prod", Places: []status.Place{{Name: "local", Free: -1}}, All: true, Now: now,
				Records: []*snapshot.Record{saved("a", time.Minute, proven)},
				Certificates: []status.Certificate{{
					File: "/run/credentials/snapshotd.service/etcd-client.crt", Copied: copied,
					Begin: now.Add(-9000 * time.Hour), End: now.Add(left),
				}},
			})
			if len(c.Findings) != 1 || !strings.Contains(c.Findings[0].Text, says) ||
				copied == strings.Contains(c.Findings[0].Text, "read again") {
				t.Errorf("%s, copied %t: %+v", name, copied, c.Findings)
			}
		}
	}
}

// The catalog is often in the etcd whose certificate has expired.
func TestACertificateThatHasExpiredIsNamedWithoutTheCatalog(t *testing.T) {
	c := status.Judge(status.Known{
		Name: "prod", Places: []status.Place{{Name: "local", Free: -1}}, Now: now, Err: errors.New("the handshake failed"),
		Certificates: []status.Certificate{{File: "/etc/client.crt", Begin: now.Add(-48 * time.Hour), End: now.Add(-time.Hour)}},
	})
	if c.Verdict != status.Unknown || !slices.ContainsFunc(c.Findings, func(f status.Finding) bool {
		return strings.Contains(f.Text, "/etc/client.crt, expired at 2026-07-15 02:00 UTC")
	}) {
		t.Errorf("%s, %+v", c.Verdict, c.Findings)
	}
}
