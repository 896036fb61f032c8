package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/internal/bytesize"
	"github.com/snapshotd/snapshotd/internal/schedule"
	"github.com/snapshotd/snapshotd/snapshot"
)

func (v validator) schedules(c *Cluster, at string) {
	seen := map[string]bool{}
	for i := range c.Schedules {
		s, at := &c.Schedules[i], fmt.Sprintf("%s[%d]", at, i)
		v.name(at+".name", s.Name)
		if s.Name != "" && seen[s.Name] {
			v.problem(at+".name", "%q is the name of another schedule of this cluster already", s.Name)
		}
		seen[s.Name] = true
		v.cron(s.Cron, s.TimeZone, at)
		v.atLeast(at+".jitter", s.Jitter, 0)
		v.scheduled(c, s, at)
	}
}

// scheduled checks the save of a schedule.
func (v validator) scheduled(c *Cluster, s *Schedule, at string) {
	if p := s.NamePrefix; p != "" && (len(p) > snapshot.MaxNamePrefix || !snapshot.ValidName(p)) {
		v.problem(at+".name_prefix",
			"%.120q is not a name prefix: up to %d letters, digits, '.', '_' and '-', a letter or digit first", p,
			snapshot.MaxNamePrefix)
	}
	if err := snapshot.ValidateLabels(s.Labels); err != nil {
		v.problem(at+".labels", "%s", strings.TrimPrefix(err.Error(), "labels: "))
	}
	known := map[string]bool{}
	for _, b := range c.Backends {
		known[b.Name] = true
	}
	for i, b := range s.Backends {
		if !known[b] {
			v.problem(fmt.Sprintf("%s.backends[%d]", at, i), "cluster %q has no backend %q; it has %s",
				c.Name, b, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
	}
}

func (v validator) scrub(s Scrub, at string) {
	if !v.given(at) {
		return
	}
	v.cron(s.Cron, s.TimeZone, at)
	v.atLeast(at+".jitter", s.Jitter, 0)
	if s.Share < 0 || s.Share > 100 {
		v.problem(at+".share", "%d is not a percentage; write a number from 0 to 100", s.Share)
	}
	if s.Share == 0 && !s.Drill {
		v.problem(at,
			"asks for nothing; set share, the percentage of snapshots whose checksums are verified, or drill, or remove it")
	}
}

// The journal's limits. Shorter intervals cost requests and wear of disks and save nothing; longer ones are what
// snapshots are for.
const (
	minFlush, maxFlush   = 10 * time.Millisecond, 10 * time.Second
	minUpload, maxUpload = time.Second, time.Hour
	minLocalBytes        = 16 << 20 // a revision may be as large as the largest request that etcd takes, and more
	minWindow            = time.Minute
)

func (v validator) journal(j Journal, at string) {
	if !j.Enabled {
		if j != (Journal{}) {
			v.problem(at+".enabled",
				"is not true, so the other settings of the journal would be ignored; set it, or remove them")
		}
		return
	}
	v.within(at+".flush_interval", j.FlushInterval, minFlush, maxFlush)
	v.within(at+".upload_interval", j.UploadInterval, minUpload, maxUpload)
	if j.UploadInterval < j.FlushInterval {
		v.problem(at+".upload_interval", "%v is shorter than flush_interval (%v): only what is on the disk is uploaded",
			j.UploadInterval, j.FlushInterval)
	}
	if j.Window != 0 || v.given(at+".window") {
		v.atLeast(at+".window", j.Window, minWindow)
	}
	if j.MaxLocalBytes < minLocalBytes {
		v.problem(at+".max_local_bytes", "%d is too little; %s is the least", j.MaxLocalBytes, bytesize.Format(minLocalBytes))
	}
}

func (v validator) within(path string, d, least, most time.Duration) {
	v.atLeast(path, d, least)
	if d > most {
		v.problem(path, "%v is too long; %v is the most", d, most)
	}
}

// cron checks a schedule's times and its time zone.
func (v validator) cron(text, zone, at string) {
	if _, err := schedule.ParseSpec("@hourly", zone); err != nil {
		v.problem(at+".time_zone", "%v", err)
		zone = ""
	}
	if _, err := schedule.ParseSpec(text, zone); err != nil {
		v.problem(at+".cron", "%v", err)
	}
}
