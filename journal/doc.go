// Package journal records the changes of a cluster as they happen, so that each of its revisions can be restored.
//
// It follows one member of etcd (session.go), observes the things that change without an event (watcher.go), adds all
// of it to a local file (the package local), and uploads it in segments (upload.go). Only the leader of a cluster
// follows; each replica uploads the parts on its disk.
//
// A change goes one way: from etcd's watch into the open part on the disk, where a flush makes it durable; the part is
// sealed, and each backend gets it by itself. A backend that is away keeps no other one waiting. The disk keeps the
// parts for it until it is back, or until the disk's limit is reached.
//
// One goroutine follows (Journal.Follow), and the fields of Journal that it alone uses have no lock. One more for each
// backend uploads (Journal.Run). They meet at the local log. Journal.mu and upload.mu are never held together, and
// neither is held while anything is waited for: status and metrics of all clusters ask for them.
//
// It is never taken on trust that etcd still has the history which the journal has. A session begins with revisions
// that are journaled already, and nothing is added before their checksums have come out the same (session.compare). So
// a replica that goes on from an old state of the backends, or from its own disk alone, adds nothing to a wrong
// history.
//
// A history that cannot be continued, because etcd was restored to an earlier state or has compacted the next
// revisions, ends. Another timeline begins, with the reason, and a snapshot is asked for as its base.
package journal
