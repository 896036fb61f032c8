package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/config"
)

func newConfig(sys System) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Look at the configuration",
		Args:  noCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConfigCheck(sys))
	return cmd
}

func newConfigCheck(sys System) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and print the values in effect",
		Long: `Check the configuration that "serve" would have with the same flags, variables and file, and
print the values in effect, defaults included, with the origin of each. Secrets are not shown. Risks are warned of.
Nothing is connected to, and certificates, keys and directories are not read.

Exits 2 and names all problems when it is wrong.`,
		Example: `  snapshotd config check --config /etc/snapshotd/snapshotd.yaml`,
		Args:    noArgs,
	}
	flags := config.AddFlags(cmd.Flags())
	cmd.RunE = func(*cobra.Command, []string) error {
		cfg, err := config.Load(config.Source{Flags: flags, Getenv: sys.Getenv})
		if err != nil {
			return err
		}
		for _, w := range cfg.Warnings() {
			fmt.Fprintln(sys.Stderr, "warning: "+w)
		}
		return cfg.Write(sys.Stdout)
	}
	return cmd
}
