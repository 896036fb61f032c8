package snapshot

import (
	"context"
)

// sweep removes what crashed writers left. A backend that failed is left alone.
func (r *reconciliation) sweep(ctx context.Context) {
	opts := SweepOptions{OlderThan: r.begin.Add(-r.cfg.LeftoverAge), DryRun: r.dry, Keep: r.keep}
	for _, v := range r.views {
		if r.failed(v) {
			continue
		}
		n, err := v.b.Sweep(ctx, r.cfg.Prefix, opts)
		r.mu.Lock()
		v.report.Swept += n
		swept := v.report.Swept
		r.mu.Unlock()
		if err != nil {
			r.fail(v, err)
		}
		if swept > 0 && !r.dry {
			r.cfg.Observer.Swept(ctx, r.cfg.Name, v.b.Name(), swept)
			r.log.InfoContext(ctx, "leftovers swept", "backend", v.b.Name(), "count", swept)
		}
	}
}

// keep reports whether a key belongs to a save under way.
func (r *reconciliation) keep(key string) bool {
	if len(key) < len(r.cfg.Prefix) {
		return false
	}
	name, _, ok := splitKey(key[len(r.cfg.Prefix):])
	if !ok {
		return true
	}
	r.mu.Lock()
	busy := r.busy[name]
	r.mu.Unlock()
	return busy || r.isSaving(name)
}
