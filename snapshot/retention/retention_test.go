package retention

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// taken returns copies taken at these times, each of size 10.
func taken(t *testing.T, times ...string) []*Candidate {
	t.Helper()
	var copies []*Candidate
	for _, at := range times {
		created, err := time.Parse("2006-01-02 15:04", at)
		if err != nil {
			t.Fatal(err)
		}
		copies = append(copies, &Candidate{Name: at, Created: created, Size: 10})
	}
	return copies
}

func TestRetentionKeeps(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("there is no time zone database here")
	}
	for _, tc := range []struct {
		what  string
		rules Rules
		times []string // newest first; those that stay begin with '+'
	}{
		{"without rules everything", Rules{}, []string{"+2026-03-02 00:00", "+2026-03-01 00:00", "+2020-01-01 00:00"}},
		{"the last ones", Rules{KeepLast: 2}, []string{"+2026-03-03 00:00", "+2026-03-02 00:00", "2026-03-01 00:00"}},
		{"the newest whatever the rules say", Rules{MaxTotalBytes: 1}, []string{"+2026-03-03 00:00", "2026-03-02 00:00"}},
		{"the newest of each hour", Rules{KeepHourly: 2}, []string{
			"+2026-03-01 12:59", "2026-03-01 12:01", "+2026-03-01 10:30", "2026-03-01 10:29", "2026-03-01 09:00",
		}},
		{"the newest of each day that has one", Rules{KeepDaily: 3}, []string{
			"+2026-03-09 08:00", "2026-03-09 07:00", "+2026-03-05 23:59", "+2026-03-04 00:00", "2026-03-03 00:00",
		}},
		{"days of the time zone", Rules{KeepDaily: 2, TimeZone: berlin}, []string{
			"+2026-03-02 22:00", "2026-03-01 23:30", "+2026-03-01 22:30",
		}},
		{"both hours of the night when summer time ends", Rules{KeepHourly: 2, TimeZone: berlin}, []string{
			"+2026-10-25 01:10", "+2026-10-25 00:10", "2026-10-24 23:10",
		}},
		{"ISO weeks", Rules{KeepWeekly: 2}, []string{
			"+2027-01-03 00:00", "2026-12-28 00:00", "+2026-12-27 00:00", "2026-12-20 00:00", // 28 December to 3 January is one week
		}},
		{"months and years together", Rules{KeepMonthly: 2, KeepYearly: 2}, []string{
			"+2026-03-31 00:00", "2026-03-01 00:00", "+2026-02-28 00:00", "2026-01-31 00:00", "+2025-12-31 00:00", "2024-12-31 00:00",
		}},
		{"what is younger, counted from the newest", Rules{KeepWithin: 24 * time.Hour}, []string{
			"+2020-03-02 12:00", "+2020-03-01 12:00", "2020-03-01 11:59",
		}},
		{"what a window needs", Rules{RecoveryWindow: 24 * time.Hour}, []string{
			"+2026-03-02 12:00", "+2026-03-01 13:00", "+2026-02-20 00:00", "2026-02-19 00:00",
		}},
		{"what fits", Rules{MaxTotalBytes: 25}, []string{"+2026-03-04 00:00", "+2026-03-03 00:00", "2026-03-02 00:00", "2026-03-01 00:00"}},
		{"what fits, whatever the keep rules say", Rules{KeepLast: 3, MaxTotalBytes: 25}, []string{
			"+2026-03-04 00:00", "+2026-03-03 00:00", "2026-03-02 00:00", "2026-03-01 00:00",
		}},
		{"the least number, whatever fits", Rules{MaxTotalBytes: 1, MinKeep: 3}, []string{
			"+2026-03-04 00:00", "+2026-03-03 00:00", "+2026-03-02 00:00", "2026-03-01 00:00",
		}},
	} {
		t.Run(tc.what, func(t *testing.T) {
			var times []string
			for _, at := range tc.times {
				times = append(times, strings.TrimPrefix(at, "+"))
			}
			copies := taken(t, times...)
			slices.Reverse(copies)
			tc.rules.Apply(copies, copies[len(copies)-1].Created)
			var got []string
			for _, c := range copies {
				mark := ""
				if c.Stays {
					mark = "+"
				}
				if c.Why == "" {
					t.Errorf("%s: no reason is given", c.Name)
				}
				got = append(got, mark+c.Name)
			}
			if !slices.Equal(got, tc.times) {
				t.Errorf("got %q, want %q", got, tc.times)
			}
		})
	}
}

// Whatever the snapshots and the rules: the newest stays, so does the newest that a drill has proven, what is exempt
// stays, the least number stays, and a second run finds nothing to do.
func TestRetentionHoldsItsGuards(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	upTo := func(n int) int { return max(0, rnd.IntN(2*n)-n) } // half of the rules are not set
	for range 3000 {
		r := Rules{
			KeepLast: upTo(5), KeepHourly: upTo(5), KeepDaily: upTo(5), KeepWeekly: upTo(4), KeepMonthly: upTo(4), KeepYearly: upTo(3),
			KeepWithin: time.Duration(upTo(100)) * time.Hour, RecoveryWindow: time.Duration(upTo(100)) * time.Hour,
			MaxTotalBytes: int64(upTo(300)), MinKeep: upTo(4),
		}
		copies := randomCopies(rnd)
		now := time.Date(2026, 3, 14, 16, 0, 0, 0, time.UTC)
		r.Apply(copies, now)
		proven := slices.IndexFunc(copies, func(c *Candidate) bool { return c.Proven })
		var total, held int64
		for i, c := range copies {
			if must := i == 0 || i == proven || c.Exemption != "" || i < r.MinKeep; must && !c.Stays {
				t.Fatalf("seed %d: %+v lets %+v go, number %d of %d", seed, r, *c, i+1, len(copies))
			}
			if c.Stays {
				total += c.Size
			}
			if c.protected {
				held += c.Size
			}
		}
		if r.MaxTotalBytes > 0 && total > max(r.MaxTotalBytes, held) {
			t.Fatalf("seed %d: %+v keeps %d bytes", seed, r, total)
		}
		survivors := slices.DeleteFunc(slices.Clone(copies), func(c *Candidate) bool { return !c.Stays })
		for _, c := range survivors {
			c.Stays, c.protected, c.Why = false, false, ""
		}
		r.Apply(survivors, now)
		for _, c := range survivors {
			if !c.Stays {
				t.Fatalf("seed %d: a second run of %+v lets %+v go", seed, r, *c)
			}
		}
	}
}

func randomCopies(rnd *rand.Rand) []*Candidate {
	var copies []*Candidate
	at := time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)
	span := []int{60, 3600, 100000}[rnd.IntN(3)]
	for i := range rnd.IntN(40) {
		at = at.Add(-time.Duration(rnd.IntN(span)) * time.Minute)
		c := &Candidate{Name: fmt.Sprint("s", i), Created: at, Size: rnd.Int64N(50)}
		if rnd.IntN(5) == 0 {
			c.Exemption = "pinned"
		}
		c.Proven = rnd.IntN(8) == 0
		copies = append(copies, c)
	}
	rnd.Shuffle(len(copies), func(i, j int) { copies[i], copies[j] = copies[j], copies[i] })
	return copies
}

// Sizes come from stores and from the catalog, where anybody may have written any number: their sum does not overflow.
func TestRetentionBySizeDoesNotOverflow(t *testing.T) {
	copies := taken(t, "2026-03-03 00:00", "2026-03-02 00:00", "2026-03-01 00:00", "2026-02-28 00:00")
	copies[0].Size, copies[1].Size, copies[2].Size, copies[3].Size = 10, math.MaxInt64, math.MaxInt64, math.MinInt64
	r := Rules{MaxTotalBytes: 100}
	r.Apply(copies, copies[0].Created)
	for i, stays := range []bool{true, false, false, false} {
		if copies[i].Stays != stays {
			t.Errorf("%d bytes: %+v", copies[i].Size, copies[i])
		}
	}
}
