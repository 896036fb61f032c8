package storage

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager/types"
)

// uploadOptions are what a backend wants of every object that is stored in it, beyond what gocloud.dev/blob knows.
type uploadOptions struct {
	class    string
	tags     string // as S3 takes them: a query
	lockMode string // GOVERNANCE or COMPLIANCE; empty without a lock
	lockDays int
}

func uploadOptionsOf(params url.Values) uploadOptions {
	o := uploadOptions{class: params.Get(storageClassParam), lockMode: strings.ToUpper(params.Get(lockModeParam))}
	o.lockDays, _ = strconv.Atoi(params.Get(lockDaysParam)) // it was checked, as the tags were
	if tags, err := parseTags(params.Get(tagsParam)); err == nil {
		o.tags = tags.Encode()
	}
	return o
}

// apply sets the options of one upload; the lock's time runs from now.
func (o uploadOptions) apply(req *transfermanager.UploadObjectInput, now time.Time) {
	if o.class != "" {
		req.StorageClass = types.StorageClass(o.class)
	}
	if o.tags != "" {
		req.Tagging = &o.tags
	}
	if o.lockMode != "" {
		until := now.AddDate(0, 0, o.lockDays)
		req.ObjectLockMode, req.ObjectLockRetainUntilDate = types.ObjectLockMode(o.lockMode), &until
	}
}

var (
	classPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	tagPattern   = regexp.MustCompile(`^[\pL\pN\pZ_.:/+@-]*$`)
)

// checkStorageClass takes any name, since servers have classes of their own, but for those whose objects cannot be read at
// once: manifests are.
func checkStorageClass(v string) error {
	switch {
	case !classPattern.MatchString(v):
		return fmt.Errorf("is %q, which is not the name of a storage class such as STANDARD_IA", v)
	case v == "GLACIER" || v == "DEEP_ARCHIVE":
		return fmt.Errorf("is %q, whose objects cannot be read at once; take GLACIER_IR, or a lifecycle rule for old objects", v)
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
		case !ok || key == "" || len(key) > 128 || len(value) > 256 || !tagPattern.MatchString(key) || !tagPattern.MatchString(value):
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

func checkDays(v string) error {
	if n, err := strconv.Atoi(v); err != nil || n < 1 || n > 36500 {
		return fmt.Errorf("is %q; allowed: 1 to 36500", v)
	}
	return nil
}

// checkLock says what a lock lacks.
func checkLock(params url.Values) error {
	switch mode, days := params.Has(lockModeParam), params.Has(lockDaysParam); {
	case mode != days:
		return fmt.Errorf("parameters %q and %q are needed together", lockModeParam, lockDaysParam)
	case mode && strings.EqualFold(params.Get("request_checksum_calculation"), "when_required"):
		return errors.New("object lock needs the checksums that request_checksum_calculation=when_required leaves out")
	}
	return nil
}
