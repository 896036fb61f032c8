package repository_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
)

// sharing makes another replica of a place: the same backend and catalog.
func (p *place) sharing() *place {
	return &place{backend: p.backend, stores: p.stores, Repository: repository.New(repository.Config{
		Backend: p.backend, Cluster: "default", Prefix: "default/", Stores: p.stores,
	})}
}

func TestStoreIsCreatedAtItsFirstUse(t *testing.T) {
	p := newPlace()
	must(t, p.OpenVerified(t.Context(), false))
	if p.backend.Content(snapshot.MarkerKey) != nil {
		t.Error("a reader has written the marker")
	}
	must(t, p.OpenVerified(t.Context(), true))
	doc := string(p.backend.Content(snapshot.MarkerKey))
	if p.StoreID() == "" || !strings.Contains(doc, p.StoreID()) || !p.stores.known["one"].Initialized {
		t.Errorf("store %q, marker %s, catalog %+v", p.StoreID(), doc, p.stores.known)
	}
	other := p.sharing()
	must(t, other.OpenVerified(t.Context(), true))
	if other.StoreID() != p.StoreID() || string(p.backend.Content(snapshot.MarkerKey)) != doc {
		t.Errorf("another replica has store %q, want %q", other.StoreID(), p.StoreID())
	}
}

func TestManyUseANewStoreAtOnce(t *testing.T) {
	p := newPlace()
	ids := make([]string, 3)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			replica := p.sharing()
			if err := replica.OpenVerified(t.Context(), true); err != nil {
				t.Error(err)
			}
			ids[i] = replica.StoreID()
		})
	}
	all.Wait()
	if ids[0] == "" || ids[1] != ids[0] || ids[2] != ids[0] {
		t.Errorf("they have stores %q", ids)
	}
}

func TestStoreThatIsAnotherIsAnError(t *testing.T) {
	for what, x := range map[string]struct {
		spoil func(*place)
		text  string
	}{
		"unmounted": {func(p *place) {
			p.backend.Remove(snapshot.MarkerKey)
		}, "it has no marker snapshotd-store.json, and it had one"},
		"another": {func(p *place) {
			p.backend.Set(snapshot.MarkerKey, []byte(`{"formatVersion": 1, "storeId": "other"}`))
		}, "says store other, and it was store"},
		"damaged": {func(p *place) {
			p.backend.Set(snapshot.MarkerKey, []byte("{"))
		}, "its marker snapshotd-store.json is damaged"},
		"newer": {func(p *place) {
			p.backend.Set(snapshot.MarkerKey, []byte(`{"formatVersion": 2, "storeId": "other"}`))
		}, "says format version 2"},
	} {
		t.Run(what, func(t *testing.T) {
			p := newPlace()
			must(t, p.OpenVerified(t.Context(), true))
			before := p.StoreID()
			x.spoil(p)
			for _, replica := range []*place{p, p.sharing()} {
				for _, create := range []bool{false, true} {
					err := replica.OpenVerified(t.Context(), create)
					wantReason(t, what, err, snapshot.ReasonBackendWrongStore)
					wantText(t, what, err, x.text)
				}
			}
			if p.StoreID() != before {
				t.Errorf("the store is %q, and was %q", p.StoreID(), before)
			}
		})
	}
}

// Without the catalog, the marker or the memory of this process must do, and the caller hears that nothing was
// compared.
func TestStoreWithoutTheCatalog(t *testing.T) {
	down := snapshot.ReasonCatalogUnavailable.New("etcd has no leader")
	p := newPlace()
	p.stores.down = down
	unverified, err := p.Open(t.Context(), repository.OpenOptions{Create: true})
	if err != nil || !errors.Is(unverified, down) || p.StoreID() == "" {
		t.Errorf("a new store: %v, %v, store %q", unverified, err, p.StoreID())
	}
	if err := p.OpenVerified(t.Context(), true); !errors.Is(err, down) {
		t.Errorf("verified: %v", err)
	}
	fresh := p.sharing()
	unverified, err = fresh.Open(t.Context(), repository.OpenOptions{Create: true})
	if err != nil || !errors.Is(unverified, down) || fresh.StoreID() != p.StoreID() {
		t.Errorf("by its marker: %v, %v, store %q", unverified, err, fresh.StoreID())
	}
	p.backend.Remove(snapshot.MarkerKey)
	_, err = p.Open(t.Context(), repository.OpenOptions{Create: true})
	wantReason(t, "that this process has seen", err, snapshot.ReasonBackendWrongStore)

	asked := newPlace()
	unverified, err = asked.Open(t.Context(), repository.OpenOptions{Create: true, CatalogDown: down})
	if err != nil || !errors.Is(unverified, down) || asked.stores.known != nil {
		t.Errorf("of a catalog that is known to be down: %v, %v, catalog %+v", unverified, err, asked.stores.known)
	}
	must(t, asked.OpenVerified(t.Context(), true)) // it is back
	if asked.stores.known["one"].ID != asked.StoreID() {
		t.Errorf("catalog %+v, store %q", asked.stores.known, asked.StoreID())
	}

	readOnly := newPlace()
	readOnly.stores.putDown = down
	unverified, err = readOnly.Open(t.Context(), repository.OpenOptions{Create: true})
	if err != nil || !errors.Is(unverified, down) {
		t.Errorf("of a catalog that cannot be written: %v, %v", unverified, err)
	}
}

func TestStoreThatCannotBeReadIsAnError(t *testing.T) {
	p := newPlace()
	p.backend.Vanish()
	wantReason(t, "vanished", p.OpenVerified(t.Context(), true), snapshot.ReasonBackendNotFound)
	alone := newPlace(func(c *repository.Config) { c.Stores = nil })
	if err := alone.OpenVerified(t.Context(), true); err != nil || len(alone.backend.Keys()) != 0 {
		t.Errorf("without stores: %v, and there is %q", err, alone.backend.Keys())
	}
}

func TestGoneIsConfirmedByObjectAndMarker(t *testing.T) {
	p := newPlace()
	must(t, p.OpenVerified(t.Context(), true))
	rec, _ := p.save(t, stream(4*page), snapshot.CompressionZstd)
	store := p.StoreID()
	if gone, err := p.ConfirmGone(t.Context(), rec, store); gone || err != nil {
		t.Errorf("that is there: %v, %v", gone, err)
	}
	p.backend.Remove("default/" + rec.DataKey())
	for _, id := range []string{store, ""} {
		if gone, err := p.ConfirmGone(t.Context(), rec, id); !gone || err != nil {
			t.Errorf("that is gone from store %q: %v, %v", id, gone, err)
		}
	}
	_, err := p.ConfirmGone(t.Context(), rec, "other")
	wantReason(t, "another store", err, snapshot.ReasonBackendWrongStore)
	wantText(t, "another store", err, "while store other was being listed")
	p.backend.Replace(memory.New("unmounted", snapshot.BackendLocal))
	_, err = p.ConfirmGone(t.Context(), rec, store)
	wantReason(t, "unmounted", err, snapshot.ReasonBackendWrongStore)
	wantText(t, "unmounted", err, "disappeared while it was being listed")
	p.backend.Vanish()
	_, err = p.ConfirmGone(t.Context(), rec, store)
	wantReason(t, "vanished", err, snapshot.ReasonBackendNotFound)
}
