package s3

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/snapshotd/snapshotd/storage/driver"
)

// Parameters that this package reads itself; the others are of gocloud.dev's configuration of the SDK.
const (
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
	conditionalParam     = "conditional_writes"
	maxPartsParam        = "max_parts"
)

// ownParams are unknown to gocloud.dev's configuration.
var ownParams = []string{
	pathStyleParam, legacyPathStyleParam, disableHTTPSParam, accelerateParam, sseTypeParam, kmsKeyParam,
	storageClassParam, tagsParam, lockModeParam, lockDaysParam, caCertParam, proxyParam, conditionalParam,
	maxPartsParam,
}

// defaultMaxParts is how many parts of an upload S3 takes.
const defaultMaxParts = 10_000

const (
	endpointParam     = "endpoint"
	immutableParam    = "hostname_immutable"
	requestSumsParam  = "request_checksum_calculation"
	responseSumsParam = "response_checksum_validation"
)

var params = driver.Params{
	"region":                nil,
	endpointParam:           checkEndpoint,
	"profile":               nil,
	"role":                  checkRole,
	"anonymous":             driver.CheckBool,
	"dualstack":             driver.CheckBool,
	"fips":                  driver.CheckBool,
	immutableParam:          driver.CheckBool,
	"rate_limiter_capacity": driver.IntBetween(0, 1<<31-1),
	requestSumsParam:        driver.OneOf("when_supported", "when_required"),
	responseSumsParam:       driver.OneOf("when_supported", "when_required"),
	pathStyleParam:          driver.CheckBool,
	legacyPathStyleParam:    driver.CheckBool,
	disableHTTPSParam:       driver.CheckBool,
	accelerateParam:         driver.CheckBool,
	sseTypeParam:            driver.OneOf("AES256", "aws:kms", "aws:kms:dsse"),
	kmsKeyParam:             nil,
	storageClassParam:       checkStorageClass,
	tagsParam:               checkTags,
	lockModeParam:           driver.OneOf("governance", "compliance"),
	lockDaysParam:           driver.IntBetween(1, 36500),
	caCertParam:             driver.CheckFile,
	proxyParam:              checkProxy,
	conditionalParam:        driver.CheckBool,
	maxPartsParam:           driver.IntBetween(1, defaultMaxParts),
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

func checkRole(v string) error {
	if !strings.HasPrefix(v, "arn:") {
		return errors.New("is not an ARN, which begins with 'arn:'")
	}
	return nil
}

var (
	classPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	tagPattern   = regexp.MustCompile(`^[\pL\pN\pZ_.:/+@-]*$`)
)

// checkStorageClass takes any name, since servers have classes of their own, except those whose objects cannot be read
// at once: manifests must be.
func checkStorageClass(v string) error {
	switch {
	case !classPattern.MatchString(v):
		return fmt.Errorf("is %q, which is not the name of a storage class such as STANDARD_IA", v)
	case v == "GLACIER" || v == "DEEP_ARCHIVE":
		const instead = "take GLACIER_IR, or a lifecycle rule for old objects"
		return fmt.Errorf("is %q, whose objects cannot be read at once; %s", v, instead)
	}
	return nil
}

func checkTags(v string) error {
	_, err := parseTags(v)
	return err
}

// parseTags reads key=value,key=value, within the limits of S3.
func parseTags(v string) (url.Values, error) {
	tags := url.Values{}
	if v == "" {
		return tags, nil
	}
	for pair := range strings.SplitSeq(v, ",") {
		key, value, ok := strings.Cut(pair, "=")
		switch {
		case !ok || key == "" || len(key) > 128 || len(value) > 256 || !tagPattern.MatchString(key+value):
			return nil, fmt.Errorf("has %.300q, which is not KEY=VALUE of letters, digits, spaces and _.:/+-@", pair)
		case tags.Has(key):
			return nil, fmt.Errorf("has %q twice", key)
		}
		tags.Set(key, value)
	}
	if len(tags) > 10 {
		return nil, fmt.Errorf("has %d tags; S3 takes 10", len(tags))
	}
	return tags, nil
}

// checkLock refuses half a lock, and one without checksums.
func checkLock(params url.Values) error {
	switch mode, days := params.Has(lockModeParam), params.Has(lockDaysParam); {
	case mode != days:
		return fmt.Errorf("parameters %q and %q are needed together", lockModeParam, lockDaysParam)
	case mode && strings.EqualFold(params.Get(requestSumsParam), "when_required"):
		return errors.New("object lock needs the checksums that request_checksum_calculation=when_required leaves out")
	}
	return nil
}
