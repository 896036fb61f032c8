package etcd

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// endpoint is one address of a member.
type endpoint struct {
	url       string // as clientv3 and a person write it
	target    string // as gRPC dials it
	authority string // for the certificate; empty when the target says it
	tls       bool
}

// parseEndpoints parses endpoints that are all reached with TLS, or all without: a client has one kind of connection.
// withTLS decides for endpoints without a scheme.
func parseEndpoints(urls []string, withTLS bool) ([]endpoint, error) {
	eps := make([]endpoint, len(urls))
	for i, u := range urls {
		ep, err := parseEndpoint(strings.TrimSpace(u), withTLS)
		if err != nil {
			return nil, err
		}
		if ep.tls != eps[0].tls && i > 0 {
			return nil, fmt.Errorf("etcd endpoints: %q and %q mix TLS and plain text; write all with https:// or all with "+
				"http://", eps[0].url, ep.url)
		}
		if !ep.tls && withTLS {
			return nil, fmt.Errorf("etcd endpoints: %q is plain text, and the CA or certificate would not be used; write "+
				"https://, or leave them out", ep.url)
		}
		eps[i] = ep
	}
	return eps, nil
}

func parseEndpoint(s string, withTLS bool) (endpoint, error) {
	if rest, ok := strings.CutPrefix(s, "unixs:"); ok {
		return unixEndpoint(s, rest, true)
	}
	if rest, ok := strings.CutPrefix(s, "unix:"); ok {
		return unixEndpoint(s, rest, withTLS)
	}
	hostPort, tls := s, withTLS
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil {
			return endpoint{}, fmt.Errorf("etcd endpoints: %q is not a URL; write it as https://HOST:2379", withoutUser(s))
		}
		switch {
		case u.Scheme != "http" && u.Scheme != "https":
			return endpoint{}, fmt.Errorf("etcd endpoints: %q has the scheme %q; use https, http or unix",
				u.Redacted(), u.Scheme)
		case u.User != nil:
			return endpoint{}, fmt.Errorf("etcd endpoints: %q carries a user; set user and password on their own", u.Redacted())
		case strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
			return endpoint{}, fmt.Errorf("etcd endpoints: %q has a path; write %s://%s", s, u.Scheme, u.Host)
		}
		hostPort, tls = u.Host, u.Scheme == "https"
		s = u.Scheme + "://" + u.Host
	}
	host, port, err := net.SplitHostPort(hostPort)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || host == "" {
		return endpoint{}, fmt.Errorf("etcd endpoints: %q is not HOST:PORT; etcd's port is usually 2379", withoutUser(s))
	}
	return endpoint{url: s, target: "dns:///" + hostPort, tls: tls}, nil
}

func unixEndpoint(s, rest string, tls bool) (endpoint, error) {
	file := strings.TrimPrefix(rest, "//")
	if file == "" || file == "/" {
		return endpoint{}, fmt.Errorf("etcd endpoints: %q names no socket; write unix:///run/etcd.sock", s)
	}
	return endpoint{url: s, target: "unix:" + file, authority: path.Base(file), tls: tls}, nil
}

// withoutUser hides the part before an '@', which may be a password.
func withoutUser(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return "…" + s[i:]
	}
	return s
}

// endpoints returns the members' addresses, from the settings or from SRV records.
func (c *Conn) endpoints(ctx context.Context) ([]endpoint, error) {
	if c.cfg.DiscoverySRV == "" {
		return parseEndpoints(c.cfg.Endpoints, c.cfg.tls())
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.DialTimeout)
	defer cancel()
	urls, err := c.discover(ctx)
	if err != nil {
		return nil, err
	}
	return parseEndpoints(urls, c.cfg.tls())
}

// discover looks up members that speak TLS and, when there are none, members that do not. etcdctl takes both kinds at
// once, and then uses the kind of the first one for all of them.
func (c *Conn) discover(ctx context.Context) ([]string, error) {
	secure, err := c.lookup(ctx, "etcd-client-ssl", "https")
	if err == nil && len(secure) > 0 {
		return secure, nil
	}
	plain, perr := c.lookup(ctx, "etcd-client", "http")
	if perr == nil && len(plain) > 0 {
		return plain, nil
	}
	if err == nil {
		err = perr
	}
	return nil, fmt.Errorf("look up etcd's members: domain %q has no SRV records %s or %s: %w",
		c.cfg.DiscoverySRV, c.service("etcd-client-ssl"), c.service("etcd-client"), err)
}

func (c *Conn) service(service string) string {
	if c.cfg.DiscoverySRVName != "" {
		service += "-" + c.cfg.DiscoverySRVName
	}
	return "_" + service + "._tcp"
}

func (c *Conn) lookup(ctx context.Context, service, scheme string) ([]string, error) {
	if c.cfg.DiscoverySRVName != "" {
		service += "-" + c.cfg.DiscoverySRVName
	}
	_, records, err := c.cfg.LookupSRV(ctx, service, "tcp", c.cfg.DiscoverySRV)
	var urls []string
	for _, r := range records {
		host := net.JoinHostPort(strings.TrimSuffix(r.Target, "."), fmt.Sprint(r.Port))
		urls = append(urls, scheme+"://"+host)
	}
	return urls, err
}
