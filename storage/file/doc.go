// Package file keeps snapshots in a directory. It stands on gocloud.dev's fileblob, which has traps that this package
// steps around:
//
//   - A writer that is closed commits the bytes it has, also when the reader broke off: its context is cancelled first.
//   - It never fsyncs, creates its root anew when it has vanished, and skips directories that it cannot list.
package file
