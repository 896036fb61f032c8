package schedule

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/netresearch/go-cron"

	"github.com/snapshotd/snapshotd/internal/duration"
)

// Spec says when a schedule is due.
type Spec struct {
	zone  *time.Location
	every time.Duration // of "@every"; otherwise times is set
	times cron.Schedule
	pause *pause
}

// pause is the longest pause of a schedule, from a day on.
type pause struct {
	mu      sync.Mutex
	day     time.Time
	longest time.Duration
}

// parsed has the schedules that were parsed, by their text and time zone: thousands of clusters have the same few.
var parsed sync.Map

// parser reads the form of crontab(5): when both days are given, one of them is enough.
var parser = cron.MustNewParser(
	cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor | cron.DowOrDom)

// ParseSpec parses the five fields of cron, a descriptor such as @daily, or @every with a duration. The fields of cron
// are in the time zone; an empty one is UTC.
func ParseSpec(text, zone string) (Spec, error) {
	key := [2]string{text, zone}
	if s, ok := parsed.Load(key); ok {
		return s.(Spec), nil //nolint:forcetypeassert // nothing else is in it
	}
	s, err := parseSpec(text, zone)
	if err == nil {
		parsed.Store(key, s)
	}
	return s, err
}

func parseSpec(text, zone string) (Spec, error) {
	if strings.Contains(text, "TZ=") {
		return Spec{}, errors.New("has a time zone in it; set time_zone instead")
	}
	loc, err := time.LoadLocation(zone) // "" is UTC
	if err != nil || zone == "Local" {
		return Spec{}, fmt.Errorf("%q is not a time zone; write it as Europe/Berlin, or leave it out for UTC", zone)
	}
	times, err := parser.Parse(inHours(text))
	if err != nil {
		return Spec{}, fmt.Errorf(`%q is no schedule (%w); write five fields (minute hour day month weekday) such as `+
			`"0 */6 * * *", @hourly, @daily, or @every 6h`, text, err)
	}
	s := Spec{zone: loc, times: times, pause: &pause{}}
	if every, ok := times.(cron.ConstantDelaySchedule); ok {
		s.every = every.Delay
	}
	if s.Next(time.Now()).IsZero() {
		return Spec{}, fmt.Errorf("%q is never due", text)
	}
	return s, nil
}

// inHours returns a schedule with the duration of "@every" as the parser reads it, which knows no days.
func inHours(text string) string {
	every, ok := strings.CutPrefix(text, "@every ")
	if !ok {
		return text
	}
	d, err := duration.Parse(strings.TrimSpace(every))
	if err != nil {
		return text // the parser names the fault
	}
	return "@every " + d.String()
}

// Next returns the first time after t at which it is due, or the zero time.
func (s Spec) Next(t time.Time) time.Time {
	if s.every > 0 {
		return t.Add(s.every)
	}
	// It is due when minutes begin. The library would try the seconds of this one, one after the other. It must begin in
	// this minute: before an hour that summer time skips, it looks for the runs of that.
	local := t.In(s.zone)
	return s.times.Next(local.Add(time.Duration(max(0, 58-local.Second())) * time.Second)).UTC()
}

// Pause returns the longest time between two of the runs of the next weeks, from the day of t on: the weekend of a
// schedule of working days, or the rest of the month of one for its first days. Below an hour it may be less than the
// longest.
func (s Spec) Pause(t time.Time) time.Duration {
	day := t.UTC().Truncate(24 * time.Hour)
	s.pause.mu.Lock()
	defer s.pause.mu.Unlock()
	if !s.pause.day.Equal(day) {
		s.pause.day, s.pause.longest = day, s.pauseFrom(day)
	}
	return s.pause.longest
}

func (s Spec) pauseFrom(t time.Time) (longest time.Duration) {
	const weeks = 5 * 7 * 24 * time.Hour // a beginning of a month is in them
	for last := s.Next(t); ; {
		next := s.Next(last)
		if last.IsZero() || next.IsZero() {
			return longest
		}
		pause := next.Sub(last)
		longest = max(longest, pause)
		// Of many runs in an hour, one is looked at, unless there is a pause between them.
		if pause < time.Hour {
			if hour := s.Next(last.Add(time.Hour)); hour.Sub(last) <= time.Hour+pause {
				next = hour
			}
		}
		if last = next; last.Sub(t) > weeks {
			return longest
		}
	}
}

// Latest returns the last time in (after, until] at which it was due. It was last due at after, or began then.
func (s Spec) Latest(after, until time.Time) (due time.Time, ok bool) {
	if s.every > 0 {
		n := until.Sub(after) / s.every
		return after.Add(n * s.every), n > 0
	}
	// The times are counted one by one, which alone is right when summer time changes; from a short time before, if that
	// is enough.
	for back := time.Hour; ; back *= 4 {
		from := until.Add(-back)
		if from.Before(after) {
			from = after
		}
		for next := s.Next(from); !next.IsZero() && !next.After(until); next = s.Next(next) {
			due = next
		}
		if !due.IsZero() || from.Equal(after) {
			return due, !due.IsZero()
		}
	}
}

// before returns a time before the last one at which it was due until t.
func (s Spec) before(t time.Time) time.Time {
	if s.every > 0 {
		return t.Add(-s.every)
	}
	const years = 8 // those between two 29ths of February, at most
	due, ok := s.Latest(t.AddDate(-years, 0, 0), t)
	if !ok {
		return t
	}
	return due.Add(-time.Second)
}

// Meets reports whether it is due at t, when it was last due at since.
func (s Spec) Meets(t, since time.Time) bool {
	if s.every > 0 {
		return t.Sub(since)%s.every == 0
	}
	return s.Next(t.Add(-time.Second)).Equal(t)
}
