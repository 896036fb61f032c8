// Package stall ends calls on which nothing moves: those on a file system that hangs ([Guard]) and those to an HTTP
// server ([Client]). Slow calls go on, however long they take.
package stall
