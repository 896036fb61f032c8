// Package audit keeps the records of calls that change something, and of downloads: as lines of JSON in a file, and as
// objects in a store.
package audit
