package daemon

import (
	"fmt"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
)

// No drill of the service could end an alert on the age of the last proof.
func TestAClusterWithoutAnIdentityHasNoLastProof(t *testing.T) {
	t.Parallel()
	j := newJournaled(t, embedded.StartEtcd(t))
	j.write(t, fmt.Sprintf("reconcile_interval: 1s\ndefaults:\n  etcd: {endpoints: [%q]}\n  lock_ttl: 2s\n"+
		"  backends: [{name: local, url: \"file://%s\"}]\nclusters:\n  - {name: plain}\n"+
		"  - {name: sealed, encryption: {recipients: [%s]}}\n", j.etcd, j.backend, newRecipient(t)))
	s := j.serve(t)
	for _, name := range []string{"plain", "sealed"} {
		eventually(t, name+" is reconciled", func() bool {
			n := metric(s.telemetry, fmt.Sprintf("snapshotd_reconciles_total{backend=\"local\",cluster=%q,result=\"success\"}", name))
			return n != "" && n != "0"
		})
	}
	proven := func(name string) string {
		return metric(s.telemetry, fmt.Sprintf("snapshotd_last_proven_restore_timestamp_seconds{cluster=%q}", name))
	}
	if proven("plain") != "0" || proven("sealed") != "" {
		t.Errorf("the last proof of the plain cluster is %q, and of the encrypted one %q", proven("plain"), proven("sealed"))
	}
}
