// Package trial tries out a backend before a service relies on it.
package trial

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	// trialPrefix begins the names of the objects of a trial. They are named like data of this program, so that a later
	// reconcile sweeps those of a trial that was killed.
	trialPrefix = "snapshotd-check-"
	// trialSize is that of the object that is written in parts: two on every kind of backend that has parts.
	trialSize = 9 << 20
	// trialRange crosses the border of two parts.
	trialRange = 8<<20 - 16
	// trialCleanup is how long it may take to remove the objects of a trial.
	trialCleanup = 30 * time.Second
)

// Run does once with objects of its own all that a service does with a backend, and reports each action with its error.
// It leaves no object and touches none that was there. The objects are written below the prefix when it is in use, and
// beside the marker otherwise: a directory of the prefix would stay.
//
// A backend that can neither be listed nor written is not tried any further.
func Run(ctx context.Context, b repository.Backend, prefix string, report func(action string, err error)) {
	t := &trial{b: b, report: report, name: trialPrefix + strings.ToLower(rand.Text()[:12])}
	used, listed := t.list(ctx, prefix)
	if used {
		t.prefix = prefix
	}
	defer t.clean(context.WithoutCancel(ctx))
	small := t.key("")
	err := t.put(ctx, small, 1000, false)
	report("write an object", err)
	switch {
	case err == nil:
		report("read it back", t.compare(ctx, small, 0, 1000))
		report("read a part of it", t.comparePart(ctx, small, 100, 50))
		report("delete it", t.remove(ctx, small))
	case listed != nil || ctx.Err() != nil:
		return
	}
	t.conditional(ctx)
	t.parts(ctx)
	t.giveUp(ctx)
}

// trial is one trial of a backend.
type trial struct {
	b      repository.Backend
	report func(action string, err error)
	prefix string
	name   string
	keys   []string // that were written
}

// key returns the key of one of the objects, which is removed in the end.
func (t *trial) key(which string) string {
	key := t.prefix + t.name + which + ".db"
	t.keys = append(t.keys, key)
	return key
}

// list lists the objects below the prefix, to the end: the last page is where listings go wrong.
func (t *trial) list(ctx context.Context, prefix string) (used bool, err error) {
	n := 0
	for _, lerr := range t.b.List(ctx, prefix) {
		if err = lerr; err == nil {
			n++
		}
	}
	t.report("list", err)
	return n > 0, err
}

// conditional writes an object that must not be there, twice.
func (t *trial) conditional(ctx context.Context) {
	key := t.key("-absent")
	err := t.put(ctx, key, 10, true)
	if err == nil {
		if err = t.put(ctx, key, 10, true); errors.Is(err, snapshot.ErrExists) {
			err = nil
		} else if err == nil {
			err = t.wrong("it replaced an object that it was told to leave")
		}
	}
	t.report("write an object only where none is", err)
}

// parts writes a large object and reads across the border of its parts.
func (t *trial) parts(ctx context.Context) {
	key := t.key("-parts")
	err := t.put(ctx, key, trialSize, true)
	t.report("write a large object", err)
	if err != nil {
		return
	}
	t.report("read it back", t.compare(ctx, key, 0, trialSize))
	t.report("read a part of it", t.comparePart(ctx, key, trialRange, 32))
	t.report("delete it", t.remove(ctx, key))
}

// errTrial ends a write before its end.
var errTrial = errors.New("the check ends this write")

// giveUp ends a large write before its end, and looks for leftovers.
func (t *trial) giveUp(ctx context.Context) {
	key := t.key("-ended")
	src := io.MultiReader(io.LimitReader(&pattern{}, trialSize), failing{})
	err := t.b.Put(ctx, key, src, repository.PutOptions{ContentType: repository.DataContentType, SizeHint: 2 * trialSize,
		IfAbsent: true})
	switch {
	case errors.Is(err, errTrial):
		err = t.absent(ctx, key)
	case err == nil:
		err = t.wrong("it stored an object whose source had failed")
	}
	t.report("end the write of a large object", err)
	// The time is ahead of all clocks, so that parts of a server whose clock is fast are found as well.
	n, err := t.b.Sweep(ctx, t.prefix, repository.SweepOptions{
		OlderThan: time.Now().Add(24 * time.Hour), Keep: func(k string) bool { return k != key },
	})
	if err == nil && n > 0 {
		err = t.wrong("it kept the parts of a write that was ended; they are removed now")
	}
	t.report("find and remove the parts of unfinished writes", err)
}

// failing ends with errTrial.
type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errTrial }

func (t *trial) put(ctx context.Context, key string, size int64, absent bool) error {
	opts := repository.PutOptions{ContentType: repository.DataContentType, SizeHint: size, IfAbsent: absent}
	return t.b.Put(ctx, key, io.LimitReader(&pattern{}, size), opts)
}

// compare reads an object whole and compares it with the bytes that were written.
func (t *trial) compare(ctx context.Context, key string, from, size int64) error {
	return t.compareRange(ctx, key, repository.Range{}, from, size)
}

// comparePart reads a part of an object and compares it with the bytes that were written.
func (t *trial) comparePart(ctx context.Context, key string, from, size int64) error {
	return t.compareRange(ctx, key, repository.Range{Offset: from, Length: size}, from, size)
}

func (t *trial) compareRange(ctx context.Context, key string, r repository.Range, from, size int64) error {
	in, err := t.b.Get(ctx, key, r)
	if err != nil {
		return err
	}
	got := sha256.New()
	// One byte more is asked for, so that a backend that gives too many is noticed.
	n, err := io.Copy(got, io.LimitReader(in, size+1))
	if err = errors.Join(err, in.Close()); err != nil {
		return err
	}
	if n != size {
		return t.wrong("it gave %d bytes of %d", n, size)
	}
	if !bytes.Equal(got.Sum(nil), sumOf(from, size)) {
		return t.wrong("it gave other bytes than were written")
	}
	return nil
}

// remove deletes an object and looks whether it is gone.
func (t *trial) remove(ctx context.Context, key string) error {
	if err := t.b.Delete(ctx, key); err != nil {
		return err
	}
	return t.absent(ctx, key)
}

func (t *trial) absent(ctx context.Context, key string) error {
	_, err := t.b.Stat(ctx, key)
	switch {
	case snapshot.IsNotFound(err):
		return nil
	case err == nil:
		return t.wrong("it still shows an object that should not be there")
	}
	return err
}

// clean removes the objects that are left of the trial.
func (t *trial) clean(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, trialCleanup)
	defer cancel()
	for _, key := range t.keys {
		if _, err := t.b.Stat(ctx, key); err != nil {
			continue // it is gone, or the backend does not answer: then it cannot be removed, either
		}
		if err := t.b.Delete(ctx, key); err != nil {
			t.report("remove "+t.b.Info().URI(key)+", which this check has written", err)
		}
	}
}

// wrong is the error of a backend that does something else than it was asked for.
func (t *trial) wrong(format string, args ...any) error {
	name := t.b.Info().Name
	return snapshot.ReasonBackendUnavailable.New("backend %q: %s", name, fmt.Sprintf(format, args...)).On(name).Final()
}

// pattern is a source of bytes of which no two places look alike for long.
type pattern struct{ at int64 }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(p.at ^ p.at>>8 ^ p.at>>16)
		p.at++
	}
	return len(b), nil
}

// sumOf returns the checksum of a part of the pattern.
func sumOf(from, size int64) []byte {
	sum := sha256.New()
	_, _ = io.CopyN(sum, &pattern{from}, size) // neither of them fails
	return sum.Sum(nil)
}
