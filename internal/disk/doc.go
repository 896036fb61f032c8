// Package disk asks the operating system about disks: how much space is free, and whether another process uses a file.
package disk
