//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// The exit codes that the soak tells apart.
const (
	exitPartial  = 3
	exitDamaged  = 4
	exitBusy     = 5
	exitNotFound = 6
)

// lastWords are the end of the output, which is all that is seen of a long run: how to run it again, and the action
// that failed.
type lastWords struct {
	seed    int64
	round   int
	doing   []string // actions under way, the innermost last
	at      string   // where the first error was
	errors  []string
	command string // the last one that failed
}

func (k *soak) lastWords() {
	w := &k.words
	again := fmt.Sprintf("SNAPSHOTD_SOAK_SEED=%d SNAPSHOTD_SOAK_ROUNDS=%d", w.seed, w.round+1)
	if !k.t.Failed() {
		k.t.Logf("passed: %s", again)
		return
	}
	if w.at == "" {
		w.at = "the end"
	}
	errors := strings.Join(w.errors[max(0, len(w.errors)-5):], "\n  ")
	k.t.Logf("FAILED in round %d, at %s\n  %s\nthe last command that failed was %s\nagain: %s",
		w.round, w.at, errors, w.command, again)
}

// during notes an action until the returned function is called. An action that ends the test stays noted.
func (k *soak) during(what string) (done func()) {
	w := &k.words
	w.doing = append(w.doing, what)
	return func() {
		if k.t.Failed() && w.at == "" {
			w.at = strings.Join(w.doing, ": ")
		}
		w.doing = w.doing[:len(w.doing)-1]
	}
}

func (k *soak) errorf(format string, args ...any) {
	k.t.Helper()
	k.words.errors = append(k.words.errors, fmt.Sprintf(format, args...))
	k.t.Errorf(format, args...)
}

// eventually waits until ok is true.
func (k *soak) eventually(what string, ok func() bool) {
	k.t.Helper()
	defer k.during(what)()
	eventually(k.t, what, ok)
}

// run runs a client verb against the service. One that hangs ends in time for the last words.
func (k *soak) run(args ...string) result {
	k.t.Helper()
	ctx, cancel := context.Background(), func() {}
	if end, ok := k.t.Deadline(); ok {
		ctx, cancel = context.WithDeadline(ctx, end.Add(-30*time.Second))
	}
	defer cancel()
	r := k.serve.runContext(ctx, args...)
	if r.code != 0 {
		k.words.command = fmt.Sprintf("%v, with exit code %d: %s", args, r.code, tail(strings.TrimSpace(r.stderr), 1000))
	}
	return r
}
