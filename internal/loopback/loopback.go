// Package loopback tells the addresses of this machine alone from those that other machines can reach.
package loopback

import (
	"net"
	"net/netip"
	"strings"
)

// Is reports whether an address, with or without a port, is one that only this machine can reach: localhost,
// 127.0.0.0/8, ::1, or the path of a socket as unix:///run/x.sock. Other names are not looked up.
func Is(addr string) bool {
	if strings.HasPrefix(addr, "unix://") {
		return true
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]")
	}
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}
