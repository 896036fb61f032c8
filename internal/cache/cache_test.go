package cache_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/cache"
)

func TestValuesAreRememberedByPlaceAndKey(t *testing.T) {
	c, now := cache.New[int](10), time.Now()
	if v, ok := c.Get("one", "a", now); ok {
		t.Errorf("an empty cache has %d", v)
	}
	c.Put("one", "a", 1, now)
	c.Put("two", "a", 2, now)
	c.Put("one", "a", 3, now)
	for place, want := range map[string]int{"one": 3, "two": 2} {
		if v, ok := c.Get(place, "a", now); !ok || v != want {
			t.Errorf("%s has %d, %t, want %d", place, v, ok, want)
		}
	}
}

func TestAFullCacheKeepsWhatItHas(t *testing.T) {
	c, now := cache.New[int](3), time.Now()
	for i := range 5 {
		c.Put("one", fmt.Sprint(i), i, now)
	}
	c.Put("one", "0", 10, now)
	for i := range 5 {
		if _, ok := c.Get("one", fmt.Sprint(i), now); ok != (i < 3) {
			t.Errorf("%d: %t", i, ok)
		}
	}
	if v, _ := c.Get("one", "0", now); v != 10 {
		t.Errorf("a known key was not changed: %d", v)
	}
}

func TestADroppedValueLeavesRoom(t *testing.T) {
	c, now := cache.New[int](1), time.Now()
	c.Drop("one", "a") // there is none
	c.Put("one", "a", 1, now)
	c.Drop("one", "a")
	c.Drop("one", "a")
	if v, ok := c.Get("one", "a", now); ok {
		t.Errorf("a dropped value is still there: %d", v)
	}
	for i, want := range []bool{true, false} {
		key := fmt.Sprint(i)
		c.Put("two", key, i, now)
		if _, ok := c.Get("two", key, now); ok != want {
			t.Errorf("%s: %t", key, ok)
		}
	}
}

func TestUnusedValuesAreForgottenAndLeaveRoom(t *testing.T) {
	c, now := cache.New[int](2), time.Now()
	later := now.Add(time.Minute)
	c.Put("one", "used", 1, now)
	c.Put("one", "unused", 2, now)
	c.Get("one", "used", later)
	c.Forget("two", later)
	c.Forget("one", later)
	if _, ok := c.Get("one", "unused", later); ok {
		t.Error("an unused value is still there")
	}
	c.Put("two", "new", 3, later)
	for place, key := range map[string]string{"one": "used", "two": "new"} {
		if _, ok := c.Get(place, key, later); !ok {
			t.Errorf("%s of %s is not there", key, place)
		}
	}
}
