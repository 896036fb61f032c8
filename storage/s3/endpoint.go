package s3

import (
	"fmt"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
)

// checkPlace refuses an endpoint at which the bucket cannot be: the client puts the bucket's name into the path or
// before the host by itself.
func (s *Store) checkPlace() error {
	u, err := url.Parse(s.params.Get(endpointParam))
	if err != nil || u.Host == "" {
		return nil //nolint:nilerr // the client says so
	}
	wrong := func(why string) error { return fmt.Errorf("parameter %q %s", endpointParam, why) }
	switch before, behind, found := cutBucket(u.Path, s.bucket); {
	case found && behind == "":
		u.Path = before
		return wrong("ends with the bucket; write it without: " + u.String())
	case found && !s.isSet(immutableParam):
		u.Path = before
		return wrong(fmt.Sprintf("has the bucket in its path; write it without: %s, and what is behind the bucket as "+
			"prefix=%s/; for a server that is itself at this path, add hostname_immutable=true", u, behind))
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

// apiName matches the last names in the paths of servers that share a host with others, such as /storage/v1/s3.
var apiName = regexp.MustCompile(`^(s3.*|api|v[0-9]+)$`)

// cutBucket takes the path of an endpoint apart around the bucket, when it stands where it does in the URL of an
// object: at the begin of the path, behind the path of a server, or at the end. A path that goes on with the name of an
// API is the server's, whatever it begins with.
func cutBucket(p, bucket string) (before, behind string, found bool) {
	names := strings.Split(strings.Trim(path.Clean("/"+p), "/"), "/")
	for i, name := range names {
		after := names[i+1:]
		begins := i == 0 || apiName.MatchString(names[i-1])
		if name == bucket && (len(after) == 0 || begins && !slices.ContainsFunc(after, apiName.MatchString)) {
			return strings.TrimSuffix("/"+strings.Join(names[:i], "/"), "/"), strings.Join(after, "/"), true
		}
	}
	return "", "", false
}

// bucketInHost reports whether the endpoint's host begins with the bucket's name, which may or may not be a mistake.
func (s *Store) bucketInHost() bool {
	u, err := url.Parse(s.params.Get(endpointParam))
	return err == nil && strings.HasPrefix(strings.ToLower(u.Host), s.bucket+".")
}
