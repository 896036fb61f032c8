package daemon

import (
	"testing"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/server/status"
)

// Commands are made of this: a wrong one would plan a restore that trusts any manifest, or looks in another folder.
func TestHowSnapshotsAreStoredIsToldAsItIsConfigured(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  config.Cluster
		want status.Store
	}{
		"by default":      {config.Cluster{Prefix: new("prod/")}, status.Store{Prefix: "prod/"}},
		"no folder":       {config.Cluster{Prefix: new("")}, status.Store{}},
		"encrypted":       {config.Cluster{Prefix: new("p/"), Encryption: config.Encryption{RecipientsFile: "r"}}, status.Store{Prefix: "p/", Encrypted: true}},
		"with identities": {config.Cluster{Prefix: new("p/"), Encryption: config.Encryption{IdentityFiles: []string{"i"}}}, status.Store{Prefix: "p/", Decrypts: true}},
		"signed":          {config.Cluster{Prefix: new("p/"), Signing: config.Signing{KeyFile: "k"}}, status.Store{Prefix: "p/", Signed: true}},
		"signed, or not":  {config.Cluster{Prefix: new("p/"), Signing: config.Signing{KeyFile: "k", AcceptUnsigned: true}}, status.Store{Prefix: "p/"}},
	} {
		if got := storeOf(&c.cfg); got != c.want {
			t.Errorf("%s: it is %+v, want %+v", name, got, c.want)
		}
	}
}
