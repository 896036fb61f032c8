package daemon

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/schedule"
	"github.com/snapshotd/snapshotd/snapshot"
)

// timetable is what a cluster runs by the clock.
type timetable struct {
	schedules   []schedule.Schedule
	scrubs      []schedule.Schedule // one or none
	localScrubs []schedule.Schedule // the same for the directories of this node, while another replica leads
}

// timetableOf returns the timetable of a cluster. scrub and local scrub it.
func timetableOf(cfg *config.Cluster, scrub, local scrubbing) (t timetable, err error) {
	if t.schedules, err = schedulesOf(cfg); err != nil {
		return timetable{}, err
	}
	if t.scrubs, err = scrubsOf(cfg, scrub); err != nil {
		return timetable{}, err
	}
	if t.localScrubs, err = scrubsOf(cfg, local); err != nil {
		return timetable{}, err
	}
	return t, nil
}

// scrubbing scrubs a cluster.
type scrubbing func(context.Context, cluster.Scrub) error

// scrubName is the name of the scrub among the schedules; the name of a schedule cannot begin with '@'.
const scrubName = "@scrub"

// scrubsOf returns the schedule of a cluster's scrub, if it has one.
func scrubsOf(cfg *config.Cluster, do scrubbing) ([]schedule.Schedule, error) {
	if cfg.Scrub.Cron == "" {
		return nil, nil
	}
	spec, err := schedule.ParseSpec(cfg.Scrub.Cron, cfg.Scrub.TimeZone)
	if err != nil {
		return nil, fmt.Errorf("scrub: %w", err)
	}
	scrub := cluster.Scrub{Share: cfg.Scrub.Share, Drill: cfg.Scrub.Drill}
	return []schedule.Schedule{{
		Name: scrubName, Spec: spec, Jitter: cfg.Scrub.Jitter,
		Do: func(ctx context.Context) error { return do(ctx, scrub) },
	}}, nil
}

// schedulesOf returns the schedules of a cluster's saves. A label of each snapshot names its schedule.
func schedulesOf(cfg *config.Cluster) ([]schedule.Schedule, error) {
	var all []schedule.Schedule
	for _, c := range cfg.Schedules {
		spec, err := schedule.ParseSpec(c.Cron, c.TimeZone)
		if err != nil {
			return nil, fmt.Errorf("schedule %q: %w", c.Name, err)
		}
		// A label of the configuration takes its place: somebody may name schedules in another way.
		labels := map[string]string{"schedule": c.Name}
		maps.Copy(labels, c.Labels)
		all = append(all, schedule.Schedule{Name: c.Name, Spec: spec, Jitter: c.Jitter, Save: cluster.SaveRequest{
			NamePrefix: cmp.Or(c.NamePrefix, config.ScheduledPrefix), Labels: labels, Backends: c.Backends,
		}})
	}
	return all, nil
}

// noteRetry and lastNoteRetry are the pauses after which it is tried again to note how a scrub has ended.
const noteRetry, lastNoteRetry = time.Second, time.Minute

// noted makes a scrub note in the catalog how it has ended. One that ends with the term is made again by the next
// leader.
func noted(note func(context.Context, snapshot.ScrubNote) error, log *slog.Logger, scrub scrubbing) scrubbing {
	return func(ctx context.Context, s cluster.Scrub) error {
		err := scrub(ctx, s)
		end := snapshot.ScrubNote{Time: time.Now()}
		if err != nil {
			end.Error = err.Error()
		}
		for failed := 1; ctx.Err() == nil; failed++ {
			unnoted := note(ctx, end)
			if unnoted == nil {
				break
			}
			pause := backoff.Delay(noteRetry, lastNoteRetry, failed)
			log.WarnContext(ctx, "it is not in the catalog yet how a scrub has ended", "retry_after", pause, "error", unnoted)
			_ = backoff.Wait(ctx, pause)
		}
		return err
	}
}
