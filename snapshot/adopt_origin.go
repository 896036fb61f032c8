package snapshot

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// originOf returns when and where another program took a snapshot, as far as its name says so in the manner of K3s.
func originOf(name string, modTime time.Time) (created time.Time, node string) {
	m := k3sName.FindStringSubmatch(name)
	if m == nil {
		return modTime.UTC(), ""
	}
	unix, err := strconv.ParseInt(m[2], 10, 64)
	if err != nil {
		return modTime.UTC(), ""
	}
	for _, prefix := range []string{"etcd-snapshot-", DefaultNamePrefix + "-"} {
		if n, ok := strings.CutPrefix(m[1], prefix); ok {
			node = n
		}
	}
	return time.Unix(unix, 0).UTC(), node
}

// compressionOf returns how another program's file is compressed, by its name.
func compressionOf(file string) Compression {
	if strings.HasSuffix(file, zipSuffix) {
		return CompressionZip
	}
	return CompressionNone
}

// foreignLabels returns what K3s or RKE2 keep of a snapshot, as far as labels can hold it. They do without it, and so do we.
func (c *Cluster) foreignLabels(ctx context.Context, b Backend, file string) map[string]string {
	reader, ok := b.(MetadataReader)
	if !ok {
		return nil
	}
	in, err := reader.Metadata(ctx, c.key(file))
	doc, err := readAllSmall(b, c.key(file), in, err)
	if err != nil {
		if !isNotFound(err) {
			c.log.WarnContext(ctx, "labels of an adopted snapshot not read", "backend", b.Name(), "file", file, "error", err)
		}
		return nil
	}
	var all map[string]any
	if json.Unmarshal(doc, &all) != nil {
		return nil
	}
	labels := map[string]string{}
	for k, v := range all {
		text, ok := v.(string)
		if ok && len(labels) < MaxLabels && ValidateLabels(map[string]string{k: text}) == nil {
			labels[k] = text
		}
	}
	return labels
}
