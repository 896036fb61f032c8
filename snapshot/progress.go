package snapshot

import "time"

// Progress is how far a save is, as the replica that saves tells the others.
type Progress struct {
	Name    string           // of the snapshot
	Elapsed time.Duration    // since the save began
	Read    int64            // bytes, from etcd
	Total   int64            // bytes that etcd will send; 0 when it is not known
	Written map[string]int64 // bytes, by backend
}
