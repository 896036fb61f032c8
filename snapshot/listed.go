package snapshot

import "strings"

// listed lists names for a person.
func listed(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}
