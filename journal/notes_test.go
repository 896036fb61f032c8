package journal_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

// TestTheBackendsShowWhichGapsThereAre adds to what was noted, and ends it when all of them show that it is over. The note
// of the journal is better than what they show.
func TestTheBackendsShowWhichGapsThereAre(t *testing.T) {
	t.Parallel()
	now := time.Now()
	const old, fresh = 2 * time.Hour, time.Minute
	one, two := segment.NewTimeline(1, now.Add(-100*time.Hour)), segment.NewTimeline(1, now.Add(-50*time.Hour))
	noted := func(ago time.Duration, t segment.Timeline, after, before int64, reason string) snapshot.JournalBreak {
		return snapshot.JournalBreak{
			Timeline: string(t), After: after, Before: before, BeforeTime: now.Add(-ago), Reason: reason,
			OtherHistory: strings.HasPrefix(reason, "restored"),
		}
	}
	only := func(b snapshot.JournalBreak, backend string) snapshot.JournalBreak { b.Backend = backend; return b }
	ranges := func(ago time.Duration, all ...int64) (held []journal.Range) {
		for ; len(all) > 0; all = all[2:] {
			held = append(held, journal.Range{First: all[0], Last: all[1], FirstTime: now.Add(-ago), LastTime: now.Add(-ago)})
		}
		return held
	}
	w := func(all ...journal.Held) journal.Window { return journal.Window{Timelines: all} }
	first := func(all ...int64) journal.Held { return journal.Held{Name: one, Ranges: ranges(old, all...)} }
	second := func(ago time.Duration, reason string, all ...int64) journal.Held {
		return journal.Held{Name: two, Reason: reason, Ranges: ranges(ago, all...)}
	}
	on := map[string][]segments.Ref{"s3": {{Timeline: one, First: 30, Last: 60}, {Timeline: one, First: 1, Last: 29}}}
	const damaged, restored = "damaged: so", "restored: so"
	for name, tc := range map[string]struct {
		noted []snapshot.JournalBreak
		found journal.Window
		part  bool // of the backends were listed
		want  string
	}{
		"filled":                      {noted: []snapshot.JournalBreak{noted(old, one, 20, 30, damaged)}, found: w(first(1, 60))},
		"filled, and one is away":     {noted: []snapshot.JournalBreak{noted(old, one, 20, 30, damaged)}, found: w(first(1, 60)), part: true, want: "20-30 damaged"},
		"the same numbers, before it": {noted: []snapshot.JournalBreak{noted(time.Hour, two, 20, 30, damaged)}, found: w(first(1, 60), second(old, restored, 5, 20, 30, 40)), want: "60-5 restored 20-30 damaged"},
		"nothing is before it":        {noted: []snapshot.JournalBreak{noted(old, one, 20, 30, damaged)}, found: w(first(40, 60))},
		"its timeline is gone":        {noted: []snapshot.JournalBreak{noted(old, one, 20, 30, damaged)}, found: w(second(old, "", 40, 60))},
		"nothing is stored":           {noted: []snapshot.JournalBreak{noted(old, one, 20, 30, damaged)}, want: "20-30 damaged"},
		"found a minute ago":          {noted: []snapshot.JournalBreak{noted(fresh, one, 20, 30, damaged)}, found: w(first(1, 60)), want: "20-30 damaged"},
		"after the catalog is lost":   {found: w(first(1, 9, 20, 30), second(old, restored, 5, 8)), want: "9-20 no 30-5 restored"},
		"that an upload may fill":     {found: w(journal.Held{Name: one, Ranges: ranges(fresh, 1, 9, 20, 30)})},
		"that another backend fills":  {found: w(first(1, 9, 20, 30), second(old, restored, 5, 8)), part: true, want: "30-5 restored"},
		"the cause stays":             {noted: []snapshot.JournalBreak{noted(old, one, 20, 30, damaged)}, found: w(first(1, 20, 30, 60)), want: "20-30 damaged"},
		"a part of it is filled":      {noted: []snapshot.JournalBreak{noted(old, one, 20, 30, damaged)}, found: w(first(1, 25, 30, 60)), want: "25-30 damaged"},
		"more is missing now":         {noted: []snapshot.JournalBreak{noted(old, one, 20, 30, damaged)}, found: w(first(1, 20, 40, 60)), want: "20-30 damaged 20-40 no"},
		"an incomplete listing":       {noted: []snapshot.JournalBreak{noted(old, two, 250, 300, damaged)}, found: w(first(1, 90), second(old, damaged, 300, 320)), part: true, want: "250-300 damaged"},
		"after an incomplete listing": {noted: []snapshot.JournalBreak{noted(old, two, 90, 300, damaged)}, found: w(first(1, 290), second(old, damaged, 300, 320)), want: "290-300 damaged"},
		"pruned at the front":         {noted: []snapshot.JournalBreak{noted(old, two, 250, 105, restored)}, found: w(first(1, 250), second(fresh, "", 9000, 9100)), want: "250-105 restored"},
		"pruned, and not noted":       {found: w(first(1, 250), second(old, "", 9000, 9100))},
		"elsewhere, and not noted":    {found: w(first(1, 250), second(old, "", 9000, 9100)), part: true},
		"the one before is pruned":    {noted: []snapshot.JournalBreak{noted(old, two, 5000, 105, restored)}, found: w(first(1, 50), second(old, "", 3000, 3100)), want: "5000-105 restored"},
		"its unknown end came":        {noted: []snapshot.JournalBreak{noted(old, one, 300, 0, damaged)}, found: w(first(1, 400))},
		"its end is known now":        {noted: []snapshot.JournalBreak{noted(old, two, 0, 300, damaged)}, found: w(first(1, 290), second(old, damaged, 300, 320)), want: "290-300 damaged"},
		"its end may be higher":       {noted: []snapshot.JournalBreak{noted(old, two, 0, 300, damaged)}, found: w(first(1, 90), second(old, damaged, 300, 320)), part: true, want: "0-300 damaged"},
		"what follows is known now":   {noted: []snapshot.JournalBreak{noted(old, one, 20, 0, damaged)}, found: w(first(1, 20, 30, 60)), want: "20-30 damaged"},
		"that backend has it again":   {noted: []snapshot.JournalBreak{only(noted(old, one, 20, 30, "full: so"), "s3")}, found: w(first(1, 60))},
		"that backend does not":       {noted: []snapshot.JournalBreak{only(noted(old, one, 20, 90, "full: so"), "s3")}, found: w(first(1, 99)), want: "20-90 full"},
		"of the future":               {noted: []snapshot.JournalBreak{noted(-365*24*time.Hour, one, 20, 30, damaged)}, found: w(first(1, 60))},
		"of the future, and there":    {noted: []snapshot.JournalBreak{noted(-24*time.Hour, two, 9, 30, damaged)}, found: w(first(1, 9), second(-24*time.Hour, damaged, 30, 60)), want: "9-30 damaged"},
		"its manifest cannot be read": {found: journal.Window{Timelines: []journal.Held{first(1, 9), {Name: two, Ranges: []journal.Range{{First: 20, Last: 30}}}}}},
		"the same one is noted once":  {noted: []snapshot.JournalBreak{noted(fresh, two, 30, 5, restored)}, found: w(first(1, 30), second(old, "restored: others", 5, 8)), want: "30-5 restored"},
	} {
		s := journal.Shown{Window: tc.found, Whole: !tc.part}
		s.On = on
		var got []string
		for _, b := range s.Notes(tc.noted, now) {
			got = append(got, fmt.Sprintf("%d-%d %s", b.After, b.Before, cmp.Or(segment.CauseOf(b.Reason), "no")))
			if b.BeforeTime.After(now) {
				t.Errorf("%s: it lies in the future", name)
			}
		}
		if got := strings.Join(got, " "); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	many := slices.Repeat([]snapshot.JournalBreak{noted(old, one, 5, 10, damaged)}, 2*snapshot.MaxJournalBreaks)
	many = append(many, slices.Repeat([]snapshot.JournalBreak{noted(-old, one, 7, 12, damaged)}, snapshot.MaxJournalBreaks)...)
	lost := func(before int64) []snapshot.JournalBreak {
		return []snapshot.JournalBreak{only(noted(fresh, one, 5, before, "full: so"), "s3")}
	}
	if all := journal.JoinBreaks(lost(10), lost(20), now); len(all) != 1 || all[0].Before != 20 {
		t.Errorf("a loss that has grown is %+v", all)
	}
	got := journal.JoinBreaks(many, []snapshot.JournalBreak{noted(fresh, two, 15, 20, damaged)}, now)
	if len(got) != snapshot.MaxJournalBreaks || got[len(got)-1].Timeline != string(two) || got[0].After != 5 {
		t.Errorf("%d are kept, from %d to timeline %s", len(got), got[0].After, got[len(got)-1].Timeline)
	}
}
