package s3

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"strings"
)

func checkEndpoint(v string) error {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("is not a URL such as https://HOST:PORT")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("is more than a URL such as https://HOST:PORT")
	}
	return nil
}

// checkPlace refuses an endpoint at which the bucket cannot be: the client puts the bucket's name into the path or
// before the host by itself.
func (s *Store) checkPlace() error {
	u, err := url.Parse(s.params.Get(endpointParam))
	if err != nil || u.Host == "" {
		return nil //nolint:nilerr // the client says so
	}
	wrong := func(why string) error { return fmt.Errorf("parameter %q %s", endpointParam, why) }
	if path.Base(u.Path) == s.bucket {
		u.Path = strings.TrimSuffix(path.Dir(u.Path), "/")
		return wrong("ends with the bucket; write it without: " + u.String())
	}
	rest, inHost := strings.CutPrefix(strings.ToLower(u.Host), s.bucket+".")
	if inHost && strings.HasPrefix(rest, "s3") && strings.HasSuffix(strings.ToLower(u.Hostname()), ".amazonaws.com") {
		u.Host = rest
		return wrong("has the bucket in its host; write it without: " + u.String())
	}
	if net.ParseIP(u.Hostname()) != nil && !s.pathStyle() && !s.isSet(immutableParam) {
		return wrong("is an IP address, before which no bucket's name can stand; add use_path_style=true")
	}
	return nil
}

// bucketInHost reports whether the endpoint's host begins with the bucket's name, which may or may not be a mistake.
func (s *Store) bucketInHost() bool {
	u, err := url.Parse(s.params.Get(endpointParam))
	return err == nil && strings.HasPrefix(strings.ToLower(u.Host), s.bucket+".")
}
