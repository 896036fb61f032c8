package etcd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// DefaultDialTimeout is how long connecting and logging in may take.
const DefaultDialTimeout = 3 * time.Second

// DefaultLookupInterval is how long the members that SRV records named are taken for those of the cluster.
const DefaultLookupInterval = 5 * time.Minute

// Config says how to reach an etcd cluster. Endpoints or DiscoverySRV is needed; the rest is optional.
type Config struct {
	Endpoints []string // URLs or HOST:PORT; HOST:PORT is TLS when a CA or a certificate is given

	DiscoverySRV     string // domain whose SRV records name the members
	DiscoverySRVName string // appended to the service: _etcd-client-ssl-NAME._tcp

	CACert string // file with the CAs of the members' certificates, PEM; the system's when empty
	Cert   string // file with the client certificate, PEM
	Key    string // file with its key, PEM

	User     string
	Password string

	DialTimeout time.Duration // DefaultDialTimeout

	// LookupInterval is DefaultLookupInterval. A snapshot looks up the SRV records anew in any case.
	LookupInterval time.Duration

	// LookupSRV replaces the lookup of SRV records.
	LookupSRV func(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// tls reports whether a setting is there that only TLS uses.
func (c *Config) tls() bool { return c.CACert != "" || c.Cert != "" }

// validate returns which setting is wrong, and the right form. It reads no file and asks no name server.
func (c *Config) validate() error {
	errs := []error{c.validateEndpoints()}
	if (c.Cert == "") != (c.Key == "") {
		errs = append(errs, fmt.Errorf("etcd certificate %q and key %q: one is useless without the other; set both or none",
			c.Cert, c.Key))
	}
	if c.User == "" && c.Password != "" {
		errs = append(errs, errors.New("etcd user: there is a password and no user; set both or none"))
	}
	if c.User != "" && c.Password == "" {
		errs = append(errs, fmt.Errorf("etcd password: user %q has none; set it, or use a client certificate whose common "+
			"name is the user", c.User))
	}
	if c.DialTimeout < 0 {
		errs = append(errs, fmt.Errorf("etcd dial timeout: %s is negative", c.DialTimeout))
	}
	return errors.Join(errs...)
}

func (c *Config) validateEndpoints() error {
	switch {
	case len(c.Endpoints) == 0 && c.DiscoverySRV == "":
		return errors.New("etcd endpoints: there are none; give the members' URLs, such as https://10.0.0.1:2379, or a " +
			"domain with SRV records")
	case len(c.Endpoints) > 0 && c.DiscoverySRV != "":
		return fmt.Errorf("etcd endpoints: %q and the SRV records of %q are both given; keep one",
			c.Endpoints, c.DiscoverySRV)
	case c.DiscoverySRV == "" && c.DiscoverySRVName != "":
		return fmt.Errorf("etcd discovery SRV name: %q needs a domain; set the discovery SRV, too", c.DiscoverySRVName)
	}
	_, err := parseEndpoints(c.Endpoints, c.tls())
	return err
}
