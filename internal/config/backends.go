package config

import (
	"fmt"
	"net/url"
	"path"
	"strings"
)

func (v validator) backends(c *Cluster, at string) {
	seen := map[string]int{}
	for i, b := range c.Backends {
		here := fmt.Sprintf("%s[%d]", at, i)
		v.name(here+".name", b.Name)
		if first, twice := seen[b.Name]; twice {
			v.problem(here+".name", "%q is the name of backends[%d] already", b.Name, first)
		} else {
			seen[b.Name] = i
		}
		if _, err := place(b.URL, ""); err != nil {
			v.problem(here+".url", "%v", err)
		}
	}
}

// place returns what tells the keys of a cluster on a backend from all others: two that are equal would overwrite and
// forget each other's snapshots. Below one another is no harm, listings do not go deeper than their prefix.
func place(u URL, prefix string) (string, error) {
	p, err := url.Parse(u.Reveal())
	if err != nil {
		return "", fmt.Errorf("%q is not a URL; write it as file:///DIRECTORY or s3://BUCKET?region=REGION", u.String())
	}
	query, err := url.ParseQuery(p.RawQuery)
	if err != nil {
		return "", fmt.Errorf("%q has a query that cannot be read; write it as ?name=value&name=value", u.String())
	}
	prefix = query.Get("prefix") + prefix
	switch p.Scheme {
	case "file":
		if p.Host != "" && p.Host != "localhost" || !path.IsAbs(p.Path) || p.Path == "/" {
			return "", fmt.Errorf("%q does not name a directory; write it as file:///DIRECTORY, an absolute path after three slashes", u.String())
		}
		return "file:" + path.Join(p.Path, prefix), nil
	case "s3":
		if p.Host == "" {
			return "", fmt.Errorf("%q does not name a bucket; write it as s3://BUCKET?region=REGION", u.String())
		}
		if strings.Trim(p.Path, "/") != "" {
			return "", fmt.Errorf("%q has a path; write it as s3://%s?prefix=%s/", u.String(), p.Host, strings.Trim(p.Path, "/"))
		}
		endpoint := strings.ToLower(strings.TrimRight(query.Get("endpoint"), "/"))
		return "s3:" + endpoint + "/" + p.Host + "/" + prefix, nil
	default:
		return "", fmt.Errorf("%q has the scheme %q; file and s3 are known: file:///DIRECTORY, s3://BUCKET?region=REGION", u.String(), p.Scheme)
	}
}

// apart checks that no two backends keep the snapshots of a cluster, or of two, in the same place.
func (v validator) apart() {
	type user struct{ cluster, backend string }
	users := map[string]user{}
	for i, c := range v.Clusters {
		for j, b := range c.Backends {
			where, err := place(b.URL, *c.Prefix)
			if err != nil {
				continue // told already
			}
			first, taken := users[where]
			if !taken {
				users[where] = user{c.Name, b.Name}
				continue
			}
			v.problem(fmt.Sprintf("clusters[%d].backends[%d].url", i, j),
				"backend %q of cluster %q is the same place as backend %q of cluster %q; give one of them another URL or its cluster another prefix",
				b.Name, c.Name, first.backend, first.cluster)
		}
	}
}
