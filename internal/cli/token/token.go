// Package token has the commands for the tokens of callers.
package token

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/snapshotd/snapshotd/internal/cli/command"
	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/cli/flagvalue"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	"github.com/snapshotd/snapshotd/server/auth"
)

// defaultExpiry is how long a token is good unless its maker says otherwise.
const defaultExpiry = 90 * 24 * time.Hour

// New returns the command token, with those below it.
func New(sys command.System) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, list and revoke the tokens of callers",
		Long: `Make, list and revoke the tokens with which callers show who they are. They are in the file that
access.tokens_file names in the configuration of the service, as checksums; rules of access give them
roles by their names. The service reads the file again when it changes.`,
		Args: command.NoCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCreate(sys), newList(sys), newRevoke(sys))
	return cmd
}

func addFile(fs *pflag.FlagSet, file *string) {
	fs.StringVar(file, "tokens-file", "", "`file` with the tokens, as access.tokens_file of the service; needed")
}

// tokensFile takes the file from its variable if there is no flag.
func tokensFile(sys command.System, cmd *cobra.Command, file *string) error {
	if err := flagvalue.FromEnvironment(cmd.Flags(), sys.Getenv, "tokens-file"); err != nil {
		return err
	}
	if *file == "" {
		return exit.Usagef("--tokens-file is missing: give the file that access.tokens_file of the service names")
	}
	return nil
}

func newCreate(sys command.System) *cobra.Command {
	var file string
	expires := defaultExpiry
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a token and print it, this once",
		Long: `Make a token and print it on standard output, this once: the file has its checksum alone. Several
tokens may have one name, so that a new one can be in use before the old one is revoked. The file is
made if it is missing, and readable by its owner alone; it must be readable by the service.`,
		Example: `  snapshotd token create ci --tokens-file /etc/snapshotd/tokens.json > ci.token
  snapshotd list --token-file ci.token`,
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := tokensFile(sys, cmd, &file); err != nil {
				return err
			}
			return create(sys, file, args[0], expires)
		},
	}
	addFile(cmd.Flags(), &file)
	flagvalue.Duration(cmd.Flags(), &expires, "expires-in",
		"for how long it is good (`duration`), such as 90d; 0 for ever")
	return cmd
}

func oneArg(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return exit.Usagef("one NAME of a token is needed, and nothing else")
	}
	return nil
}

func create(sys command.System, file, name string, expires time.Duration) error {
	if !auth.ValidTokenName(name) {
		return exit.Usagef("NAME: %.120q is no name of a token: up to 100 letters, digits, '.', '_', '-' and ':'", name)
	}
	if expires < 0 {
		return exit.Usagef("--expires-in: %v is negative", expires)
	}
	var until time.Time
	if expires > 0 {
		until = sys.Now().Add(expires)
	}
	token, secret := auth.NewToken(name, sys.Now(), until)
	err := auth.ChangeTokens(file, func(all []auth.Token) ([]auth.Token, error) { return append(all, token), nil })
	if err != nil {
		return err
	}
	fmt.Fprintf(sys.Stderr, "token %s of %s is made; it %s\n", token.ID, token.Name, validity(token, sys.Now()))
	_, err = fmt.Fprintln(sys.Stdout, secret)
	return err
}

// validity says until when a token is good.
func validity(t auth.Token, now time.Time) string {
	switch {
	case t.Expires.IsZero():
		return "never expires"
	case !now.Before(t.Expires):
		return "expired at " + t.Expires.Format(time.RFC3339)
	}
	return "expires at " + t.Expires.Format(time.RFC3339)
}

func newList(sys command.System) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "Show the tokens, without their secrets",
		Example: `  snapshotd token list --tokens-file /etc/snapshotd/tokens.json`,
		Args:    command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := tokensFile(sys, cmd, &file); err != nil {
				return err
			}
			all, err := auth.ReadTokens(file)
			if err != nil {
				return err
			}
			return output.Columns(sys.Stdout, func(row func(...string)) {
				row("ID", "NAME", "CREATED", "VALIDITY")
				for _, t := range all {
					row(t.ID, t.Name, t.Created.Format(time.RFC3339), validity(t, sys.Now()))
				}
			})
		},
	}
	addFile(cmd.Flags(), &file)
	return cmd
}

func newRevoke(sys command.System) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "revoke (ID | NAME)",
		Short: "Revoke a token, or all tokens of a name",
		Long: `Revoke a token by its id, or all tokens of a name. The next call with it fails, and its streams end.
Tokens that have expired are removed as well.`,
		Example: `  snapshotd token revoke ci --tokens-file /etc/snapshotd/tokens.json`,
		Args:    oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := tokensFile(sys, cmd, &file); err != nil {
				return err
			}
			return revoke(sys, file, args[0])
		},
	}
	addFile(cmd.Flags(), &file)
	return cmd
}

func revoke(sys command.System, file, which string) error {
	if _, err := auth.ReadTokens(file); errors.Is(err, fs.ErrNotExist) {
		return err // no file is made for nothing
	}
	found := 0
	err := auth.ChangeTokens(file, func(all []auth.Token) ([]auth.Token, error) {
		left := slices.DeleteFunc(all, func(t auth.Token) bool {
			if t.ID == which || t.Name == which {
				found++
				return true
			}
			return !t.Expires.IsZero() && !sys.Now().Before(t.Expires)
		})
		if found == 0 {
			return nil, exit.NotFound(fmt.Sprintf("there is no token with the id or name %.120q in %s", which, file))
		}
		return left, nil
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(sys.Stdout, "%d of %s revoked\n", found, which)
	return err
}
