// Package duration reads lengths of time as people write them: 90s, 36h, 7d.
package duration

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Forms are examples for error texts.
const Forms = "30s, 10m, 36h or 7d"

var calendar = regexp.MustCompile(`^([0-9.]+w)?([0-9.]+d)?(.*)$`)

// Parse reads the durations of Go, such as 1h30m, with weeks of 7 days and days of 24 hours before them: 7d, 2w, 1d12h.
func Parse(s string) (time.Duration, error) {
	number, negative := strings.CutPrefix(s, "-")
	m := calendar.FindStringSubmatch(number)
	if m == nil || m[1]+m[2] == "" {
		return time.ParseDuration(s)
	}
	sum := 0.0
	for i, unit := range []time.Duration{7 * 24 * time.Hour, 24 * time.Hour} {
		if m[i+1] == "" {
			continue
		}
		n, err := strconv.ParseFloat(m[i+1][:len(m[i+1])-1], 64)
		if err != nil {
			return 0, fmt.Errorf("%q is not a duration", s)
		}
		sum += n * float64(unit)
	}
	var rest time.Duration
	if m[3] != "" {
		var err error
		if rest, err = time.ParseDuration(m[3]); err != nil || rest < 0 || m[3][0] == '+' {
			return 0, fmt.Errorf("%q is not a duration", s)
		}
	}
	if sum+float64(rest) >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is too long", s)
	}
	d := time.Duration(sum) + rest
	if negative {
		d = -d
	}
	return d, nil
}
