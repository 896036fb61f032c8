// Package keeping keeps the journal of a cluster small and whole on its backends, while this replica leads: it says
// when segments are merged, compared, copied and removed, which is the work of upkeep. It notes in the catalog where
// the journal does not go on, and where it is behind or damaged, so that all replicas tell the same.
package keeping
