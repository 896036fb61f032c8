package status

import "slices"

// Judge returns the verdict on a cluster, with the facts that it is based on.
func Judge(k Known) Cluster {
	v := &verdict{known: &k, records: k.Records, now: k.Now, c: Cluster{
		Name: k.Name, Verdict: Safe, Findings: []Finding{}, Examined: len(k.Records), All: k.All, Moving: k.Moving,
		Journal: k.Journal, Store: k.Store,
	}}
	if k.Leader != nil {
		v.c.Leader = *k.Leader
	}
	v.tally = k.tally()
	v.c.Removals = v.tally.Removals
	for _, p := range k.Places {
		v.c.Backends = append(v.c.Backends, v.backend(p))
	}
	if k.Err != nil {
		v.unreadable()
		return v.c
	}
	v.configuration()
	v.facts()
	v.restorable()
	v.unread()
	v.missing()
	v.failedVerification()
	v.alarms()
	v.lastSave()
	v.backends()
	v.unreconciled()
	v.schedules()
	v.unscheduled()
	v.leader()
	v.scrub()
	v.certificates()
	v.journal()
	v.breaks()
	v.journalProof()
	v.journalDrill()
	v.proof()
	rank := []Verdict{NotSafe, Attention, Safe}
	slices.SortStableFunc(v.c.Findings, func(a, b Finding) int {
		return slices.Index(rank, a.Verdict) - slices.Index(rank, b.Verdict)
	})
	if len(v.c.Findings) > 0 {
		v.c.Verdict = v.c.Findings[0].Verdict
	}
	return v.c
}

// unreadable finds that the catalog cannot be read, or was not asked. The configuration still says where the snapshots
// are.
func (v *verdict) unreadable() {
	v.c.Verdict = Unknown
	for _, s := range v.known.Schedules {
		st := ScheduleState{Name: s.Name, Cron: s.Cron, TimeZone: s.TimeZone, Next: s.Next(v.now)}
		v.c.Schedules = append(v.c.Schedules, st)
	}
	const list = "this command lists the snapshots on a backend."
	switch {
	case v.known.NotOpen != nil:
		v.find(Unknown, v.known.listing(), "The service could not open the cluster, so this replica saves nothing of it, "+
			"and nothing is known here: %s. It has been tried every two seconds since %s; "+list,
			stopless(v.known.NotOpen.Error()), minute(v.known.NotOpenSince))
	case v.known.NotAsked:
		v.find(Unknown, []string{"status"}, "The catalog was not asked, so nothing is known here: %v. This command asks it.",
			v.known.Err)
	default:
		v.find(Unknown, v.known.listing(), "The catalog cannot be read, so nothing is known here: %v. "+
			"Saves and restores work without it, and "+list, v.known.Err)
	}
	if !v.known.NotAsked {
		v.find(Unknown, v.known.restoring(), "This command says how the newest snapshot would be restored, to the directory "+
			"DIR; without --dry-run it is. Directories are those of the service's machine: on another one, leave them out.")
	}
	v.configuration()
	v.certificates() // one that has expired may be the reason
}

// configuration finds that a change of the cluster's configuration is not in effect.
func (v *verdict) configuration() {
	if why := v.known.NotInEffect; why != nil {
		v.find(Attention, nil, "The configuration of the cluster has changed, and the earlier one stays in effect: %s. "+
			"The new one is tried again every two seconds.", stopless(why.Error()))
	}
}
