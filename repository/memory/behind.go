package memory

import (
	"bytes"
	"slices"
	"time"
)

// The methods in this file are what a test does behind the back of the program: none of them is part of the port.

// SetClock makes the backend take the times of its objects from now.
func (b *Backend) SetClock(now func() time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = now
}

// Set stores an object as another program would.
func (b *Backend) Set(key string, content []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.objects[key] = object{content: bytes.Clone(content), modTime: b.now().UTC()}
}

// Content returns a copy of an object's bytes; nil when there is none.
func (b *Backend) Content(key string) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.objects[key]
	if !ok {
		return nil
	}
	return append([]byte{}, o.content...)
}

// Keys returns the keys of all objects, in order.
func (b *Backend) Keys() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var keys []string
	for key := range b.objects {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// Remove removes an object, also one that is locked.
func (b *Backend) Remove(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.objects, key)
}

// Lock protects an object, as a bucket's object lock does.
func (b *Backend) Lock(key string, until time.Time) {
	b.change(key, func(o *object) { o.lockedUntil = until })
}

// change replaces an object that is there.
func (b *Backend) change(key string, edit func(*object)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o, ok := b.objects[key]; ok {
		edit(&o)
		b.objects[key] = o
	}
}

// SetMetadata stores the metadata that K3s and RKE2 keep of an object.
func (b *Backend) SetMetadata(key string, doc []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.metadata[key] = bytes.Clone(doc)
}

// Plant leaves behind the unfinished upload of a writer that was killed.
func (b *Backend) Plant(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.uploads[key] = b.now()
}

// Leftovers returns the keys of unfinished uploads, in order.
func (b *Backend) Leftovers() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var keys []string
	for key := range b.uploads {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// Vanish makes all calls fail from now on, as those on a directory that was removed or a bucket that was deleted.
func (b *Backend) Vanish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone = true
}

// Replace gives the backend the objects of another one, as when another directory is mounted in its place.
func (b *Backend) Replace(other *Backend) {
	objects := map[string]object{}
	for _, key := range other.Keys() {
		objects[key] = other.get(key)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.objects = objects
}

func (b *Backend) get(key string) object {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.objects[key]
}
