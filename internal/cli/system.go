package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/cli/client"
	"github.com/snapshotd/snapshotd/internal/cli/command"
	"github.com/snapshotd/snapshotd/internal/cli/flagvalue"
	"github.com/snapshotd/snapshotd/internal/cli/output"
)

// System is the surroundings of a command. All fields are needed.
type System = command.System

// withClient fills in the options from the environment, connects, and runs a command with the connection.
func withClient(
	sys System, cmd *cobra.Command, o *client.Options, run func(ctx context.Context, c *client.Client) error,
) error {
	err := flagvalue.FromEnvironment(cmd.Flags(), sys.Getenv, append([]string{"output"}, client.Variables...)...)
	if err != nil {
		return err
	}
	c, err := client.Dial(o, Version().Version)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx := cmd.Context()
	if o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.Timeout)
		defer cancel()
	}
	return c.Explain(run(ctx, c))
}

// resolve returns the name of the newest snapshot for "latest", and any other name as it is. It warns of a newer one
// that claims to be of the future.
func resolve(ctx context.Context, sys System, c *client.Client, name, backend string) (string, error) {
	resolved, ahead, err := c.Resolve(ctx, name, backend, sys.Now())
	if ahead != nil {
		fmt.Fprintf(output.PlainLines(sys.Stderr), "warning: left out: %s claims to be of %s, which is in the future; "+
			"give its name to take it\n", ahead.GetName(), ahead.GetCreateTime().AsTime().Format(time.RFC3339))
	}
	return resolved, err
}
