// Package segments holds the journal of one cluster on one backend: the segments of its timelines, each with a
// manifest.
//
//	<cluster prefix>journal/<timeline>.json                             says that the timeline exists
//	<cluster prefix>journal/<timeline>/<level>/<first>-<last>.seg[.age] the segment, compressed, then encrypted
//	<cluster prefix>journal/<timeline>/<level>/<first>-<last>.json      its manifest
//
// A segment is written once and never changed. It counts from the moment that its manifest is durable. Manifests are
// signed, and segments encrypted, as those of snapshots are. No listing of snapshots shows these objects.
package segments
