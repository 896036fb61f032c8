package repository

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/snapshotd/snapshotd/internal/codec/strictjson"
	"github.com/snapshotd/snapshotd/snapshot"
)

// markerVersion is the version of the store's format: the layout of keys and the meaning of manifests. A program that
// knows a lower version refuses the whole store, since it could remove objects that it does not understand.
const markerVersion = 1

// storeID is the form of a store's id.
var storeID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// marker is the document that makes a directory or bucket prefix a store.
type marker struct {
	FormatVersion int       `json:"formatVersion"`
	StoreID       string    `json:"storeId"`
	CreateTime    time.Time `json:"createTime"`
}

// OpenOptions are the options of [Repository.Open].
type OpenOptions struct {
	Create      bool  // at the first use of the store, write its marker
	CatalogDown error // the catalog is known not to answer, with this error; it is not asked
}

// Open makes sure that the backend is the store that it was: an unmounted directory looks like an empty one, and only
// the marker distinguishes them. Without Stores there is nothing to compare with, and Open does nothing.
//
// The id is agreed on in the catalog before the marker is written, so two replicas write the same one, and from the
// moment that the marker was seen, a store without it is an error. Without the catalog, the marker or the id that this
// process has seen before must do; the error of the catalog is then returned as unverified.
func (r *Repository) Open(ctx context.Context, opts OpenOptions) (unverified, err error) {
	if r.stores == nil {
		return nil, nil
	}
	for range 4 { // another replica may change the catalog's store meanwhile, a few times at most
		unverified, err = r.tryOpen(ctx, opts)
		if !errors.Is(err, snapshot.ErrConflict) {
			break
		}
	}
	return unverified, err
}

// OpenVerified opens the store; one that could not be compared with the catalog is an error, too.
func (r *Repository) OpenVerified(ctx context.Context, create bool) error {
	unverified, err := r.Open(ctx, OpenOptions{Create: create})
	return errors.Join(err, unverified)
}

// tryOpen opens the store once; ErrConflict when the catalog's store was changed meanwhile.
func (r *Repository) tryOpen(ctx context.Context, opts OpenOptions) (unverified, err error) {
	known, unverified := r.knownStore(ctx, opts.CatalogDown)
	found, err := r.readMarker(ctx)
	if err != nil && !snapshot.IsNotFound(err) {
		return nil, err
	}
	switch {
	case found == "" && known.Initialized:
		return nil, r.wrongStore("it has no marker %s, and it had one (store %s)", snapshot.MarkerKey, known.ID)
	case known.Initialized && found != known.ID:
		return nil, r.wrongStore("its marker %s says store %s, and it was store %s", snapshot.MarkerKey, found, known.ID)
	case known.Initialized:
		r.rememberStore(found)
		return unverified, nil
	case !opts.Create: // a reader neither writes the marker nor claims a store that is not in the catalog yet
		return unverified, nil
	}
	if found == "" {
		if found, unverified, err = r.initialize(ctx, known, unverified); err != nil {
			return unverified, err
		}
	}
	r.rememberStore(found)
	if unverified != nil {
		return unverified, nil
	}
	return r.putStore(ctx, snapshot.Store{ID: found, Initialized: true, Version: known.Version})
}

// initialize writes the marker of a store that has none and never had one, and returns the id in it. The id comes first
// into the catalog: ErrConflict begins again with the one that is there then.
func (r *Repository) initialize(
	ctx context.Context, known snapshot.Store, down error,
) (id string, unverified, err error) {
	unverified = down
	if known.ID == "" {
		known.ID = rand.Text()
		if unverified == nil {
			unverified, err = r.putStore(ctx, known)
			if unverified == nil && err == nil {
				err = snapshot.ErrConflict // the id is agreed on
			}
			if err != nil {
				return "", nil, err
			}
		}
	}
	id, err = r.createMarker(ctx, known.ID)
	return id, unverified, err
}

// knownStore returns the store as the catalog remembers it, or, when the catalog fails, as this process does.
func (r *Repository) knownStore(ctx context.Context, down error) (known snapshot.Store, unverified error) {
	if down == nil {
		known, err := r.stores.Store(ctx, r.info.Name)
		if err == nil || snapshot.IsNotFound(err) {
			return known, nil
		}
		down = err
	}
	id := r.StoreID()
	return snapshot.Store{ID: id, Initialized: id != ""}, down
}

// putStore remembers a store in the catalog. Only a conflict is an error: a catalog that cannot be written is no reason
// to refuse a backend.
func (r *Repository) putStore(ctx context.Context, s snapshot.Store) (unverified, err error) {
	err = r.stores.PutStore(ctx, r.info.Name, s)
	if errors.Is(err, snapshot.ErrConflict) {
		return nil, err
	}
	return err, nil
}

// StoreID returns the id of the store as this process has seen it last; empty before that.
func (r *Repository) StoreID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.store
}

// rememberStore keeps the id for the time when the catalog does not answer.
func (r *Repository) rememberStore(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.store = id
}

// createMarker writes the marker and returns the id that is in it then: another service, with a catalog of its own, may
// have been faster.
func (r *Repository) createMarker(ctx context.Context, id string) (string, error) {
	doc, err := json.MarshalIndent(marker{FormatVersion: markerVersion, StoreID: id, CreateTime: r.now().UTC()}, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encode the marker of backend %q: %w", r.info.Name, err)
	}
	doc = append(doc, '\n')
	opts := PutOptions{ContentType: JSONContentType, SizeHint: int64(len(doc)), IfAbsent: true}
	err = r.backend.Put(ctx, snapshot.MarkerKey, bytes.NewReader(doc), opts)
	if err != nil && !errors.Is(err, snapshot.ErrExists) {
		return "", err
	}
	// IfAbsent is not atomic on every backend. So the marker is read back, and the id in it counts for both writers.
	return r.readMarker(ctx)
}

// readMarker returns the id in the store's marker. A document that is no marker is that of another store: its writer
// did not know this one.
func (r *Repository) readMarker(ctx context.Context) (string, error) {
	doc, err := r.ReadDocument(ctx, snapshot.MarkerKey)
	if errors.Is(err, ErrTooLarge) {
		return "", r.damagedMarker(fmt.Errorf("it has more than %d bytes", maxDocument))
	}
	if err != nil {
		return "", err
	}
	m, err := strictjson.Parse(doc)
	if err != nil {
		return "", r.damagedMarker(err)
	}
	version, err := m.Version()
	switch {
	case err != nil:
		return "", r.damagedMarker(err)
	case version > markerVersion:
		return "", r.wrongStore("its marker %s says format version %d, and this program knows up to %d",
			snapshot.MarkerKey, version, markerVersion)
	}
	id, err := decodeMarker(doc, m)
	if err != nil {
		return "", r.damagedMarker(err)
	}
	return id, nil
}

// decodeMarker returns the id in a marker of this format. The id goes into errors and into the catalog, so its form is
// bounded; a text of another form is no marker of this program.
func decodeMarker(doc []byte, m strictjson.Members) (id string, err error) {
	if err := m.Written(marker{}); err != nil {
		return "", err
	}
	var found marker
	if err := json.Unmarshal(doc, &found); err != nil {
		return "", err
	}
	if !storeID.MatchString(found.StoreID) {
		return "", fmt.Errorf("%.100q is not the id of a store", found.StoreID)
	}
	return found.StoreID, nil
}

// damagedMarker is the error of a marker that says nothing.
func (r *Repository) damagedMarker(why error) error {
	return r.wrongStore("its marker %s is damaged: %v", snapshot.MarkerKey, why)
}

// ConfirmGone reports whether the data of a snapshot that a listing does not show is really gone. It asks for the
// object itself and then, because an unmounted directory has no objects either, whether the store is still the one with
// this id, as it was seen when the listing began; any store when the id is empty.
func (r *Repository) ConfirmGone(ctx context.Context, rec *snapshot.Record, store string) (bool, error) {
	_, err := r.backend.Stat(ctx, r.dataKey(rec))
	switch {
	case err == nil:
		return false, nil
	case !snapshot.IsNotFound(err):
		return false, err
	}
	// The marker alone is compared, and not the catalog: the listing was of the store that was there at its beginning.
	id, err := r.readMarker(ctx)
	switch {
	case snapshot.IsNotFound(err):
		return false, r.wrongStore("its marker %s disappeared while it was being listed", snapshot.MarkerKey)
	case err != nil:
		return false, err
	case store != "" && id != store:
		return false, r.wrongStore("its marker %s became that of store %s while store %s was being listed",
			snapshot.MarkerKey, id, store)
	}
	return true, nil
}

// wrongStore is the error that the backend is not the store that it was. Nothing there may be read or written, and no
// object that is missing there is gone.
func (r *Repository) wrongStore(format string, args ...any) error {
	why := fmt.Sprintf(format, args...)
	return snapshot.ReasonBackendWrongStore.
		New("backend %q (%s) is not the store that it was: %s", r.info.Name, r.info.URI(""), why).On(r.info.Name).
		Advise("mount the directory, or correct the URL; for a new store on purpose, " +
			"configure it under a new backend name; if each node has a directory of its own, set node_local")
}
