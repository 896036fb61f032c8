package merge_test

import (
	"context"
	"errors"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/internal/merge"
)

var errEnd = errors.New("it broke off")

// slowly yields words, a second apart, and then an error unless it is nil.
func slowly(err error, words ...string) func(context.Context) iter.Seq2[string, error] {
	return func(ctx context.Context) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			for _, w := range words {
				time.Sleep(time.Second)
				if ctx.Err() != nil || !yield(w, nil) {
					return
				}
			}
			if err != nil {
				yield("", err)
			}
		}
	}
}

func self(s string) string { return s }

func TestCursorsStopAtTheEndOrTheError(t *testing.T) {
	for _, end := range []error{nil, errEnd} {
		synctest.Test(t, func(t *testing.T) {
			c := merge.NewCursor(slowly(end, "a", "b")(t.Context()), self)
			defer c.Stop()
			var got string
			for c.Advance(); c.Key != ""; c.Advance() {
				got += c.Cur
			}
			if got != "ab" || !errors.Is(c.Err, end) {
				t.Errorf("%q, %v", got, c.Err)
			}
		})
	}
}

// Two sequences of three seconds each are read ahead in three, and each of them is told its own time.
func TestSequencesAreReadAheadSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var took [2]time.Duration
		var cursors []*merge.Cursor[string]
		for i := range took {
			seq := merge.Ahead(t.Context(), slowly(nil, "a", "b", "c"), 10, time.Now, func(d time.Duration) { took[i] += d })
			cursors = append(cursors, merge.NewCursor(seq, self))
			cursors[i].Advance()
		}
		for _, c := range cursors {
			for c.Key != "" {
				c.Advance()
			}
			c.Stop()
		}
		if d := time.Since(begin); d != 4*time.Second { // the second one began when the first had its first element
			t.Errorf("it took %v", d)
		}
		if took != [2]time.Duration{3 * time.Second, 3 * time.Second} {
			t.Errorf("the sequences took %v", took)
		}
	})
}

func TestASequenceThatIsGivenUpIsNotReadFurther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := 0
		seq := merge.Ahead(t.Context(), slowly(nil, make([]string, 100)...), 2, time.Now, func(time.Duration) { read++ })
		c := merge.NewCursor(seq, func(string) string { return "x" })
		c.Advance()
		time.Sleep(time.Minute)
		c.Stop()
		if read > 5 {
			t.Errorf("%d elements were read, and room was for 2 ahead", read)
		}
	})
}
