// Package journal records the changes of a cluster as they happen, so that each of its revisions can be restored.
//
// It follows one member of etcd (session.go), observes the things that change without an event (watcher.go), adds all
// of it to a local file (the package local), and uploads it in segments (upload.go). Only the leader of a cluster
// follows; each replica uploads the parts on its disk.
//
// A history that cannot be continued, because etcd was restored to an earlier state or has compacted the next
// revisions, ends. Another timeline begins, with the reason, and a snapshot is asked for as its base.
package journal
