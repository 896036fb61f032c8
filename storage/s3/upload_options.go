package s3

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager/types"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// uploadOptions are the settings of the URL for every object that is stored.
type uploadOptions struct {
	sse      types.ServerSideEncryption
	kmsKey   string
	class    string
	tags     string // as S3 takes them: a query
	lockMode string // GOVERNANCE or COMPLIANCE; empty without a lock
	lockDays int
	maxParts int64
}

// uploadOptionsOf takes them from parameters that were checked.
func uploadOptionsOf(params url.Values) uploadOptions {
	o := uploadOptions{
		kmsKey: params.Get(kmsKeyParam), class: params.Get(storageClassParam), maxParts: defaultMaxParts,
		lockMode: strings.ToUpper(params.Get(lockModeParam)),
	}
	for _, sse := range s3types.ServerSideEncryption("").Values() {
		if strings.EqualFold(string(sse), params.Get(sseTypeParam)) {
			o.sse = types.ServerSideEncryption(sse)
		}
	}
	o.lockDays, _ = strconv.Atoi(params.Get(lockDaysParam))
	if n, err := strconv.ParseInt(params.Get(maxPartsParam), 10, 64); err == nil {
		o.maxParts = n
	}
	if tags, err := parseTags(params.Get(tagsParam)); err == nil {
		o.tags = tags.Encode()
	}
	return o
}

// apply sets the options of one upload; the lock's time runs from now.
func (o uploadOptions) apply(req *transfermanager.UploadObjectInput, now time.Time) {
	req.ServerSideEncryption = o.sse
	req.StorageClass = types.StorageClass(o.class)
	if o.kmsKey != "" {
		req.SSEKMSKeyID = &o.kmsKey
	}
	if o.tags != "" {
		req.Tagging = &o.tags
	}
	if o.lockMode != "" {
		until := now.AddDate(0, 0, o.lockDays)
		req.ObjectLockMode, req.ObjectLockRetainUntilDate = types.ObjectLockMode(o.lockMode), &until
	}
}
