package cli

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
	"github.com/snapshotd/snapshotd/internal/wire"
	"github.com/snapshotd/snapshotd/snapshot"
)

// The exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitPartial     = 3 // some backend failed
	exitDamaged     = 4 // the stored bytes are damaged
	exitBusy        = 5 // another save or change is under way
	exitNotFound    = 6
	exitInterrupted = 130
)

// usageError is an error of the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// partialError says that some backends failed and others did not.
type partialError struct{ message string }

func (e *partialError) Error() string { return e.message }

// notFoundError says that no snapshot matches.
type notFoundError struct{ message string }

func (e *notFoundError) Error() string { return e.message }

// damagedError says that the stored bytes are damaged.
type damagedError struct{ err error }

func (e *damagedError) Error() string { return e.err.Error() }
func (e *damagedError) Unwrap() error { return e.err }

// failedError is a failure of a command although it was interrupted, which is the normal end of serve.
type failedError struct{ err error }

func (e *failedError) Error() string { return e.err.Error() }
func (e *failedError) Unwrap() error { return e.err }

// report writes to w why a command failed, and returns its exit code.
func report(ctx context.Context, w io.Writer, cmd *cobra.Command, err error) int {
	code := exitCode(ctx, err)
	switch {
	case err == nil:
	case code == exitInterrupted:
		fmt.Fprintln(w, "interrupted")
	default:
		fmt.Fprintf(w, "error: %s\n", message(err))
		if u, ok := errors.AsType[*usageError](err); ok && u != nil {
			fmt.Fprintf(w, "%s --help shows how it is used\n", cmd.CommandPath())
		}
		if wire.DetailsOf(err).Reason == snapshot.ReasonCatalogUnavailable {
			fmt.Fprintln(w, "list, verify and restore need no catalog with --from URL, and save none as long as a member of "+
				"etcd answers")
		}
	}
	return code
}

func exitCode(ctx context.Context, err error) int {
	if err == nil {
		return exitDone
	}
	if _, ok := errors.AsType[*partialError](err); ok {
		return exitPartial
	}
	if _, ok := errors.AsType[*damagedError](err); ok {
		return exitDamaged
	}
	if _, ok := errors.AsType[*notFoundError](err); ok {
		return exitNotFound
	}
	if _, ok := errors.AsType[*failedError](err); ok {
		return exitFailed
	}
	if ctx.Err() != nil {
		return exitInterrupted
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[*config.Problems](err); ok {
		return exitUsage
	}
	switch wire.DetailsOf(err).Reason {
	case snapshot.ReasonSaveInProgress, snapshot.ReasonConflict:
		return exitBusy
	}
	switch statusCode(err) {
	case codes.InvalidArgument:
		return exitUsage
	case codes.NotFound:
		return exitNotFound
	}
	return exitFailed
}

// statusCode returns the code of a gRPC status in err's tree, or Unknown.
func statusCode(err error) codes.Code {
	if st, ok := status.FromError(err); ok {
		return st.Code()
	}
	return codes.Unknown
}

// message returns an error for a person, without the words of gRPC.
func message(err error) string {
	if p, ok := errors.AsType[*config.Problems](err); ok {
		return "the configuration is wrong:\n  " + strings.Join(p.List(), "\n  ")
	}
	text := err.Error()
	if st, ok := status.FromError(err); ok {
		// The words of gRPC are at the end of the text when the status is wrapped.
		text = st.Message()
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
	case "create_time_from":
		return "--since"
	case "create_time_until":
		return "--until"
	default:
		return ""
	}
}
