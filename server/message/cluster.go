package message

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

var verdicts = map[status.Verdict]snapshotdv1.Cluster_Verdict{
	status.Safe:      snapshotdv1.Cluster_VERDICT_SAFE,
	status.Attention: snapshotdv1.Cluster_VERDICT_ATTENTION,
	status.NotSafe:   snapshotdv1.Cluster_VERDICT_NOT_SAFE,
	status.Unknown:   snapshotdv1.Cluster_VERDICT_UNKNOWN,
}

// Cluster returns the message of the verdict on a cluster, with its facts.
func Cluster(c status.Cluster) *snapshotdv1.Cluster {
	m := &snapshotdv1.Cluster{
		Name: c.Name, Verdict: verdicts[c.Verdict], NewestReady: shownToProto(c.Newest), LastSave: shownToProto(c.LastSave),
		Saving: shownToProto(c.Saving), Leader: c.Leader, Examined: int64(c.Examined), Complete: c.All,
		RecoveryWindow: Journal(c.Journal),
		Prefix:         c.Store.Prefix, CanDecrypt: c.Store.Decrypts, SignaturesRequired: c.Store.Signed,
	}
	if c.LastSave != nil {
		m.LastSaveState = snapshotdv1.Snapshot_State(c.LastSave.AsSaved().State())
	}
	for _, f := range c.Findings {
		m.Findings = append(m.Findings, &snapshotdv1.Cluster_Finding{
			Verdict: verdicts[f.Verdict], Text: wire.Text(f.Text), Command: f.Do,
		})
	}
	for _, b := range c.Backends {
		m.Backends = append(m.Backends, Backend(b))
		m.UploadsWaiting += int64(b.Waiting)
	}
	for _, s := range c.Schedules {
		sch := &snapshotdv1.Cluster_Schedule{
			Name: s.Name, Cron: s.Cron, TimeZone: s.TimeZone, NextTime: wire.Time(s.Next), LastTime: wire.Time(s.Ran),
			Overdue: s.Overdue,
		}
		if s.Last != nil {
			sch.LastSnapshot, sch.LastState = s.Last.Name, snapshotdv1.Snapshot_State(s.Last.AsSaved().State())
		}
		for _, m := range s.Missed {
			sch.Missed = append(sch.Missed, &snapshotdv1.Cluster_MissedRuns{
				StartTime: wire.Time(m.Start), EndTime: wire.Time(m.End), Runs: m.Runs,
			})
		}
		m.Schedules = append(m.Schedules, sch)
	}
	for _, r := range c.Removals {
		m.Retention = append(m.Retention, &snapshotdv1.Cluster_Retention{
			Backend: r.Backend, Rules: r.Rules, RemovesNow: r.Now.Snapshots, FreesNowBytes: r.Now.Bytes,
			RemovesNext: r.Next.Snapshots, FreesNextBytes: r.Next.Bytes, NextTime: wire.Time(r.Due), Names: r.Names,
		})
	}
	if c.Proven != nil {
		m.Proven, m.ProvenTime = shownToProto(c.Proven), wire.Time(c.Proven.Proven())
	}
	if c.Moving != nil {
		m.Progress = &snapshotdv1.Cluster_Progress{
			ReadBytes: c.Moving.Read, TotalBytes: c.Moving.Total, WrittenBytes: c.Moving.Written,
			Elapsed: durationpb.New(time.Since(c.Moving.Since)),
		}
	}
	return m
}

func shownToProto(rec *snapshot.Record) *snapshotdv1.Snapshot {
	if rec == nil {
		return nil
	}
	return wire.SnapshotToProto(&rec.Snapshot)
}
