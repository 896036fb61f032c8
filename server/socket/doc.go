// Package socket is a unix socket whose callers are known by the user that the kernel tells of.
package socket
