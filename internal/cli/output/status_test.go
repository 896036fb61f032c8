package output

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// Only the replica that saves knows how far the save is. The others name it.
func TestStatusSaysHowFarASaveIsOrWhereItRuns(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	saving := &snapshotdv1.Snapshot{Name: "x", Node: "node-2", CreateTime: timestamppb.New(now.Add(-3 * time.Minute))}
	for want, c := range map[string]*snapshotdv1.Cluster{
		"-":                 {Name: "default"},
		"for 3m on node-2":  {Name: "default", Saving: saving},
		"for 3m":            {Name: "default", Saving: &snapshotdv1.Snapshot{Name: "x", CreateTime: saving.GetCreateTime()}},
		"1.0 MiB":           {Name: "default", Saving: saving, Progress: &snapshotdv1.Cluster_Progress{ReadBytes: 1 << 20}},
		"1.0 MiB of 64 MiB": {Name: "default", Saving: saving, Progress: &snapshotdv1.Cluster_Progress{ReadBytes: 1 << 20, TotalBytes: 64 << 20}},
	} {
		var b bytes.Buffer
		resp := &snapshotdv1.ListClustersResponse{Clusters: []*snapshotdv1.Cluster{c}, Time: timestamppb.New(now)}
		if err := StatusTable(&b, resp, Reach{}, false); err != nil {
			t.Fatal(err)
		}
		if line := strings.TrimSpace(strings.Split(b.String(), "\n")[1]); !strings.HasSuffix(line, "  "+want) {
			t.Errorf("the line of the cluster is %q, want %q at its end", line, want)
		}
	}
}
