// Package storage keeps snapshots in directories and buckets: it is the domain's [repository.Backend].
//
// [New] makes a backend from its URL; the scheme decides about the kind. Each kind is a package of its own (file, s3)
// on the contract in driver, with one line in the table of schemes. The part that all kinds share is here: keys are
// checked, calls have spans, calls that hang are ended (stall), and errors are explained.
//
// A directory is a URL such as file:///var/lib/snapshots, a bucket one such as s3://backups?region=eu-central-1. Both
// take prefix=, below which all keys are. Servers other than AWS want endpoint=, mostly use_path_style=true, and some
// the parameters of docs/stores.md. Credentials are those of the AWS SDK (environment, shared configuration, instance
// role) and never in the URL.
package storage
