package snapshot

import (
	"context"
	"maps"
	"strings"
	"time"
)

// foreign counts an object that is nothing of ours. It is left in peace.
func (r *reconciliation) foreign(ctx context.Context, v *view, key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v.report.Foreign++
	r.log.DebugContext(ctx, "object is no snapshot of ours", "backend", v.b.Name(), "key", key)
}

func (r *reconciliation) foreignGroup(ctx context.Context, v *view, g *group) {
	for _, o := range g.objects {
		r.foreign(ctx, v, o.Key)
	}
	if g.manifest {
		r.foreign(ctx, v, r.key(ManifestKey(g.name)))
	}
}

// foreignObject is an object that was read and found to be no snapshot, as it was then.
type foreignObject struct {
	size    int64
	modTime time.Time
	seen    time.Time // when the reconciliation began that has listed it last
}

// adoptable returns the object of a group that may be a snapshot of another program: a file of K3s or RKE2, compressed or
// not, or a *.db of etcdctl; nil when there is none or more than one, or when only what is signed is believed. One that was
// written just now may not be whole yet.
func (r *reconciliation) adoptable(v *view, g *group) *Object {
	if g.manifest || !ValidName(g.name) || !r.cfg.Trust.believesUnsigned() {
		return nil
	}
	var one *Object
	for i := range g.objects {
		o := &g.objects[i]
		switch strings.TrimPrefix(o.Key, r.key(g.name)) {
		case "", zipSuffix, dataSuffix:
			if one != nil {
				return nil
			}
			one = o
		}
	}
	if one == nil || one.Size == 0 || r.begin.Sub(one.ModTime) < youngAge || r.knownForeign(v, one) {
		return nil
	}
	return one
}

// knownForeign reports whether an object was read before and found to be no snapshot.
func (r *reconciliation) knownForeign(v *view, o *Object) bool {
	r.Cluster.mu.Lock()
	defer r.Cluster.mu.Unlock()
	was, ok := r.notSnapshots[v.b.Name()][o.Key]
	if !ok || was.size != o.Size || !was.modTime.Equal(o.ModTime) {
		return false
	}
	was.seen = r.begin
	r.notSnapshots[v.b.Name()][o.Key] = was
	return true
}

func (r *reconciliation) rememberForeign(v *view, o *Object) {
	r.Cluster.mu.Lock()
	defer r.Cluster.mu.Unlock()
	of := r.notSnapshots[v.b.Name()]
	if of == nil {
		of = map[string]foreignObject{}
		r.notSnapshots[v.b.Name()] = of
	}
	of[o.Key] = foreignObject{o.Size, o.ModTime, r.begin}
}

// forgetForeign forgets what was no snapshot and is not there any more.
func (r *reconciliation) forgetForeign() {
	r.Cluster.mu.Lock()
	defer r.Cluster.mu.Unlock()
	for _, v := range r.views {
		if v.known {
			maps.DeleteFunc(r.notSnapshots[v.b.Name()], func(_ string, o foreignObject) bool { return o.seen.Before(r.begin) })
		}
	}
}
