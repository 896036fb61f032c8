package telemetry_test

import (
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/telemetry"
)

// The journal of a cluster may not answer. Those of other clusters are added and removed meanwhile.
func TestAJournalIsAskedBesideChangesOfTheClusters(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	tel.AddJournal(t.Context(), "prod", func() telemetry.JournalState {
		changed := make(chan struct{})
		go func() {
			defer close(changed)
			tel.AddJournal(t.Context(), "other", func() telemetry.JournalState { return telemetry.JournalState{} }, nil, nil)
			tel.DropJournal("prod")
		}()
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Error("the journal of a cluster cannot be added while that of another one is asked")
		}
		return telemetry.JournalState{LocalBytes: 7}
	}, nil, nil)
	const local = "snapshotd_journal_local_bytes{"
	if got, want := only(scrape(t, tel, ""), local), local+`cluster="prod"} 7`+"\n"; got != want {
		t.Errorf("at first there is\n%s", got)
	}
	if got, want := only(scrape(t, tel, ""), local), local+`cluster="other"} 0`+"\n"; got != want {
		t.Errorf("then there is\n%s", got)
	}
}
