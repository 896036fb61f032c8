// Package drill restores a snapshot into a throw-away etcd, starts it, and asks it what it holds: the proof that a backup
// can be brought back.
//
// The etcd runs in a process of its own, this very program under another verb: its memory, which grows with the number of
// keys, is not the service's, and neither is its death.
package drill
