package schedule_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/netresearch/go-cron"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/schedule"
	"github.com/snapshotd/snapshotd/snapshot"
)

// memory is the state that replicas share: the state of schedules, and the leader.
type memory struct {
	mu    sync.Mutex
	last  map[string]time.Time
	terms int
	down  error
	full  error // of writes alone
}

type term struct {
	*memory
	quiet
	number int
}

// quiet is a term that no other replica asks for.
type quiet struct{}

func (quiet) Asked(context.Context) (bool, error) { return false, nil }
func (quiet) GiveWay(context.Context) error       { return nil }

func newMemory() *memory { return &memory{last: map[string]time.Time{}} }

func (m *memory) newTerm() *term {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.terms++
	return &term{memory: m, number: m.terms}
}

func (t *term) Leads(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.number != t.terms {
		return snapshot.ErrLocked
	}
	return t.down
}

func (t *term) LastDue(_ context.Context, name string) (time.Time, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last[name], t.down
}

func (t *term) PutLastDue(_ context.Context, name string, due time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.number != t.terms {
		return snapshot.ErrLocked
	}
	err := cmp.Or(t.down, t.full)
	if err == nil {
		t.last[name] = due
	}
	return err
}

// saves notes the requests, and answers: a request that has failed gets the same failure again, as from the service.
type saves struct {
	mu     sync.Mutex
	ids    []string
	at     []time.Time
	failed map[string]error
	answer func(ctx context.Context, n int) (snapshot.State, error)
}

func (s *saves) save(ctx context.Context, req cluster.SaveRequest) (cluster.SaveResult, error) {
	s.mu.Lock()
	if err := s.failed[req.RequestID]; err != nil {
		s.mu.Unlock()
		return cluster.SaveResult{Snapshot: saved(req.RequestID, snapshot.StateFailed), Repeated: true}, err
	}
	s.ids, s.at = append(s.ids, req.RequestID), append(s.at, time.Now())
	n := len(s.ids)
	s.mu.Unlock()
	state, err := snapshot.StateReady, error(nil)
	if s.answer != nil {
		state, err = s.answer(ctx, n)
	}
	if r := snapshot.ReasonOf(err); state == snapshot.StateFailed &&
		(r == snapshot.ReasonEtcdUnavailable || r == snapshot.ReasonBackendUnavailable) {
		s.mu.Lock()
		if s.failed == nil {
			s.failed = map[string]error{}
		}
		s.failed[req.RequestID] = err
		s.mu.Unlock()
	}
	return cluster.SaveResult{Snapshot: saved(req.RequestID, state)}, err
}

func saved(name string, state snapshot.State) *snapshot.Snapshot {
	return snapshot.WithStatus(snapshot.Snapshot{Name: name}, snapshot.Status{State: state})
}

func (s *saves) times() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, t := range s.at {
		all = append(all, t.UTC().Format("15:04:05"))
	}
	return all
}

func spec(t *testing.T, text, zone string) schedule.Spec {
	t.Helper()
	s, err := schedule.ParseSpec(text, zone)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func runs(s *saves, all ...schedule.Schedule) schedule.Runs {
	return schedule.Runs{Schedules: all, Save: s.save}
}

// leadFor leads for a while.
func leadFor(t *testing.T, m *memory, r schedule.Runs, d time.Duration) {
	t.Helper()
	leadCluster(t, "default", m, r, d)
}

func leadCluster(t *testing.T, cluster string, m *memory, r schedule.Runs, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	schedule.New(schedule.Config{
		Cluster: cluster, Runs: []schedule.Runs{r},
		Interval: every(time.Hour), Reconcile: func(context.Context) error { return nil },
		Lead: func(ctx context.Context, lead func(context.Context, schedule.Term)) error {
			lead(ctx, m.newTerm())
			return ctx.Err()
		},
	}).Run(ctx)
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("saved at %q, want %q", got, want)
	}
}

// The clock of a bubble begins at midnight UTC.
func TestSavesWhenDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s saves
		leadFor(t, newMemory(), runs(&s, schedule.Schedule{Name: "a", Spec: spec(t, "*/20 * * * *", "")}),
			time.Hour+time.Minute)
		want(t, s.times(), "00:20:00", "00:40:00", "01:00:00")
		if s.ids[0] != fmt.Sprintf("schedule/a/%d", s.at[0].Unix()) {
			t.Errorf("request id %q", s.ids[0])
		}
	})
}

func TestSchedulesOfOneClusterDoNotHoldEachOtherUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := saves{answer: func(_ context.Context, n int) (snapshot.State, error) {
			if n == 1 {
				time.Sleep(5 * time.Minute)
				return snapshot.StateFailed, snapshot.ReasonBackendUnavailable.New("save")
			}
			return snapshot.StateReady, nil
		}}
		leadFor(t, newMemory(), runs(&s,
			schedule.Schedule{Name: "a", Spec: spec(t, "10 * * * *", "")}, schedule.Schedule{
				Name: "b", Spec: spec(t, "@every 12m", ""),
			}), 30*time.Minute)
		want(t, s.times(), "00:10:00", "00:15:00", "00:15:05", "00:24:00") // a, b late, a again, b
	})
}

func TestMissedRunIsCaughtUpOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s saves
		m, r := newMemory(), runs(&s, schedule.Schedule{Name: "a", Spec: spec(t, "@hourly", "")}, schedule.Schedule{
			Name: "b", Spec: spec(t, "@every 90m", ""),
		})
		leadFor(t, m, r, 10*time.Minute)
		time.Sleep(4*time.Hour + 10*time.Minute) // no replica leads
		leadFor(t, m, r, 41*time.Minute)
		want(t, s.times(), "04:20:00", "04:20:00", "04:30:00", "05:00:00")
		last := time.Date(2000, 1, 1, 4, 0, 0, 0, time.UTC).Unix()
		if s.ids[0] != fmt.Sprintf("schedule/b/%d", last-3600) || s.ids[1] != fmt.Sprintf("schedule/a/%d", last) {
			t.Errorf("request ids %q", s.ids)
		}
	})
}

func TestRunThatFailsIsRepeatedUntilItIsDueAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended []string
		s := saves{answer: func(_ context.Context, n int) (snapshot.State, error) {
			if n <= 4 {
				return snapshot.StateFailed, snapshot.ReasonEtcdUnavailable.New("save")
			}
			return snapshot.StateReady, nil
		}}
		r := runs(&s, schedule.Schedule{Name: "a", Spec: spec(t, "* * * * *", "")})
		r.Ran = func(_ context.Context, _ string, due time.Time, res schedule.Result) {
			ended = append(ended, due.Format("15:04 ")+string(res))
		}
		leadFor(t, newMemory(), r, 3*time.Minute+30*time.Second)
		want(t, s.times(), "00:01:00", "00:01:05", "00:01:15", "00:01:35", "00:02:00", "00:03:00")
		if want := []string{"00:01 failed", "00:02 success", "00:03 success"}; !slices.Equal(ended, want) {
			t.Errorf("ended %q, want %q", ended, want)
		}
		seen := map[string]bool{}
		for _, id := range s.ids {
			if seen[id] {
				t.Errorf("the outcome of %s is a failure, and it was asked for again", id)
			}
			seen[id] = true
		}
	})
}

// A backend may take an upload fallback before the next attempt: then the run has succeeded.
func TestFailedAttemptThatWasDeliveredMeanwhileEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s saves
		s.answer = func(context.Context, int) (snapshot.State, error) {
			return snapshot.StateFailed, snapshot.ReasonBackendUnavailable.New("save")
		}
		time.AfterFunc(time.Hour+20*time.Second, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			for id := range s.failed {
				delete(s.failed, id)
			}
			s.answer = nil // the request is answered with the snapshot that was delivered
		})
		var ended []schedule.Result
		r := runs(&s, schedule.Schedule{Name: "a", Spec: spec(t, "@hourly", "")})
		r.Ran = func(_ context.Context, _ string, _ time.Time, res schedule.Result) { ended = append(ended, res) }
		leadFor(t, newMemory(), r, 90*time.Minute)
		if want := []schedule.Result{schedule.ResultSuccess}; !slices.Equal(ended, want) {
			t.Errorf("ended %q, want %q", ended, want)
		}
		if last := len(s.ids) - 1; last != 3 || s.ids[last] != s.ids[last-1] {
			t.Errorf("request ids %q", s.ids)
		}
	})
}

// A save without an outcome, or one that could not begin, is requested again under its id: the replica that began it
// may have ended it.
func TestRunWithoutAnOutcomeKeepsItsRequest(t *testing.T) {
	for _, reason := range []snapshot.Reason{snapshot.ReasonSaveInProgress, snapshot.ReasonInterrupted,
		snapshot.ReasonConflict, snapshot.ReasonCancelled} {
		synctest.Test(t, func(t *testing.T) {
			s := saves{answer: func(_ context.Context, n int) (snapshot.State, error) {
				if n < 3 {
					return snapshot.StateFailed, reason.New("save")
				}
				return snapshot.StateReady, nil
			}}
			leadFor(t, newMemory(), runs(&s, schedule.Schedule{Name: "a", Spec: spec(t, "* * * * *", "")}), 90*time.Second)
			want(t, s.times(), "00:01:00", "00:01:05", "00:01:10")
			if s.ids[0] != s.ids[1] || s.ids[1] != s.ids[2] {
				t.Errorf("%s: request ids %q", reason, s.ids)
			}
		})
	}
}

func TestPartialSnapshotEndsARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := saves{answer: func(context.Context, int) (snapshot.State, error) {
			return snapshot.StatePartial, snapshot.ReasonBackendUnavailable.New("save")
		}}
		leadFor(t, newMemory(), runs(&s, schedule.Schedule{Name: "a", Spec: spec(t, "@hourly", "")}), 2*time.Hour-time.Minute)
		want(t, s.times(), "01:00:00")
	})
}

func TestRunThatTakesLongerThanUntilTheNextHasNotFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := saves{answer: func(context.Context, int) (snapshot.State, error) {
			time.Sleep(90 * time.Second)
			return snapshot.StateReady, nil
		}}
		var ended []string
		r := runs(&s, schedule.Schedule{Name: "a", Spec: spec(t, "* * * * *", "")})
		r.Ran = func(_ context.Context, _ string, due time.Time, res schedule.Result) {
			ended = append(ended, due.Format("15:04 ")+string(res))
		}
		leadFor(t, newMemory(), r, 5*time.Minute)
		want(t, s.times(), "00:01:00", "00:02:30", "00:04:00")
		if want := []string{"00:01 success", "00:02 success", "00:04 success"}; !slices.Equal(ended, want) {
			t.Errorf("ended %q, want %q", ended, want)
		}
	})
}

// A replica that leads no more asks for nothing, also when it does not know yet: it was paused.
func TestDeposedLeaderDoesNotSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s saves
		m := newMemory()
		time.AfterFunc(30*time.Second, func() { m.newTerm() })
		leadFor(t, m, runs(&s, schedule.Schedule{Name: "a", Spec: spec(t, "* * * * *", "")}), 5*time.Minute)
		want(t, s.times())
	})
}

// A save of the leader goes on after the end of its term; the next leader sends the same request.
func TestSaveOutlivesTheTermAndItsRunIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended error
		s := saves{answer: func(ctx context.Context, n int) (snapshot.State, error) {
			if n == 1 {
				time.Sleep(time.Minute)
				ended = ctx.Err()
			}
			return snapshot.StateReady, nil
		}}
		m, terms := newMemory(), 0
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		schedule.New(schedule.Config{
			Interval: every(time.Hour), Reconcile: func(context.Context) error { return nil },
			Runs: []schedule.Runs{runs(&s, schedule.Schedule{Name: "a", Spec: spec(t, "*/2 * * * *", "")})},
			Lead: func(ctx context.Context, lead func(context.Context, schedule.Term)) error {
				length := 130 * time.Second
				if terms++; terms > 1 {
					length = time.Hour
				}
				leading, end := context.WithTimeout(ctx, length)
				defer end()
				current := m.newTerm()
				time.AfterFunc(length, func() { m.newTerm() }) // another one, a short one
				lead(leading, current)
				return leading.Err()
			},
		}).Run(ctx)
		if ended != nil {
			t.Errorf("the save was ended with the term: %v", ended)
		}
		if len(s.ids) != 3 || s.ids[0] != s.ids[1] || s.ids[1] == s.ids[2] {
			t.Errorf("request ids %q", s.ids)
		}
	})
}

func TestCatalogThatIsDownIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s saves
		m := newMemory()
		m.down = errors.New("etcd has no leader")
		time.AfterFunc(62*time.Second, func() {
			m.mu.Lock()
			m.down = nil
			m.mu.Unlock()
		})
		leadFor(t, m, runs(&s, schedule.Schedule{Name: "a", Spec: spec(t, "* * * * *", "")}), 2*time.Minute+time.Second)
		want(t, s.times(), "00:02:00") // it began when its beginning could be written
	})
}

func TestRunInTheFutureDoesNotStopASchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s saves
		m := newMemory()
		m.last["a"] = time.Now().AddDate(1, 0, 0) // a replica's clock was wrong
		leadFor(t, m, runs(&s, schedule.Schedule{Name: "a", Spec: spec(t, "@hourly", "")}), 61*time.Minute)
		want(t, s.times(), "01:00:00")
	})
}

func TestJitterIsTheSameEverywhereAndDelaysByHalfTheIntervalAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := func(cluster string) []time.Time {
			var s saves
			r := runs(&s, schedule.Schedule{Name: "a", Spec: spec(t, "* * * * *", ""), Jitter: time.Hour})
			m := newMemory()
			m.last["a"] = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
			leadCluster(t, cluster, m, r, 10*time.Minute-time.Since(m.last["a"])%time.Minute)
			return s.at
		}
		differ := map[time.Duration]bool{}
		for _, when := range at("one") {
			late := time.Duration(when.Second())*time.Second + time.Duration(when.Nanosecond())
			differ[late] = true
			if late > 30*time.Second {
				t.Errorf("%v late", late)
			}
		}
		if len(differ) < 5 {
			t.Errorf("the delays are %v", differ)
		}
	})
}

func TestSpecsThatAreRefused(t *testing.T) {
	const form, never, ownZone, noZone = "write five fields", "is never due", "set time_zone instead", "is not a time zone"
	for _, c := range []struct{ text, zone, why string }{
		{"", "", form}, {"* * * *", "", form}, {"61 * * * *", "", form}, {"* * * * * *", "", form}, {"@reboot", "", form},
		{"@every 0s", "", form}, {"@every -1h", "", form}, {"@every -1d", "", form}, {"@every 1x", "", form}, {"@every 10ms", "", form},
		{"* * 30 2 *", "", never}, {"TZ=Europe/Berlin 0 0 * * *", "", ownZone}, {"CRON_TZ=UTC 0 0 * * *", "", ownZone},
		{"@daily", "Nowhere/Town", noZone}, {"@daily", "Local", noZone},
	} {
		if _, err := schedule.ParseSpec(c.text, c.zone); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%q in %q: %v, want %q", c.text, c.zone, err, c.why)
		}
	}
}

func TestEveryTakesDays(t *testing.T) {
	at := time.Date(2026, 7, 15, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{"@every 7d": 168 * time.Hour, "@every 1d12h": 36 * time.Hour} {
		if got := spec(t, text, "").Next(at).Sub(at); got != want {
			t.Errorf("%q is next due after %v, want %v", text, got, want)
		}
	}
}

func TestThePauseIsTheLongestBetweenRuns(t *testing.T) {
	at := time.Date(2026, 7, 15, 12, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"0 */2 1 * *": 31*day - 22*time.Hour, "0 3 1,2 * *": 30 * day, "@yearly": 365 * day, "* 8-17 * * 1-5": 62*time.Hour + time.Minute,
		"@every 90m": 90 * time.Minute, "0 * * * *": time.Hour, "0 3 * * *": 24 * time.Hour, "0 9-17 * * mon-fri": 64 * time.Hour,
		"0 3 * * mon-fri": 72 * time.Hour, "@weekly": 7 * day,
	} {
		if got := spec(t, text, "").Pause(at); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// A run in the hour that summer time skips is due after it. In the hour that comes twice when it ends, a run is due
// twice.
func TestRunsOfTheHoursInWhichSummerTimeChanges(t *testing.T) {
	for _, tc := range []struct {
		text, after string
		want        []string
	}{
		{"30 2 * * *", "2026-03-28T12:00:00Z", []string{"2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"}},
		{"30 3 * * *", "2026-03-28T12:00:00Z", []string{"2026-03-29T01:30:00Z", "2026-03-30T01:30:00Z"}},
		{"30 2 * * *", "2026-10-24T12:00:00Z", []string{"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"}},
		{"30 3 * * *", "2026-10-24T12:00:00Z", []string{"2026-10-25T02:30:00Z", "2026-10-26T02:30:00Z"}},
	} {
		at, err := time.Parse(time.RFC3339, tc.after)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for range tc.want {
			at = spec(t, tc.text, "Europe/Berlin").Next(at)
			got = append(got, at.Format(time.RFC3339))
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%q after %s: %q, want %q", tc.text, tc.after, got, tc.want)
		}
	}
}

// The next time is that of the library, from any moment of a minute, also around changes of summer time.
func TestTheNextTimeIsThatOfTheLibrary(t *testing.T) {
	parser := cron.MustNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor | cron.DowOrDom)
	chance := rand.New(rand.NewPCG(1, 2))
	for _, text := range []string{"* * * * *", "*/10 * * * *", "7 * * * *", "30 2 * * *", "0 3 1,15 * 1", "@weekly", "0 0 29 2 *"} {
		for _, name := range []string{"UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe"} {
			zone, err := time.LoadLocation(name)
			if err != nil {
				t.Fatal(err)
			}
			plain, err := parser.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			one := spec(t, text, name)
			for range 200 {
				at := time.Unix(1_750_000_000+chance.Int64N(60_000_000), chance.Int64N(3)*chance.Int64N(1_000_000_000))
				if got, want := one.Next(at), plain.Next(at.In(zone)); !got.Equal(want) {
					t.Fatalf("%q in %s after %s: %s, want %s", text, name, at, got, want)
				}
			}
			for at := time.Unix(1_750_000_000, 0).In(zone); at.Unix() < 1_810_000_000; at = at.Add(time.Hour) {
				_, change := at.ZoneBounds()
				if change.IsZero() || change.Sub(at) > time.Hour {
					continue
				}
				for second := change.Add(-5 * time.Minute); second.Before(change.Add(5 * time.Minute)); second = second.Add(time.Second) {
					if got, want := one.Next(second), plain.Next(second); !got.Equal(want) {
						t.Fatalf("%q in %s after %s: %s, want %s", text, name, second, got, want)
					}
				}
			}
		}
	}
}

// Latest gives the last time that counting from one time to the next gives, over the changes of summer time as well.
func TestMissedRunIsTheLastOfThoseThatWereDue(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for _, text := range []string{"* * * * *", "*/7 3 * * *", "30 2 * * *", "0 0 1,15 * 5", "@weekly", "@every 47m",
		"15 1-4 * 3,10 sun"} {
		for range 2 {
			s := spec(t, text, "Europe/Berlin")
			after := time.Date(2026, time.Month(1+rnd.IntN(12)), 1+rnd.IntN(28), rnd.IntN(24), rnd.IntN(60), rnd.IntN(60), 0,
				time.UTC)
			until := after.Add(time.Duration(rnd.Int64N(int64(20 * 24 * time.Hour))))
			var counted time.Time
			for next := s.Next(after); !next.After(until); next = s.Next(next) {
				counted = next
			}
			got, ok := s.Latest(after, until)
			if ok == counted.IsZero() || ok && !got.Equal(counted) {
				t.Errorf("%q in (%v, %v]: %v, %v, want %v", text, after, until, got, ok, counted)
			}
		}
	}
}

// A run that fails twice before it succeeds is one trace, which says so at its end.
func TestAllAttemptsAtARunAreOneTrace(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter)))
	t.Cleanup(func() { otel.SetTracerProvider(before) })
	synctest.Test(t, func(t *testing.T) {
		traces := map[string]bool{}
		s := saves{answer: func(ctx context.Context, n int) (snapshot.State, error) {
			traces[trace.SpanContextFromContext(ctx).TraceID().String()] = true
			if n < 3 {
				return snapshot.StateFailed, snapshot.ReasonEtcdUnavailable.New("no member answers")
			}
			return snapshot.StateReady, nil
		}}
		leadFor(t, newMemory(), runs(&s, schedule.Schedule{Name: "a", Spec: spec(t, "0 * * * *", "")}), time.Hour+30*time.Minute)
		if len(s.ids) != 3 || len(traces) != 1 {
			t.Errorf("%d attempts have %d traces, want 3 in one", len(s.ids), len(traces))
		}
	})
	var found []string
	for _, sp := range exporter.GetSpans() {
		if sp.Name == "scheduled save" {
			found = append(found, fmt.Sprint(sp.Status.Code, sp.Attributes))
		}
	}
	if len(found) != 1 || !strings.Contains(found[0], "success") || strings.Contains(found[0], "Error") {
		t.Errorf("the roots are %q, want one that ended well", found)
	}
}

// A cluster without any snapshot has its first one at once, by one of its schedules; the next run is as if that had
// been in time.
func TestTheFirstSnapshotIsTakenAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		none bool
		err  error
		want []string
	}{
		"there is none":     {true, nil, []string{"00:00:00", "01:00:00", "01:30:00"}},
		"there is one":      {false, nil, []string{"01:00:00", "01:30:00"}},
		"it is not known":   {true, errors.New("no leader"), []string{"01:00:00", "01:30:00"}},
		"a leader comes on": {true, nil, []string{"00:00:00", "01:00:00", "01:30:00"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s saves
				m := newMemory()
				r := runs(&s, schedule.Schedule{Name: "a", Spec: spec(t, "@hourly", "")}, schedule.Schedule{Name: "b", Spec: spec(t, "@every 90m", "")})
				r.None = func(context.Context) (bool, error) { return c.none, c.err }
				if name == "a leader comes on" {
					leadFor(t, m, r, time.Minute)
					leadFor(t, m, r, 94*time.Minute)
				} else {
					leadFor(t, m, r, 95*time.Minute)
				}
				want(t, s.times(), c.want...)
			})
		})
	}
}
