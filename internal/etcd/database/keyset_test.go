package database

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func TestKeySetCountsAsAMapDoes(t *testing.T) {
	for _, c := range []struct {
		keys, records int
		deletes       float64
	}{
		{keys: 1, records: 10, deletes: 0.5},
		{keys: 100, records: 10_000, deletes: 0.5},
		{keys: 20_000, records: 60_000, deletes: 0.1},  // the table grows
		{keys: 1 << 60, records: 20_000, deletes: 0},   // every key is new
		{keys: 10_000, records: 100_000, deletes: 0.6}, // deleted keys fill the table
	} {
		t.Run(fmt.Sprintf("%d keys, %d records", c.keys, c.records), func(t *testing.T) {
			dir := t.TempDir()
			s, err := newKeySet(tempDir{path: dir})
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			rnd := rand.New(rand.NewPCG(1, uint64(c.records)))
			want := map[string]bool{}
			for i := range c.records {
				key := fmt.Sprintf("/registry/%d", rnd.IntN(c.keys))
				live := rnd.Float64() >= c.deletes
				if err := s.record([]byte(key), live); err != nil {
					t.Fatal(err)
				}
				if want[key] = true; !live {
					delete(want, key)
				}
				if s.live() != int64(len(want)) {
					t.Fatalf("after %d records %d keys are live, want %d", i+1, s.live(), len(want))
				}
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("the directory holds %v (%v), want nothing", left, err)
			}
		})
	}
}

func TestKeySetForgetsDeletedKeysInsteadOfGrowing(t *testing.T) {
	s, err := newKeySet(tempDir{path: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for i := range 30_000 {
		key := fmt.Appendf(nil, "/registry/events/%d", i)
		for _, live := range []bool{true, false} {
			if err := s.record(key, live); err != nil {
				t.Fatal(err)
			}
		}
	}
	if s.count() != minSlots || s.live() != 0 {
		t.Errorf("it has %d slots and %d live keys, want %d and none", s.count(), s.live(), minSlots)
	}
}

func TestATableThatHasNoRoomIsNotMade(t *testing.T) {
	full := errors.New("full")
	asked := int64(0)
	dir := tempDir{t.TempDir(), func(bytes int64) error {
		if asked += bytes; bytes > minSlots*keySlotSize {
			return full
		}
		return nil
	}}
	s, err := newKeySet(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for i := 0; err == nil && i < minSlots; i++ {
		err = s.record(fmt.Append(nil, i), true)
	}
	if !errors.Is(err, full) || asked != 3*minSlots*keySlotSize || s.live() != minSlots*3/4 {
		t.Errorf("%v, with %d keys; it asked for %d bytes", err, s.live(), asked)
	}
}

func TestKeySetWithoutADirectoryIsAnError(t *testing.T) {
	if _, err := newKeySet(tempDir{path: filepath.Join(t.TempDir(), "missing")}); err == nil {
		t.Error("want an error")
	}
}
