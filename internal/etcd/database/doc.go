// Package database reads an etcd snapshot through: every page, every key, once, from a file that it does not change. It
// says what `etcdutl snapshot status` says of the file, and that a file is unreadable when any part of it is.
//
// The memory that it takes does not grow with the database: the file is mapped, and so is the table of keys
// (keyset.go), whose file lies beside it. What grows is a bit for each page, 32 KiB for a GiB.
//
// The pages are read here (btree.go) and not with bbolt, because bbolt trusts them. A single wrong page number makes
// its cursor follow a circle for ever, taking memory with each round, and a wrong length makes it read what lies beyond
// the mapping. Here every offset is checked before it is followed and every page is visited once. What bbolt's own
// check would object to, the check that etcdutl makes, is an error here, too.
package database
