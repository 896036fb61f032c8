package repository

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/internal/etcd/database"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Entry is a snapshot as the listing shows it. Entries are how a repository is read without a service and without a
// catalog: the manifests beside the data say all there is to know.
type Entry struct {
	Name string
	Time time.Time // when it was taken, by its name, or else when it was written
	Size int64     // of its object

	group *Group
}

// HasData reports whether any data of an entry is listed.
func (e Entry) HasData() bool { return len(e.group.Objects) > 0 }

// Unfinished reports whether an entry is what a writer has left that was killed: data alone, none of it younger than a
// time. Its manifest would have been written right behind it.
func (e Entry) Unfinished(before time.Time) bool {
	young := func(o Object) bool { return o.ModTime.After(before) }
	return !e.group.Manifest && !slices.ContainsFunc(e.group.Objects, young)
}

// Entries returns the snapshots in the repository, newest first. Only the listing is held in memory, and no object is
// read. An entry of which only the manifest is listed is one that has lost its data, or one of a listing that hides it.
func (r *Repository) Entries(ctx context.Context) ([]Entry, error) {
	var all []Entry
	for g, err := range r.Groups(r.List(ctx), func(string) {}) {
		if err != nil {
			return nil, err
		}
		e := Entry{Name: g.Name, group: g}
		e.Time, _ = snapshot.Origin(g.Name, g.ManifestTime)
		for _, o := range g.Objects {
			e.Size = max(e.Size, o.Size)
			e.Time, _ = snapshot.Origin(g.Name, o.ModTime)
		}
		if len(g.Objects) > 0 || g.Manifest && snapshot.NamedLikeSaves(g.Name) {
			all = append(all, e)
		}
	}
	// The time first and then the name, so that two of one second have the same order in each listing.
	slices.SortFunc(all, func(a, b Entry) int { return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(b.Name, a.Name)) })
	return all, nil
}

// Record returns the snapshot of an entry as its manifest describes it, or, when another program took it, as far as its
// name does. An entry that could not be restored is an error with ReasonSnapshotUnreadable.
//
// Its only location is READY by this alone: a snapshot of this program has a manifest that is usable and trusted, and
// its object has the size that the manifest says. A file of another program has the head of a database, and is not
// shorter than that database or, when it is an archive, than its end. This costs one read of the manifest, or of the
// head (of an archive also of the end). The rest of the bytes is not read, so no checksum was compared.
func (r *Repository) Record(ctx context.Context, e Entry) (*snapshot.Record, error) {
	if e.group.Manifest {
		return r.describedRecord(ctx, e)
	}
	if !r.trust.AcceptsUnsigned() {
		return nil, r.notWhole(e, errors.New("it has no manifest, and only signed ones are believed"))
	}
	// A listing that hides the manifest would make a snapshot of this program look like a file of another one.
	if found, err := r.HasManifest(ctx, e.Name); found || err != nil {
		return nil, cmp.Or(err, r.contradicted(snapshot.ManifestKey(e.Name), "does not show it"))
	}
	// Without a manifest only another program's file can be a snapshot: data of this program is the trace of a crash.
	why := r.notWhole(e, errors.New(snapshot.ManifestMissing))
	for _, o := range e.group.Objects {
		if !r.foreignSuffix(e.group, &o) {
			continue
		}
		rec, err := r.foreignRecord(ctx, e, &o)
		if err == nil || !isUnreadable(err) {
			return rec, err
		}
		why = err // another object of this name may be the snapshot
	}
	return nil, why
}

// isUnreadable reports whether an error is that of an entry which could not be restored.
func isUnreadable(err error) bool { return snapshot.ReasonOf(err) == snapshot.ReasonSnapshotUnreadable }

// foreignRecord returns the snapshot of another program's file, if it looks like one. An error of the backend is
// returned as it is: it says nothing of the file, and must not make a restore take an older one.
func (r *Repository) foreignRecord(ctx context.Context, e Entry, o *Object) (*snapshot.Record, error) {
	file := strings.TrimPrefix(o.Key, r.prefix)
	err := r.PeekForeign(ctx, file, o.Size)
	damage, _ := errors.AsType[*snapshot.Error](err)
	switch {
	case errors.Is(err, ErrNoSnapshot):
		return nil, r.notWhole(e, err)
	case snapshot.IsDamage(err) && damage.Err != nil:
		return nil, r.notWhole(e, damage.Err)
	case err != nil:
		return nil, err
	}
	rec := &snapshot.Record{File: file, Snapshot: snapshot.Snapshot{
		Name: e.Name, Trigger: snapshot.TriggerAdopted, Compression: snapshot.CompressionOf(file), StoredSize: o.Size,
	}}
	rec.CreateTime, rec.Node = snapshot.Origin(e.Name, o.ModTime)
	r.found(rec, o.Size)
	return rec, nil
}

// describedRecord returns the snapshot of an entry that has a manifest. The size in the listing is compared here,
// because a copy that was cut off is then passed over before anything is read.
func (r *Repository) describedRecord(ctx context.Context, e Entry) (*snapshot.Record, error) {
	m, err := r.ReadManifest(ctx, e.Name)
	if err != nil {
		return nil, r.undescribed(e, m, err)
	}
	rec := m.Record
	data := r.DataOf(e.group, rec)
	if err := r.ConfirmListed(ctx, rec, data); err != nil {
		return nil, err
	}
	switch {
	case data == nil:
		return nil, r.notWhole(e, errors.New("its data is missing"))
	case data.Size != rec.StoredSize:
		return nil, r.notWhole(e, fmt.Errorf("it has %d bytes instead of %d", data.Size, rec.StoredSize))
	}
	if r.found(rec, data.Size); !m.Removed.IsZero() {
		rec.Deleting(r.info.Name, m.Removed) // it can still be restored, by its name
	}
	return rec, nil
}

// The first bytes of stored snapshots.
var (
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
	ageMagic  = []byte("age-encryption.org/v1\n")
)

// PeekCopy returns an error when the data of a snapshot does not begin as its manifest says: compressed, encrypted, or
// neither. It reads some bytes and compares no checksum.
func (r *Repository) PeekCopy(ctx context.Context, rec *snapshot.Record) error {
	if rec.Trigger == snapshot.TriggerAdopted {
		return nil // its beginning was read when it was found
	}
	key := r.dataKey(rec)
	in, err := r.backend.Get(ctx, key, Range{Length: database.HeadSize})
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	head, err := io.ReadAll(io.LimitReader(in, database.HeadSize))
	if err != nil {
		return snapshot.ReasonBackendUnavailable.New("backend %q: read %s", r.info.Name, key).On(r.info.Name).Because(err)
	}
	begins := true
	// An archive is not looked at here: saves never write one.
	switch {
	case len(rec.EncryptionRecipients) > 0:
		begins = bytes.HasPrefix(head, ageMagic)
	case rec.Compression == snapshot.CompressionZstd:
		begins = bytes.HasPrefix(head, zstdMagic)
	case rec.Compression == snapshot.CompressionNone:
		_, begins = database.DeclaredSize(head)
	}
	if !begins {
		return snapshot.ReasonSnapshotUnreadable.New("%s is not whole", r.URI(rec.Name)).On(r.info.Name).
			Because(errors.New("its data does not begin as its manifest says"))
	}
	return nil
}

// ConfirmListed returns an error when a listing does not show the data of a snapshot, or with another size than its
// manifest says, and the backend says of the object itself that it is there and whole. Then nothing is known of the
// copy.
func (r *Repository) ConfirmListed(ctx context.Context, rec *snapshot.Record, data *Object) error {
	if data != nil && data.Size == rec.StoredSize {
		return nil
	}
	o, err := r.backend.Stat(ctx, r.dataKey(rec))
	switch {
	case snapshot.IsNotFound(err), err == nil && o.Size != rec.StoredSize:
		return nil
	case err != nil:
		return err
	case data == nil:
		return r.contradicted(rec.DataKey(), "does not show it")
	}
	return r.contradicted(rec.DataKey(), fmt.Sprintf("says that it has %d bytes instead of %d", data.Size, o.Size))
}

// contradicted is the error of a listing that says something else of a file than the backend says when it is asked.
func (r *Repository) contradicted(file, listing string) error {
	return snapshot.ReasonBackendUnavailable.New("%s is there, and the listing %s", r.URI(file), listing).On(r.info.Name).
		Advise("look at the proxies and caches before the server, and at its log")
}

// undescribed returns the error of an entry whose manifest could not be read or used. A signature binds a snapshot to
// its cluster: with a Trust, a manifest of another cluster is not trusted, also with a good signature.
func (r *Repository) undescribed(e Entry, m *Manifest, err error) error {
	why, unusable := errors.AsType[*unusableError](err)
	switch {
	case !unusable:
		return err
	case m != nil && m.Record.Name == e.Name && r.trust != nil:
		cause := fmt.Errorf("it is of cluster %q, and not of %q", m.Record.Cluster, r.cluster)
		return r.untrusted(r.manifestKey(e.Name), cause)
	}
	return r.notWhole(e, why)
}

// found notes in a record that it is whole here.
func (r *Repository) found(rec *snapshot.Record, size int64) {
	l := r.Location(rec, time.Time{})
	l.State, l.Size = snapshot.StateReady, size
	rec.Found(l)
}

// notWhole is the error of an entry that could not be restored; another one may do.
func (r *Repository) notWhole(e Entry, why error) error {
	return snapshot.ReasonSnapshotUnreadable.New("%s is not whole", r.URI(e.Name)).On(r.info.Name).Because(why)
}

// RemoveEntry removes all objects of an entry, the manifest first. It checks nothing.
func (r *Repository) RemoveEntry(ctx context.Context, e Entry) error {
	// The manifest goes first, unlike in a removal, because no mark says that this copy goes. Data that is left without
	// a manifest is no snapshot, and the next call removes it.
	if err := r.backend.Delete(ctx, r.manifestKey(e.Name)); err != nil {
		return err
	}
	for _, o := range e.group.Objects {
		if err := r.backend.Delete(ctx, o.Key); err != nil {
			return err
		}
	}
	return nil
}
