// Package exit has the errors of the commands, their texts for a person, and the exit codes, which are a promise.
package exit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/disk"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// The exit codes.
const (
	codeDone        = 0
	codeFailed      = 1
	codeUsage       = 2
	codePartial     = 3 // some backend failed
	codeDamaged     = 4 // the stored bytes are damaged
	codeNotSafe     = 4 // a cluster cannot be recovered, as status found
	codeBusy        = 5 // another save is under way, a limit is reached, or the snapshot was changed meanwhile
	codeNotFound    = 6
	codeInterrupted = 130
)

// coded is an error of a command with its exit code.
type coded struct {
	code int
	err  error
}

func (e *coded) Error() string { return e.err.Error() }
func (e *coded) Unwrap() error { return e.err }

// Usagef returns an error of the command line.
func Usagef(format string, args ...any) error { return Usage(fmt.Errorf(format, args...)) }

// Usage returns err as an error of the command line.
func Usage(err error) error { return &coded{codeUsage, err} }

// Partial returns an error that says that some backends failed and others did not.
func Partial(text string) error { return &coded{codePartial, errors.New(text)} }

// Unread returns an error that says how much of a recovery window could not be read; nil when all was.
func Unread(w *snapshotdv1.RecoveryWindow) error {
	switch {
	case len(w.GetUnread()) == 0:
		return nil
	case !w.GetJournaled():
		return Partial("a record of the catalog could not be read: it may be of a snapshot that is not shown")
	case len(w.GetTimelines()) == 0:
		return errors.New("nothing of the journal could be read: it is not known what can be restored from it")
	}
	return Partial("a part of the journal, or of the catalog, could not be read: it may hold more than is shown")
}

// Busy returns an error that says that something was changed meanwhile.
func Busy(text string) error { return &coded{codeBusy, errors.New(text)} }

// NotFound returns an error that says that no snapshot matches.
func NotFound(text string) error { return &coded{codeNotFound, errors.New(text)} }

// Damaged returns err as one that says that the stored bytes are damaged.
func Damaged(err error) error { return &coded{codeDamaged, err} }

// NotSafe returns an error that says that a cluster cannot be recovered.
func NotSafe(text string) error { return &coded{codeNotSafe, errors.New(text)} }

// Failed returns err as a failure although the command was interrupted, which is the normal end of serve.
func Failed(err error) error { return &coded{codeFailed, err} }

// IsDamaged reports whether err says that the stored bytes are damaged.
func IsDamaged(err error) bool {
	e, ok := errors.AsType[*coded](err)
	return ok && e.code == codeDamaged
}

// Report writes to w why a command failed, and returns its exit code.
func Report(ctx context.Context, w io.Writer, cmd *cobra.Command, err error) int {
	code := codeOf(ctx, err)
	switch {
	case err == nil:
	case code == codeInterrupted:
		fmt.Fprintln(w, "interrupted")
	default:
		fmt.Fprintf(w, "error: %s\n", Message(err))
		if e, ok := errors.AsType[*coded](err); ok && e.code == codeUsage {
			fmt.Fprintf(w, "%s --help shows how it is used\n", cmd.CommandPath())
		}
		if wire.DetailsOf(err).Reason == snapshot.ReasonCatalogUnavailable {
			fmt.Fprintln(w, "list, verify and restore need no catalog with --from URL, and save none as long as a member of "+
				"etcd answers")
		}
	}
	return code
}

func codeOf(ctx context.Context, err error) int {
	if err == nil {
		return codeDone
	}
	e, ok := errors.AsType[*coded](err)
	if ok && e.code != codeUsage {
		return e.code
	}
	if ctx.Err() != nil {
		return codeInterrupted
	}
	if _, wrong := errors.AsType[*config.Problems](err); ok || wrong {
		return codeUsage
	}
	switch wire.DetailsOf(err).Reason {
	case snapshot.ReasonSaveInProgress, snapshot.ReasonConflict, snapshot.ReasonEtagMismatch,
		snapshot.ReasonLimitReached:
		return codeBusy
	}
	switch Status(err) {
	case codes.InvalidArgument:
		return codeUsage
	case codes.NotFound:
		return codeNotFound
	}
	return codeFailed
}

// Status returns the code of a gRPC status in err's tree, or Unknown.
func Status(err error) codes.Code {
	if st, ok := status.FromError(err); ok {
		return st.Code()
	}
	return codes.Unknown
}

// Message returns an error for a person, without the words of gRPC.
func Message(err error) string {
	if p, ok := errors.AsType[*config.Problems](err); ok {
		return "the configuration is wrong:\n  " + strings.Join(p.List(), "\n  ")
	}
	if e, ok := errors.AsType[*coded](err); ok {
		err = e.err
	}
	text := err.Error()
	if st, ok := status.FromError(err); ok {
		// The words of gRPC are at the end of the text when the status is wrapped.
		text = st.Message()
	}
	if why := disk.Denied(err); why != "" && !strings.Contains(text, why) {
		text += " (" + why + ")"
	}
	if field := wire.DetailsOf(err).Field; field != "" {
		if flag := flagOfField(field); flag != "" {
			text = flag + strings.TrimPrefix(text, field)
		}
	}
	return text
}

// flagOfField returns the flag or argument behind a field of a request.
func flagOfField(field string) string {
	switch field {
	case "cluster":
		return "--cluster"
	case "resume_token":
		return "--resume"
	case "etag":
		return "--etag"
	case "name":
		return "NAME"
	case "name_prefix":
		return "--name-prefix"
	case "labels":
		return "--label"
	case "backend", "backends":
		return "--backend"
	case "states":
		return "--state"
	case "level":
		return "--level"
	case "retire_nodes":
		return "--retire-node"
	case "create_time_from":
		return "--since"
	case "create_time_until":
		return "--until"
	default:
		return ""
	}
}
