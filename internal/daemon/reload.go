package daemon

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/disk"
)

// filesInterval is how often the files are looked at. Who loses a role in them must lose it without a signal.
const filesInterval = 2 * time.Second

// watchReloads reads the configuration again at each request, and when one of its files has changed, until ctx is done.
func (s *Service) watchReloads(ctx context.Context) {
	if s.conf.Load == nil || s.conf.Dev {
		return // there is no file
	}
	r := newReloader(s)
	tick := time.NewTicker(filesInterval)
	defer tick.Stop()
	for {
		select {
		case <-s.conf.Reload:
			r.ask(ctx)
		case <-tick.C:
			r.look(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// ask reads the configuration because somebody has asked for it. Whoever asks is told again what is wrong.
func (r *reloader) ask(ctx context.Context) {
	r.failed, r.failures = "", nil
	r.reload(ctx)
	r.telemetry.Reloaded(ctx, r.whole())
}

// look applies what has changed, or could not be applied yet. A configuration that was wrong is read each time: a file
// that is new and wrong is not among those that are looked at, and nor are the tokens.
func (r *reloader) look(ctx context.Context) {
	switch {
	case disk.Stamp(r.files...) != r.seen || r.failed != "":
		r.reload(ctx)
	case r.unapplied != nil:
		r.applyRules(ctx, r.unapplied)
	}
	if r.waiting != nil {
		r.applyClusters(ctx, r.waiting)
	}
	r.telemetry.Reloaded(ctx, r.whole())
}

// reloader applies changes of the configuration.
type reloader struct {
	*Service
	files     []string          // of the configuration that was read last
	seen      string            // their state before they were read
	failed    string            // why the configuration is wrong, as the log has it; empty when it is not
	unapplied *config.Config    // a configuration whose rules could not be applied yet; nil when there is none
	denied    string            // why, as the log has it
	waiting   []config.Cluster  // clusters of a configuration of which some could not be opened or changed yet
	told      bool              // the log has that some are being saved
	failures  map[string]string // by cluster that could not be opened: why, as the log has it
}

func newReloader(s *Service) *reloader {
	r := &reloader{Service: s, files: s.cfg.Files()}
	r.seen = disk.Stamp(r.files...)
	return r
}

// whole reports whether nothing of the configuration is wrong, or could not be applied. A change that waits for the end
// of a save is on its way.
func (r *reloader) whole() bool {
	return r.failed == "" && r.unapplied == nil && len(r.failures) == 0
}

// reload applies all of the configuration as it is now that can be applied while the service runs. A wrong
// configuration changes nothing, and the rest waits for the next start; both are logged.
func (r *reloader) reload(ctx context.Context) {
	// Before it is read: a change that comes meanwhile is seen by the next look.
	r.seen = disk.Stamp(r.files...)
	cfg, err := r.conf.Load()
	if err != nil {
		if text := err.Error(); text != r.failed {
			r.failed = text
			r.log.ErrorContext(ctx, "configuration has changed and is wrong; the earlier one stays in effect", "error", err)
		}
		return
	}
	r.failed, r.told = "", false
	if files := cfg.Files(); !slices.Equal(files, r.files) {
		r.files, r.seen = files, "" // the next look reads them again: one may have changed before it was looked at
	}
	if keys := r.cfg.AfterRestart(cfg); len(keys) > 0 {
		r.log.WarnContext(ctx, "the configuration differs in keys that take effect after a restart",
			"keys", strings.Join(keys, ", "))
	}
	// Each by itself: rules that cannot be applied yet keep no cluster waiting, nor the other way round.
	r.applySettings(ctx, cfg)
	r.applyRules(ctx, cfg)
	r.applyClusters(ctx, cfg.Clusters)
	cfg.ForgetOrigins() // its settings stay
}

// applySettings applies the settings of the service in which a configuration differs from the one in effect.
func (r *reloader) applySettings(ctx context.Context, cfg *config.Config) {
	keys := r.applied.Settings(cfg)
	if len(keys) == 0 {
		return
	}
	if err := r.settings.set(cfg); err != nil {
		r.log.ErrorContext(ctx, "settings not applied", "error", err) // they were validated
		return
	}
	r.applied = cfg
	r.setPlaces(ctx, cfg)
	r.server.Apply(r.serverSettings(ctx, cfg))
	r.boundMemory()
	r.log.InfoContext(ctx, "settings are in effect", "keys", strings.Join(keys, ", "))
}

// applyRules applies the rules of access of a configuration. Rules that are gone stay: a service must not open because
// half of a file was lost.
//
// Rules that cannot be applied, as long as the file of the tokens is wrong, are tried again.
func (r *reloader) applyRules(ctx context.Context, cfg *config.Config) {
	r.unapplied = nil
	switch {
	case reflect.DeepEqual(cfg.Access, r.rules):
		r.denied = "" // what fails later is told again
		return
	case cfg.Access == nil:
		r.log.WarnContext(ctx, "the rules of access are gone from the configuration; they stay in effect until a restart")
		return
	}
	if err := r.server.SetAccess(cfg.Access.Auth()); err != nil {
		r.unapplied = cfg
		if text := err.Error(); text != r.denied {
			r.denied = text
			r.log.ErrorContext(ctx, "rules of access not applied yet; the earlier ones stay in effect", "error", err)
		}
		return
	}
	r.rules, r.denied = cfg.Access, ""
	r.log.InfoContext(ctx, "rules of access are in effect", "rules", len(cfg.Access.Rules))
}

// applyClusters makes the clusters those of a configuration. A cluster that is the same is not touched. One that this
// replica is saving is changed or removed when the save has ended. One that cannot be opened, because the file of a key
// is not there yet for example, stays as it was and is tried again; so does one under its old name, while nothing can
// be opened that saves its etcd under a new one.
func (r *reloader) applyClusters(ctx context.Context, wanted []config.Cluster) {
	r.waiting = nil
	reasons := map[string]string{}
	var next, gone []*managed
	var unserved []unopened
	for i := range wanted {
		c := named(r.clusters, wanted[i].Name)
		switch {
		case c != nil && c.cfg.SameButLimits(wanted[i]):
			r.limit(ctx, c, &wanted[i])
			c.notInEffect.Store(nil)
			next = append(next, c)
			continue
		case c != nil && r.events.Moving(c.Name()) != nil:
			r.wait(ctx, c, wanted)
			c.notInEffect.Store(nil) // it waits, and nothing is tried
			next = append(next, c)
			continue
		}
		// The old one goes on until the new one is open: a wrong key or path must not end the saves.
		fresh, err := r.openCluster(ctx, wanted[i])
		if err == nil {
			next = append(next, fresh)
			continue
		}
		r.waiting, reasons[wanted[i].Name] = wanted, err.Error()
		r.tell(ctx, wanted[i].Name, c != nil, err)
		if c == nil {
			unserved = append(unserved, unopened{wanted[i], err, r.unopenedSince(wanted[i].Name)})
			continue
		}
		c.notInEffect.Store(&err)
		next = append(next, c)
	}
	r.failures = reasons
	for _, c := range r.clusters {
		same := func(w config.Cluster) bool { return w.Name == c.Name() }
		switch {
		case slices.Contains(next, c):
		case !slices.ContainsFunc(wanted, same) && r.events.Moving(c.Name()) != nil:
			r.wait(ctx, c, wanted)
			next = append(next, c)
		case r.renamed(c, wanted, next):
			next = append(next, c)
		default:
			gone = append(gone, c)
		}
	}
	if len(next) == 0 { // none can be opened yet, and those that there are go on
		next, gone = r.clusters, nil
	}
	r.replace(ctx, next, gone, unserved)
}

// renamed reports whether a cluster has gone from the configuration, and the only new one that saves its etcd cannot be
// opened yet: nothing else would save that etcd until then.
func (r *reloader) renamed(c *managed, wanted []config.Cluster, next []*managed) bool {
	same := func(e config.Etcd) bool {
		return reflect.DeepEqual(e.Endpoints, c.cfg.Etcd.Endpoints) && e.DiscoverySRV == c.cfg.Etcd.DiscoverySRV
	}
	failed := func(w config.Cluster) bool { return r.failures[w.Name] != "" && same(w.Etcd) }
	opened := func(n *managed) bool { return !slices.Contains(r.clusters, n) && same(n.cfg.Etcd) }
	return slices.ContainsFunc(wanted, failed) && !slices.ContainsFunc(next, opened)
}

// tell logs once that a cluster could not be opened, for each reason. It may have been there before, as it was.
func (r *reloader) tell(ctx context.Context, name string, before bool, err error) {
	switch {
	case r.failures[name] == err.Error():
	case before:
		r.log.ErrorContext(ctx, "cluster not changed yet; it stays as it was, and is tried again",
			"cluster", name, "error", err)
	default:
		r.log.ErrorContext(ctx, "cluster not added yet; it is tried again", "cluster", name, "error", err)
	}
}

func (r *reloader) wait(ctx context.Context, c *managed, wanted []config.Cluster) {
	if !r.told {
		r.log.InfoContext(ctx, "cluster is being saved; its change waits for the end of the save", "cluster", c.Name())
	}
	r.waiting, r.told = wanted, true
}

// limit applies the limits of a cluster, if they differ.
func (s *Service) limit(ctx context.Context, c *managed, cfg *config.Cluster) {
	if reflect.DeepEqual(c.cfg, *cfg) {
		return
	}
	c.cfg = *cfg
	c.rates.set(cfg)
	s.log.InfoContext(ctx, "limits are in effect", "cluster", c.Name(), "stream_limit", shown(cfg.StreamLimit),
		"upload_limit", shown(cfg.UploadLimit))
}

func shown(r config.Rate) string {
	if r == "" {
		return "none"
	}
	return string(r) + " per second"
}
