// Package disk asks the operating system about disks: how much space is free, whether another process uses a file,
// whether files have changed, and why a path is refused. It makes files and directories durable.
package disk
