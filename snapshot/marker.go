package snapshot

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// markerVersion is the version of the store's format: the layout of keys and the meaning of manifests.
const markerVersion = 1

// marker is the document that makes a directory or bucket prefix a store.
type marker struct {
	FormatVersion int       `json:"formatVersion"`
	StoreID       string    `json:"storeId"`
	CreateTime    time.Time `json:"createTime"`
}

// storeCheck says how a store is opened.
type storeCheck struct {
	create bool  // at the first use of the store, write its marker
	down   error // the catalog is known not to answer, with this error; do not ask it
}

// openStore makes sure that a backend is the store that it was: an unmounted directory looks like an empty one, and only
// the marker tells them apart.
//
// The id is agreed on in the catalog before the marker is written, so two replicas write the same one, and from the
// moment that the marker was seen, a store without it is an error. Without the catalog the marker, or what this process
// has seen before, must do; the error of the catalog is then returned as unverified.
func (c *Cluster) openStore(ctx context.Context, b Backend, check storeCheck) (unverified, err error) {
	for range 4 {
		unverified, err = c.tryOpenStore(ctx, b, check)
		if !errors.Is(err, ErrConflict) {
			break
		}
	}
	return unverified, err
}

func (c *Cluster) tryOpenStore(ctx context.Context, b Backend, check storeCheck) (unverified, err error) {
	known, unverified := c.knownStore(ctx, b, check.down)
	found, err := readMarker(ctx, b)
	if err != nil && !isNotFound(err) {
		return nil, err
	}
	switch {
	case found == "" && known.Initialized:
		return nil, wrongStore(b, fmt.Sprintf("it has no marker %s, and it had one (store %s)", MarkerKey, known.ID))
	case known.Initialized && found != known.ID:
		return nil, wrongStore(b, fmt.Sprintf("its marker %s says store %s, and it was store %s", MarkerKey, found, known.ID))
	case known.Initialized:
		c.rememberStore(b, found)
		return unverified, nil
	case !check.create:
		return unverified, nil
	}
	if found == "" && known.ID == "" {
		known.ID = rand.Text()
		if unverified == nil {
			unverified, err = c.putStore(ctx, b, known)
			if unverified == nil && err == nil {
				err = ErrConflict // the id is agreed on; begin again with it
			}
			if err != nil {
				return nil, err
			}
		}
	}
	if found == "" {
		if found, err = c.createMarker(ctx, b, known.ID); err != nil {
			return unverified, err
		}
	}
	c.rememberStore(b, found)
	if unverified != nil {
		return unverified, nil
	}
	return c.putStore(ctx, b, Store{ID: found, Initialized: true, Version: known.Version})
}

// knownStore returns what is remembered of a backend's store: by the catalog, or, when that fails, by this process.
func (c *Cluster) knownStore(ctx context.Context, b Backend, down error) (known Store, unverified error) {
	if down == nil {
		known, err := c.cfg.Catalog.Store(ctx, b.Name())
		if err == nil || isNotFound(err) {
			return known, nil
		}
		down = err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.stores[b.Name()]
	return Store{ID: id, Initialized: id != ""}, down
}

// putStore remembers a store in the catalog. Only a conflict is an error: a catalog that cannot be written is no reason
// to refuse a backend.
func (c *Cluster) putStore(ctx context.Context, b Backend, s Store) (unverified, err error) {
	err = c.cfg.Catalog.PutStore(ctx, b.Name(), s)
	if errors.Is(err, ErrConflict) {
		return nil, err
	}
	return err, nil
}

// storeOf returns the id of a store that this process has opened.
func (c *Cluster) storeOf(b Backend) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stores[b.Name()]
}

func (c *Cluster) rememberStore(b Backend, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stores[b.Name()] = id
}

// createMarker writes the marker and returns the id that is in it then: another service, with a catalog of its own, may
// have been faster.
func (c *Cluster) createMarker(ctx context.Context, b Backend, id string) (string, error) {
	doc, err := json.MarshalIndent(marker{FormatVersion: markerVersion, StoreID: id, CreateTime: c.cfg.Now().UTC()}, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encode the marker of backend %q: %w", b.Name(), err)
	}
	err = b.Put(ctx, MarkerKey, bytes.NewReader(append(doc, '\n')), PutOptions{ContentType: jsonContentType, SizeHint: int64(len(doc) + 1), IfAbsent: true})
	if err != nil && !errors.Is(err, ErrExists) {
		return "", err
	}
	return readMarker(ctx, b)
}

// readMarker returns the id in a store's marker.
func readMarker(ctx context.Context, b Backend) (string, error) {
	doc, err := readSmall(ctx, b, MarkerKey)
	if err != nil {
		return "", err
	}
	var m marker
	if err := json.Unmarshal(doc, &m); err != nil || m.StoreID == "" {
		return "", wrongStore(b, fmt.Sprintf("its marker %s is damaged", MarkerKey))
	}
	if m.FormatVersion > markerVersion {
		return "", wrongStore(b, fmt.Sprintf("its marker %s says format version %d, and this program knows up to %d", MarkerKey, m.FormatVersion, markerVersion))
	}
	return m.StoreID, nil
}

func wrongStore(b Backend, what string) error {
	return &Error{
		Reason:  ReasonBackendWrongStore,
		Backend: b.Name(),
		Message: fmt.Sprintf("backend %q (%s) is not the store that it was: %s", b.Name(), b.URI(""), what),
		Hint:    "mount the directory, or correct the URL; for a new store on purpose, configure it under a new backend name",
	}
}
