// Package keeping keeps the journal of a cluster small and whole on its backends, while this replica leads: it says
// when segments are merged, compared, copied and removed, which is the work of upkeep. It notes in the catalog where
// the journal does not go on, and where it is behind or damaged, so that all replicas tell the same.
//
// The work has an order and times of its own ([Keeper.Run]). A term begins with a pause: it may not last. Merges are
// often, so that the live timeline has few objects; they come first, so that a repair copies fewer and a prune lists
// fewer. A repair follows at once on damage. Prunes are seldom, because each looks at the snapshots of all backends.
// The work ends with the term, and the next leader begins anew: nothing of it is stored but the notes.
package keeping
