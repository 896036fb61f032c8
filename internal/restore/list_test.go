package restore_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
)

// stock stores n snapshots, and returns the names, newest first.
func stock(t *testing.T, b *memory.Backend, n int) []string {
	t.Helper()
	var names []string
	for i := range n {
		names = append(names, store(t, b, time.Duration(i+1)*time.Hour))
	}
	return names
}

func namesOf(records []*snapshot.Record) (names []string) {
	for _, rec := range records {
		names = append(names, rec.Name)
	}
	return names
}

// One snapshot that cannot be read hides no other one.
func TestListGoesOnWithoutWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	denied := snapshot.ReasonBackendAccessDenied.New("get it").On("one")
	cold := snapshot.ReasonBackendUnavailable.New("403 InvalidObjectState").On("one")
	away := snapshot.ReasonBackendUnavailable.New("502").On("one")
	away.Retry = time.Second
	for name, why := range map[string]error{"denied": denied, "cold": cold, "away": away} {
		for _, suffix := range []string{".db", ".json"} {
			for limit, want := range map[int]int{0: 19, 1: 1, 3: 3} {
				t.Run(fmt.Sprint(name, suffix, limit), func(t *testing.T) {
					b := &faulty{Backend: memory.New("one", snapshot.BackendS3)}
					names := stock(t, b.Backend, 20)
					b.get = failOn(names[0]+suffix, why)
					l, err := restore.List(t.Context(), repository.New(repository.Config{Backend: b, Prefix: "default/"}), limit)
					if err != nil || len(l.Unread) != 1 || len(l.Damaged) > 0 || !slices.Equal(namesOf(l.Whole), names[1:want+1]) {
						t.Errorf("got %q, %v, %v, %v", namesOf(l.Whole), l.Damaged, l.Unread, err)
					}
				})
			}
		}
	}
}

// What is damaged is told apart from what could not be read.
func TestListTellsDamageApart(t *testing.T) {
	t.Parallel()
	b := &faulty{Backend: memory.New("one", snapshot.BackendS3)}
	names := stock(t, b.Backend, 3)
	b.Set("default/"+names[0]+".json", []byte("{"))
	b.get = failOn(names[1]+".db", snapshot.ReasonBackendAccessDenied.New("get it").On("one"))
	l, err := restore.List(t.Context(), repository.New(repository.Config{Backend: b, Prefix: "default/"}), 0)
	if err != nil || len(l.Damaged) != 1 || len(l.Unread) != 1 || !slices.Equal(namesOf(l.Whole), names[2:]) {
		t.Errorf("got %q, %v, %v, %v", namesOf(l.Whole), l.Damaged, l.Unread, err)
	}
}

// A backend that went away is not asked for thousands of snapshots, one after the other; one in which lasting errors
// follow each other is.
func TestListGivesUpOnABackendThatIsAway(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		retry  time.Duration
		asked  int
		unread int
		whole  int
	}{{time.Second, 8, 9, 0}, {0, 60, 60, 0}} {
		b := &faulty{Backend: memory.New("one", snapshot.BackendS3)}
		stock(t, b.Backend, 60)
		why := snapshot.ReasonBackendUnavailable.New("connection refused").On("one")
		why.Retry = tc.retry
		var mu sync.Mutex
		asked := 0
		b.get = func(string) error {
			mu.Lock()
			defer mu.Unlock()
			asked++
			return why
		}
		l, err := restore.List(t.Context(), repository.New(repository.Config{Backend: b, Prefix: "default/"}), 0)
		if err != nil || asked != tc.asked || len(l.Unread) != tc.unread || len(l.Whole) != tc.whole {
			t.Errorf("asked for %d; %d unread, %v", asked, len(l.Unread), err)
		}
		if last := l.Unread[len(l.Unread)-1].Error(); tc.retry > 0 && !strings.Contains(last, "52 older ones were not looked at") {
			t.Errorf("the last error is %q", last)
		}
	}
}
