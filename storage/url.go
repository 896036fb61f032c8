package storage

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/snapshotd/snapshotd/storage/driver"
	"github.com/snapshotd/snapshotd/storage/file"
	"github.com/snapshotd/snapshotd/storage/s3"
)

// kinds has the kind of storage of each URL scheme.
var kinds = map[string]driver.Kind{
	"file": file.Kind,
	"s3":   s3.Kind,
}

// prefixParam is the parameter that all kinds know.
const prefixParam = "prefix"

// NameOf returns a name for the backend at a URL that nobody has given one: the directory or bucket, without
// parameters.
func NameOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || u.Host+u.Path == "" {
		return "--from"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// parseURL returns the kind and location of a URL. Its errors do not repeat the URL: people put secrets into them, too.
func parseURL(raw string) (driver.Kind, driver.Location, error) {
	fail := func(format string, args ...any) (driver.Kind, driver.Location, error) {
		return driver.Kind{}, driver.Location{}, fmt.Errorf("its URL "+format, args...)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return fail("cannot be read; write it as %s", examples(" or "))
	}
	if u.User != nil {
		return fail("has a user or password; credentials come from the environment or a profile")
	}
	if u.Fragment != "" {
		return fail("has a fragment; write '#' as %%23")
	}
	kind, known := kinds[u.Scheme]
	switch {
	case u.Scheme == "" && path.IsAbs(raw):
		return fail("has no scheme; write it as file://%s", path.Clean(u.Path))
	case u.Scheme == "":
		return fail("has no scheme; write it as %s", examples(" or "))
	case !known:
		known := strings.Join(slices.Sorted(maps.Keys(kinds)), " and ")
		return fail("has the scheme %q; %s are known: %s", u.Scheme, known, examples(", "))
	}
	loc := driver.Location{URL: u}
	if loc.Params, err = parseParams(u, kind.Params); err != nil {
		return kind, loc, err
	}
	loc.Prefix, err = cleanPrefix(loc.Params.Get(prefixParam))
	loc.Params.Del(prefixParam)
	return kind, loc, err
}

// examples returns a URL of each kind.
func examples(sep string) string {
	var all []string
	for _, scheme := range slices.Sorted(maps.Keys(kinds)) {
		all = append(all, kinds[scheme].Example)
	}
	return strings.Join(all, sep)
}

func parseParams(u *url.URL, known driver.Params) (url.Values, error) {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("its URL has a query that cannot be read; write it as ?name=value&name=value")
	}
	for name, values := range q {
		check, ok := known[name]
		switch {
		case !ok && name != prefixParam:
			all := append(slices.Collect(maps.Keys(known)), prefixParam)
			slices.Sort(all)
			return nil, fmt.Errorf("parameter %q is not known for %s; allowed: %s", name, u.Scheme, strings.Join(all, ", "))
		case len(values) > 1:
			return nil, fmt.Errorf("parameter %q is given %d times", name, len(values))
		case values[0] == "":
			q.Del(name) // as if it was not there
			continue
		case check == nil:
			continue
		}
		if err := check(values[0]); err != nil {
			return nil, fmt.Errorf("parameter %q %w", name, err)
		}
	}
	return q, nil
}

// cleanPrefix makes a prefix end with '/', and not begin with one.
func cleanPrefix(prefix string) (string, error) {
	prefix = strings.Trim(prefix, "/")
	if prefix == "" {
		return "", nil
	}
	if err := checkPath(prefix); err != nil {
		return "", fmt.Errorf("parameter %q: %w", prefixParam, err)
	}
	return prefix + "/", nil
}
