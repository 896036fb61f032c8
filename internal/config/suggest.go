package config

import (
	"fmt"
	"strings"
)

// suggest names the known key that is most similar to an unknown one, or all known keys.
func suggest(key string, known []string) string {
	plain := strings.NewReplacer("-", "", "_", "")
	best, bestDistance := "", 3
	for _, k := range known {
		d := distance(plain.Replace(strings.ToLower(key)), plain.Replace(k))
		if d < bestDistance && d*2 < len(k) {
			best, bestDistance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	return "; known here: " + strings.Join(known, ", ")
}

// distance returns how many letters must be added, removed or changed to make a into b.
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a) // no key is that long
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
