package storage

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/snapshotd/snapshotd/snapshot"
)

// location is a backend's URL, taken apart.
type location struct {
	kind   snapshot.BackendKind
	dir    string     // of a directory, absolute and clean
	bucket string     // of a bucket
	prefix string     // empty, or ends with '/'
	params url.Values // without prefix
}

// The parameters of the URLs, with what checks their values; nil takes any.
var (
	fileParams = map[string]func(string) error{prefixParam: nil}
	s3Params   = map[string]func(string) error{
		prefixParam:                    nil,
		"region":                       nil,
		endpointParam:                  checkEndpoint,
		"profile":                      nil,
		"role":                         checkRole,
		"anonymous":                    checkBool,
		"dualstack":                    checkBool,
		"fips":                         checkBool,
		"hostname_immutable":           checkBool,
		"rate_limiter_capacity":        checkNumber,
		"request_checksum_calculation": oneOf("when_supported", "when_required"),
		"response_checksum_validation": oneOf("when_supported", "when_required"),
		pathStyleParam:                 checkBool,
		legacyPathStyleParam:           checkBool,
		disableHTTPSParam:              checkBool,
		accelerateParam:                checkBool,
		sseTypeParam:                   oneOf("AES256", "aws:kms", "aws:kms:dsse"),
		kmsKeyParam:                    nil,
		storageClassParam:              checkStorageClass,
		tagsParam:                      checkTags,
		lockModeParam:                  oneOf("governance", "compliance"),
		lockDaysParam:                  checkDays,
		caCertParam:                    checkFile,
		proxyParam:                     checkProxy,
	}
)

const (
	prefixParam          = "prefix"
	endpointParam        = "endpoint"
	pathStyleParam       = "use_path_style"
	legacyPathStyleParam = "s3ForcePathStyle"
	disableHTTPSParam    = "disable_https"
	accelerateParam      = "accelerate"
	sseTypeParam         = "ssetype"
	kmsKeyParam          = "kmskeyid"
	storageClassParam    = "storage_class"
	tagsParam            = "tags"
	lockModeParam        = "object_lock_mode"
	lockDaysParam        = "object_lock_days"
	caCertParam          = "ca_cert"
	proxyParam           = "proxy"
)

// NameOf returns a name for the backend at a URL that nobody has given one: the directory or bucket, without what the
// parameters say of it.
func NameOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || u.Host+u.Path == "" {
		return "--from"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// parseURL takes a URL apart. Its errors do not repeat the URL: people put secrets into them, too.
func parseURL(raw string) (*location, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("its URL cannot be read; write it as file:///DIRECTORY or s3://BUCKET?region=REGION")
	}
	if u.User != nil {
		return nil, errors.New("its URL has a user or password; credentials come from the environment or a profile")
	}
	if u.Fragment != "" {
		return nil, errors.New("its URL has a fragment; write '#' as %23")
	}
	loc := &location{}
	params := fileParams
	switch u.Scheme {
	case "file":
		loc.kind = snapshot.BackendLocal
		if u.Host != "" && u.Host != "localhost" || !path.IsAbs(u.Path) || path.Clean(u.Path) == "/" {
			return nil, errors.New("its URL does not name a directory; write it as file:///DIRECTORY, an absolute path after three slashes")
		}
		loc.dir = path.Clean(u.Path)
	case "s3":
		loc.kind, loc.bucket, params = snapshot.BackendS3, u.Host, s3Params
		if u.Host == "" {
			return nil, errors.New("its URL does not name a bucket; write it as s3://BUCKET?region=REGION")
		}
		if p := strings.Trim(u.Path, "/"); p != "" {
			return nil, fmt.Errorf("its URL has a path; write it as s3://%s?prefix=%s/", u.Host, p)
		}
	case "":
		if path.IsAbs(raw) {
			return nil, fmt.Errorf("its URL has no scheme; write it as file://%s", path.Clean(u.Path))
		}
		return nil, errors.New("its URL has no scheme; write it as file:///DIRECTORY, with an absolute path, or s3://BUCKET?region=REGION")
	default:
		return nil, fmt.Errorf("its URL has the scheme %q; file and s3 are known: file:///DIRECTORY, s3://BUCKET?region=REGION", u.Scheme)
	}
	if loc.params, err = parseParams(u, params); err != nil {
		return nil, err
	}
	if err := checkLock(loc.params); err != nil {
		return nil, err
	}
	loc.prefix, err = cleanPrefix(loc.params.Get(prefixParam))
	loc.params.Del(prefixParam)
	return loc, err
}

func parseParams(u *url.URL, known map[string]func(string) error) (url.Values, error) {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("its URL has a query that cannot be read; write it as ?name=value&name=value")
	}
	for name, values := range q {
		check, ok := known[name]
		switch {
		case !ok:
			return nil, fmt.Errorf("parameter %q is not known for %s; allowed: %s", name, u.Scheme, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
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

func checkBool(v string) error {
	if _, err := strconv.ParseBool(v); err != nil {
		return fmt.Errorf("is %q; allowed: true, false", v)
	}
	return nil
}

func checkNumber(v string) error {
	if _, err := strconv.ParseUint(v, 10, 31); err != nil {
		return fmt.Errorf("is %q, which is not a number", v)
	}
	return nil
}

func oneOf(allowed ...string) func(string) error {
	return func(v string) error {
		if slices.ContainsFunc(allowed, func(a string) bool { return strings.EqualFold(a, v) }) {
			return nil
		}
		return fmt.Errorf("is %q; allowed: %s", v, strings.Join(allowed, ", "))
	}
}

func checkRole(v string) error {
	if !strings.HasPrefix(v, "arn:") {
		return errors.New("is not an ARN, which begins with 'arn:'")
	}
	return nil
}

func checkFile(v string) error {
	if !path.IsAbs(v) {
		return fmt.Errorf("is %q, which is not the absolute path of a file", v)
	}
	return nil
}

// checkProxy does not repeat what it was given: it may have a password in it.
func checkProxy(v string) error {
	u, err := url.Parse(v)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" || u.Host == "":
		return errors.New("is not a URL such as http://HOST:PORT")
	case u.User != nil:
		return errors.New("has a user or password in it; a proxy that wants them goes into HTTPS_PROXY")
	}
	return nil
}

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
