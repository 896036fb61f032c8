package daemon

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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

// Two tabs of a console ask at the same moment: one that was told that nothing is known would lose a finding that the other
// one shows.
func TestThoseWhoAskADiskAtATimeGetTheSameAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		answer := make(chan int64)
		s := &space{free: func() (int64, error) {
			asked.Add(1)
			return <-answer, nil
		}}
		got := make(chan int64)
		for range 3 {
			go func() { got <- s.bytes() }()
		}
		synctest.Wait()
		answer <- 7
		for range 3 {
			if n := <-got; n != 7 {
				t.Errorf("one of three is told %d", n)
			}
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("the disk was asked %d times at once", n)
		}

		begin := time.Now()
		for range 3 {
			if n := s.bytes(); n != -1 {
				t.Errorf("of a disk that does not answer, one is told %d", n)
			}
		}
		if n := asked.Load(); n != 2 {
			t.Errorf("a disk that does not answer was asked %d times", n-1)
		}
		if waited := time.Since(begin); waited != diskTimeout {
			t.Errorf("they waited for %v in all", waited)
		}
		answer <- 8
		synctest.Wait()
		go func() { got <- s.bytes() }()
		synctest.Wait()
		answer <- 9
		if n := <-got; n != 9 {
			t.Errorf("when it answers again, one is told %d", n)
		}
	})
}

func TestADiskThatFailsIsNotKnown(t *testing.T) {
	s := &space{free: func() (int64, error) { return 0, errors.New("stale file handle") }}
	if n := s.bytes(); n != -1 {
		t.Errorf("one is told %d", n)
	}
}
