package testenv

import "testing"

// Servers of other tests may not listen yet, or be stopped for a while.
func TestAPortIsOfOneTestAtATime(t *testing.T) {
	taken := map[string]bool{}
	for range 400 {
		url := freeURL(t)
		if taken[url] {
			t.Fatalf("%s is taken twice", url)
		}
		taken[url] = true
	}
}
