// Package cache remembers a bounded number of facts about objects in several places, so that they need not be read
// again.
package cache

import (
	"maps"
	"sync"
	"time"
)

// Cache has one value for each key of a place. It drops no value to make room for another one: its users ask for all
// keys in the same order again and again, and would then never find one. Methods may be called at once from several
// goroutines.
type Cache[V any] struct {
	most int

	mu     sync.Mutex
	size   int
	values map[string]map[string]entry[V] // by place and key
}

type entry[V any] struct {
	value V
	used  time.Time
}

// New returns a cache of at most this many values.
func New[V any](most int) *Cache[V] {
	return &Cache[V]{most: most, values: map[string]map[string]entry[V]{}}
}

// Get returns the value of a key, and notes that it was used; false when there is none.
func (c *Cache[V]) Get(place, key string, now time.Time) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.values[place][key]
	if ok {
		e.used = now
		c.values[place][key] = e
	}
	return e.value, ok
}

// Put remembers the value of a key in place of the one before, unless the cache is full of others.
func (c *Cache[V]) Put(place, key string, value V, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.values[place][key]; !known {
		if c.size == c.most {
			return
		}
		c.size++
	}
	if c.values[place] == nil {
		c.values[place] = map[string]entry[V]{}
	}
	c.values[place][key] = entry[V]{value, now}
}

// Drop drops the value of a key, if there is one.
func (c *Cache[V]) Drop(place, key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.values[place][key]; known {
		delete(c.values[place], key)
		c.size--
	}
}

// Forget drops the values of a place that were not used since then: their objects are gone.
func (c *Cache[V]) Forget(place string, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := len(c.values[place])
	maps.DeleteFunc(c.values[place], func(_ string, e entry[V]) bool { return e.used.Before(since) })
	c.size -= before - len(c.values[place])
}
