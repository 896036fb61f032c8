// Package bytesize reads and writes numbers of bytes as people do: 500GB, 50 MiB.
package bytesize

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// prefixes are those of the units, each 1,000 or 1,024 times the one before.
const prefixes = "kmgtpe"

// Parse reads a number and its unit, if there is one: B, those of 1,000 (k or kB, M, G, …) or those of 1,024 (Ki or
// KiB, Mi, Gi, …), in upper or lower case. Commas between digits are not looked at.
func Parse(s string) (int64, error) {
	unit := strings.TrimLeft(s, "0123456789.,")
	number := strings.ReplaceAll(strings.TrimSuffix(s, unit), ",", "")
	n, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, fmt.Errorf("%q does not begin with a number", s)
	}
	scale, ok := scaleOf(strings.ToLower(strings.TrimSpace(unit)))
	if !ok {
		return 0, fmt.Errorf("%q has no unit of bytes", s)
	}
	if n *= scale; n >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is too large", s)
	}
	return int64(n), nil
}

func scaleOf(unit string) (scale float64, ok bool) {
	unit = strings.TrimSuffix(unit, "b")
	if unit == "" {
		return 1, true
	}
	base := 1000.0
	prefix, binary := strings.CutSuffix(unit, "i")
	if binary {
		base = 1024
	}
	exponent := strings.Index(prefixes, prefix) + 1
	return math.Pow(base, float64(exponent)), len(prefix) == 1 && exponent > 0
}

// Format writes a number of bytes with two digits or more, in the largest unit of 1,024 of which there is one.
func Format(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, exponent := float64(n)/1024, 0
	for ; value >= 1024; value /= 1024 {
		exponent++
	}
	value = math.Round(value*10) / 10
	decimals := 0
	if value < 10 {
		decimals = 1
	}
	return fmt.Sprintf("%.*f %ciB", decimals, value, strings.ToUpper(prefixes)[exponent])
}
