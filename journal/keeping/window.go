package keeping

import (
	"context"
	"slices"

	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/upkeep"
)

// Window returns the journal on all backends. One that is not the store that it was counts as not read: with its empty
// listing, each revision that it alone has would be called lost.
func (k *Keeper) Window(ctx context.Context) journal.Window {
	w, away := look(ctx, k.pruner.Places)
	w.Partial = w.Partial || len(away) > 0
	w.Unread = slices.Concat(away, w.Unread)
	return w
}

// look lists the journal on the places that are the stores that they were, and returns why the others are away: a
// directory that is not mounted looks empty.
func look(ctx context.Context, places []upkeep.Place) (w journal.Window, away []error) {
	var there []journal.Listing
	for _, p := range places {
		if err := p.Repository.OpenVerified(ctx, false); err != nil {
			away = append(away, err)
			continue
		}
		there = append(there, p.Segments)
	}
	return journal.Look(ctx, there), away
}
