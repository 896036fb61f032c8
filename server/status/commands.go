package status

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Placeholders in commands, for a person to replace. They are those of the API's documentation.
const (
	anyURL    = "URL"
	identity  = "FILE"
	publicKey = "PUBLIC_KEY"
	directory = "DIR"
)

// from adds to a command that needs no service where the snapshots are that it reads.
func (k *Known) from(do []string, places ...Place) []string {
	for _, p := range places {
		do = append(do, "--from", cmp.Or(p.URL, anyURL))
	}
	if len(places) == 0 {
		do = append(do, "--from", anyURL)
	}
	if k.Store.Prefix != k.Name+"/" {
		do = append(do, "--prefix", k.Store.Prefix)
	}
	return do
}

// keys adds to a command that needs no service the keys that it needs to read snapshots.
func (k *Known) keys(do []string, encrypted bool) []string {
	if encrypted {
		do = append(do, "--identity", identity)
	}
	if k.Store.Signed {
		do = append(do, "--signing-public-key-file", publicKey)
	}
	return do
}

// reachable returns the one of some places that most machines reach: the first bucket, or else the first directory.
func reachable(places []Place) []Place {
	i := max(0, slices.IndexFunc(places, func(p Place) bool { return p.Kind != snapshot.BackendLocal }))
	return places[i:min(i+1, len(places))]
}

// listing is the command that lists the snapshots without the catalog. It takes one place.
func (k *Known) listing() []string { return k.from([]string{"list"}, reachable(k.Places)...) }

// restoring is the command that plans the restore of the newest snapshot without the catalog.
func (k *Known) restoring() []string {
	do := k.keys(k.from([]string{"restore", "latest"}, k.Places...), k.Store.Encrypted)
	return append(do, "--data-dir", directory, "--dry-run")
}

// rehearsing is the command that shows how a revision behind a snapshot would be restored.
func (k *Known) rehearsing(base string, revision int64) []string {
	do := k.from([]string{"restore", base, "--revision", strconv.FormatInt(revision, 10)}, k.Places...)
	do = k.keys(do, k.Store.Encrypted)
	return append(do, "--data-dir", directory, "--dry-run")
}

// proving is the command that proves an encrypted snapshot where there is an identity.
func (k *Known) proving(rec *snapshot.Record) []string {
	held := slices.DeleteFunc(slices.Clone(k.Places), func(p Place) bool {
		l := rec.Location(p.Name)
		return l == nil || l.State != snapshot.StateReady
	})
	do := k.keys(k.from([]string{"verify", rec.Name}, reachable(held)...), true)
	return append(do, "--level", "drill")
}

// goesTo reports whether the runs of a schedule are saved to a backend.
func (s *Schedule) goesTo(backend string) bool {
	is := func(given string) bool { return snapshot.IsBackend(backend, given) }
	return len(s.Backends) == 0 || slices.ContainsFunc(s.Backends, is)
}

// awaits reports whether a backend should hold one of the snapshots that were examined. Schedules may leave it out.
func (v *verdict) awaits(backend string) bool {
	all := v.known.Schedules
	if !slices.ContainsFunc(all, func(s Schedule) bool { return !s.goesTo(backend) }) {
		return true
	}
	return slices.ContainsFunc(v.records, func(rec *snapshot.Record) bool {
		i := slices.IndexFunc(all, func(s Schedule) bool { return s.Name == takenBy(rec) })
		return ended(rec) && i >= 0 && all[i].goesTo(backend)
	})
}
