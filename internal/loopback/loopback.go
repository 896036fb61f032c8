// Package loopback tells the addresses that only this machine can reach.
package loopback

import (
	"net"
	"net/netip"
	"strings"
)

// Is reports whether an address, with or without a port, can only be this machine: localhost, or an IP address of the loopback
// interface. Names are not looked up.
func Is(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]")
	}
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}
