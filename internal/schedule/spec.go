package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/netresearch/go-cron"
)

// Spec says when something is due.
type Spec struct {
	zone  *time.Location
	every time.Duration // of "@every"; else there are times
	times cron.Schedule
}

// parser reads what crontab(5) describes: with both days given, either of them will do.
var parser = cron.MustNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor | cron.DowOrDom)

// ParseSpec reads five fields of cron, a descriptor such as @daily, or @every and a duration. Cron's fields are of the time
// zone, UTC when it is empty.
func ParseSpec(text, zone string) (Spec, error) {
	if strings.Contains(text, "TZ=") {
		return Spec{}, errors.New("has a time zone in it; set time_zone instead")
	}
	loc, err := time.LoadLocation(zone) // "" is UTC
	if err != nil || zone == "Local" {
		return Spec{}, fmt.Errorf("%q is not a time zone; write it as Europe/Berlin, or leave it out for UTC", zone)
	}
	parsed, err := parser.Parse(text)
	if err != nil {
		return Spec{}, fmt.Errorf(`%q is no schedule (%w); write five fields (minute hour day month weekday) such as "0 */6 * * *", @hourly, @daily, or @every 6h`, text, err)
	}
	s := Spec{zone: loc, times: parsed}
	if every, ok := parsed.(cron.ConstantDelaySchedule); ok {
		s.every = every.Delay
	}
	if s.Next(time.Now()).IsZero() {
		return Spec{}, fmt.Errorf("%q is never due", text)
	}
	return s, nil
}

// Next returns when it is due first after t, the zero time if it never is.
func (s Spec) Next(t time.Time) time.Time {
	if s.every > 0 {
		return t.Add(s.every)
	}
	return s.times.Next(t.In(s.zone)).UTC()
}

// Latest returns when it was due last in (after, until]; after is when it was due before that, or when it began.
func (s Spec) Latest(after, until time.Time) (due time.Time, ok bool) {
	if s.every > 0 {
		n := until.Sub(after) / s.every
		return after.Add(n * s.every), n > 0
	}
	// Counted from one to the next, which alone is right when summer time changes; from some weeks before, if that is enough.
	for weeks := 6 * 7 * 24 * time.Hour; ; weeks *= 2 {
		from := until.Add(-weeks)
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
