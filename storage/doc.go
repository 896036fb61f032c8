// Package storage keeps snapshots in directories and S3 buckets. It is the domain's [snapshot.Backend] on
// gocloud.dev/blob, which has traps that this package steps around:
//
//   - A writer that is closed commits what it was given, also when the reader broke off: its context is cancelled first.
//   - fileblob never fsyncs, creates its root anew when it has vanished, and skips what it cannot list.
//   - An S3 upload that is cancelled leaves its parts, unless the abort has a context of its own.
//   - Neither says more than "unknown" of most errors: they are classified here.
//
// A directory is a URL such as file:///var/lib/snapshots, a bucket one such as s3://backups?region=eu-central-1. Both
// take prefix=, below which all keys are. Servers other than AWS want endpoint=, mostly use_path_style=true, and some
// request_checksum_calculation=when_required&response_checksum_validation=when_required. Credentials are those of the
// AWS SDK (environment, shared configuration, instance role) and never in the URL. A bucket should have a lifecycle rule
// that aborts incomplete uploads: what a crash leaves of one is swept, but only while the service runs.
package storage
