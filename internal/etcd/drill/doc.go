// Package drill restores a snapshot into a throw-away etcd, starts it, and reads its content: the proof that a backup
// can be restored.
//
// The etcd runs in a process of its own, which is this program under another verb: its memory grows with the number of
// keys, and it may crash.
package drill
