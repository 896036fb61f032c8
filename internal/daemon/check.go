package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/etcd"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/trial"
	"github.com/snapshotd/snapshotd/server/audit"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Checked is something that the service will need, and whether it is there.
type Checked struct {
	Cluster string // empty for what belongs to all
	Part    string // keys, etcd, catalog, a backend, or the audit records
	Action  string
	Err     error
}

// Check asks every etcd and every backend for what the service will need of it: side by side, and all that is wrong at
// once. It starts no service. It leaves nothing behind but a record of itself among those of audit_url, and touches
// nothing but a key and a few objects of its own.
func Check(ctx context.Context, cfg *config.Config) []Checked {
	// A service that was not opened: it has no data directory, which a running one may hold.
	s := &Service{cfg: cfg, log: slog.New(slog.DiscardHandler), stopLoops: func() {}}
	defer s.close(ctx)
	var all []*partCheck
	for i := range cfg.Clusters {
		all = append(all, s.checksOf(&cfg.Clusters[i])...)
	}
	if cfg.AuditURL != "" {
		all = append(all, s.checkAudit())
	}
	var wg sync.WaitGroup
	for _, c := range all {
		wg.Go(func() { c.ask(ctx, c.note) })
	}
	wg.Wait()
	var found []Checked
	for _, c := range all {
		found = append(found, c.found...)
	}
	return found
}

// partCheck asks one part of a cluster.
type partCheck struct {
	cluster, part string
	ask           func(ctx context.Context, report func(action string, err error))
	found         []Checked
	seen          map[string]bool // causes that were reported
}

// note adds what was found. A cause that fails several actions is reported with the first of them.
func (c *partCheck) note(action string, err error) {
	if err != nil {
		if c.seen[causeOf(err)] {
			return
		}
		c.seen[causeOf(err)] = true
	}
	c.found = append(c.found, Checked{c.cluster, c.part, action, err})
}

// causeOf returns an error without what was tried and on what.
func causeOf(err error) string {
	e, ok := err.(*snapshot.Error) //nolint:errorlint // the outermost has what was tried
	if !ok || e.Err == nil {
		return err.Error()
	}
	return e.Err.Error() + e.Hint
}

// checksOf returns the checks of a cluster. A part that cannot be built is a check that fails.
func (s *Service) checksOf(cfg *config.Cluster) []*partCheck {
	var all []*partCheck
	add := func(part string, err error, ask func(context.Context, func(string, error))) {
		if err != nil {
			ask = func(_ context.Context, report func(string, error)) { report("open", err) }
		}
		all = append(all, &partCheck{cluster: cfg.Name, part: part, ask: ask, seen: map[string]bool{}})
	}
	add("keys", nil, func(_ context.Context, report func(string, error)) { checkKeys(cfg, report) })
	saved, err := openEtcd(cfg.Etcd, &s.closers)
	add("etcd", err, func(ctx context.Context, report func(string, error)) {
		etcd.NewSource(saved, etcd.SourceConfig{}).Check(ctx, report)
	})
	home := saved
	if cfg.Catalog.Separate() {
		home, err = openEtcd(cfg.Catalog.Etcd, &s.closers)
	}
	var records *catalog.Catalog
	if err == nil {
		records = openCatalog(cfg, home, s.log, &s.closers)
		add("catalog", nil, records.Check)
	} else if cfg.Catalog.Separate() {
		add("catalog", err, nil)
	}
	for _, b := range cfg.Backends {
		backend, err := s.openBackend(b, nil, &s.closers)
		add(fmt.Sprintf("backend %q", b.Name), err, func(ctx context.Context, report func(string, error)) {
			checkStore(ctx, cfg, backend, records, report)
			trial.Run(ctx, backend, *cfg.Prefix, report)
		})
	}
	return all
}

// checkAudit stores a record that says so. It stays: there is no way to remove one.
func (s *Service) checkAudit() *partCheck {
	c := &partCheck{part: "audit records", seen: map[string]bool{}}
	store, err := s.openAudit()
	c.ask = func(ctx context.Context, report func(string, error)) {
		if err != nil {
			report("open", err)
			return
		}
		o := audit.NewObjects(audit.ObjectsConfig{Store: store, Node: s.cfg.NodeName})
		o.Start(ctx)
		report("store a record", o.Store(ctx, &audit.Record{
			Time: time.Now().UTC(), Operation: "Check", Kind: "local", Role: "none", Code: "OK", Via: "config check",
		}))
		over, cancel := context.WithCancel(ctx)
		cancel() // what could not be stored is not tried again
		_ = o.Close(over)
	}
	return c
}

// checkKeys reads the files of keys as the service does when it starts.
func checkKeys(cfg *config.Cluster, report func(string, error)) {
	if cfg.Encryption.Enabled() {
		_, err := recipientsOf(cfg.Encryption)
		report("read the recipients of encryption", err)
	}
	if files := cfg.Encryption.IdentityFiles; len(files) > 0 {
		_, err := age.ReadIdentities(files...)
		report("read the identities", err)
	}
	if cfg.Signing.KeyFile != "" {
		_, _, err := signingOf(cfg.Signing)
		report("read the keys of signatures", err)
	}
}

// checkStore compares the marker of a backend with the catalog's. It claims no store: that is left to the service.
func checkStore(
	ctx context.Context, cfg *config.Cluster, b repository.Backend, records *catalog.Catalog, report func(string, error),
) {
	if records == nil {
		return // there is nothing to compare with, and that is reported
	}
	repo := repository.New(repository.Config{Backend: b, Cluster: cfg.Name, Prefix: *cfg.Prefix, Stores: records})
	_, err := repo.Open(ctx, repository.OpenOptions{})
	report("recognize the store", err)
}
