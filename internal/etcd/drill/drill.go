package drill

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/repository"
)

// Verb is the hidden verb of the program that runs [Main].
const Verb = "drill-member"

// Options are the options of [Run].
type Options struct {
	File     string // the database as etcd sent it, verified; it is moved into the throw-away etcd, and removed with it
	Revision int64  // of the snapshot
}

// Result is the answer of the restored etcd.
type Result struct {
	HashKV uint32 `json:"hashKv"` // etcd's HashKV at HashRevision
	// HashRevision is the snapshot's revision, or the first later one that etcd can be asked for.
	HashRevision    int64 `json:"hashRevision"`
	CompactRevision int64 `json:"compactRevision"`
	Revision        int64 `json:"revision"`  // current when it had started
	TotalKeys       int64 `json:"totalKeys"` // live at the snapshot's revision

	Disarmed []string `json:"disarmed,omitempty"` // alarms that kept it from writing, each its name and the member's id
}

// report is the answer of the process with the throw-away etcd. For a fault of the snapshot it fails instead, in any
// way: some damages make etcd panic.
type report struct {
	Result
	Machine string `json:"machine,omitempty"` // a fault of the machine, such as a full disk
}

// Driller drills for the domain.
type Driller struct{}

// Drill implements [repository.Driller].
func (Driller) Drill(ctx context.Context, file string, revision int64) (repository.Drilled, error) {
	res, err := Run(ctx, Options{File: file, Revision: revision})
	return repository.Drilled{
		HashKV: res.HashKV, HashRevision: res.HashRevision, CompactRevision: res.CompactRevision,
		TotalKeys: res.TotalKeys, Disarmed: res.Disarmed,
	}, err
}

// Run restores a snapshot into a throw-away etcd, asks it, writes a key and reads it back, and removes all of it.
func Run(ctx context.Context, o Options) (res Result, err error) {
	program, err := os.Executable()
	if err != nil {
		return res, fmt.Errorf("find the program to drill with: %w", err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(o.File), "drill-")
	if err != nil {
		return res, fmt.Errorf("make a directory to drill in: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, program, Verb, o.File, dir, fmt.Sprint(o.Revision))
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.Env = []string{"TMPDIR=" + dir} // nothing of the service's, which may hold credentials
	cmd.WaitDelay = 10 * time.Second
	dieWithParent(cmd)
	err = cmd.Run()
	switch exit, ok := errors.AsType[*exec.ExitError](err); {
	case ctx.Err() != nil:
		return res, context.Cause(ctx)
	case ok && exit.Exited():
		return res, fmt.Errorf("%w: %s", repository.ErrNotRestorable, cmp.Or(brief(said.String()), exit.String()))
	case err != nil: // it did not start, or was killed
		return res, fmt.Errorf("drill with %s: %w", program, err)
	}
	var answer report
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		return res, fmt.Errorf("drill with %s: read its report: %w", program, err)
	}
	if answer.Machine != "" {
		return res, fmt.Errorf("drill in %s: %s", dir, answer.Machine)
	}
	return answer.Result, nil
}

// brief returns the begin of the last words of a process: after a panic, the stacks of all goroutines follow.
func brief(said string) string {
	const most = 1000
	said, _, _ = strings.Cut(strings.TrimSpace(said), "\n\ngoroutine ")
	return said[:min(len(said), most)]
}
