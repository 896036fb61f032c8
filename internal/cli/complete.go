package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/snapshotd/snapshotd/internal/cli/client"
	"github.com/snapshotd/snapshotd/internal/cli/flagvalue"
	"github.com/snapshotd/snapshotd/internal/cli/from"
	"github.com/snapshotd/snapshotd/internal/cli/output"
	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

const (
	// completeTimeout is how long a person who presses TAB waits at most.
	completeTimeout = 2 * time.Second
	// completeNames is how many names are offered at most, the newest.
	completeNames = 100
)

// completeName offers words, and after them the names of snapshots, newest first: those of the service, or of the URLs
// of --from. Errors are not shown, because the shell would print them into the command line.
func completeName(sys System, words ...cobra.Completion) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		const directive = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
		if len(args) > 0 {
			return nil, directive
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
		defer cancel()
		var offered []cobra.Completion
		for _, w := range words {
			if strings.HasPrefix(w, typed) {
				offered = append(offered, w)
			}
		}
		for _, s := range namesOf(ctx, sys, cmd, typed) {
			about := s.GetCreateTime().AsTime().Local().Format("2006-01-02 15:04:05") + "  " + output.State(s.GetState())
			offered = append(offered, cobra.CompletionWithDesc(s.GetName(), about))
		}
		return offered, directive
	}
}

// namesOf returns the newest snapshots whose names begin with the typed text, as many as are found in time.
func namesOf(ctx context.Context, sys System, cmd *cobra.Command, typed string) (found []*snapshotdv1.Snapshot) {
	if urls := urlsOf(cmd.Flags()); len(urls) > 0 {
		return namesFrom(ctx, cmd, urls)
	}
	askService(sys, cmd, func(c *client.Client) {
		req := &snapshotdv1.ListRequest{Cluster: c.Cluster, PageSize: client.Page}
		for len(found) < completeNames {
			page, err := c.List(ctx, req)
			if err != nil {
				return
			}
			for _, s := range page.GetSnapshots() {
				if strings.HasPrefix(s.GetName(), typed) {
					found = append(found, s)
				}
			}
			if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
				return
			}
		}
	})
	return found[:min(len(found), completeNames)]
}

// namesFrom returns the snapshots at the first of the URLs that has some which can be read.
func namesFrom(ctx context.Context, cmd *cobra.Command, urls []string) (found []*snapshotdv1.Snapshot) {
	repos, err := from.Of(cmd.Flags(), urls, nil).Open()
	if err != nil {
		return nil
	}
	for _, repo := range repos {
		all, err := restore.List(ctx, repo, completeNames)
		if err != nil || len(all.Whole) == 0 {
			continue
		}
		for _, s := range all.Whole {
			found = append(found, wire.SnapshotToProto(&s.Snapshot))
		}
		break
	}
	return found
}

// urlsOf returns the values of --from, which is given once or may be repeated.
func urlsOf(fs *pflag.FlagSet) []string {
	if one, err := fs.GetString("from"); err == nil && one != "" {
		return []string{one}
	}
	many, _ := fs.GetStringArray("from")
	return many
}

// completeBackend offers the backends that are configured, and those of the newest snapshots, also after a comma. While
// the catalog is down, the service knows the first.
func completeBackend(sys System) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, typed string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
		defer cancel()
		before := typed[:strings.LastIndex(typed, ",")+1]
		offer := func(backend string) {
			if name := before + backend; !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		askService(sys, cmd, func(c *client.Client) {
			judged, _ := c.Judged(ctx) // nil after an error, and the snapshots may still tell
			for _, one := range judged.GetClusters() {
				for _, b := range one.GetBackends() {
					offer(b.GetName())
				}
			}
			page, _ := c.List(ctx, &snapshotdv1.ListRequest{Cluster: c.Cluster, PageSize: completeNames})
			for _, s := range page.GetSnapshots() {
				for _, l := range s.GetLocations() {
					offer(l.GetBackend())
				}
			}
		})
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeCluster offers the clusters of the service, with their verdicts, or those at the URLs of --from.
func completeCluster(sys System) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
		defer cancel()
		if urls := urlsOf(cmd.Flags()); len(urls) > 0 {
			names, _ = from.Place{URLs: urls}.Clusters(ctx)
			return names, cobra.ShellCompDirectiveNoFileComp
		}
		askService(sys, cmd, func(c *client.Client) {
			all, err := c.Clusters(ctx)
			if err != nil {
				return
			}
			for _, one := range all.GetClusters() {
				verdict := strings.TrimPrefix(one.GetVerdict().String(), "VERDICT_")
				names = append(names, cobra.CompletionWithDesc(one.GetName(), verdict))
			}
		})
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// askService runs ask with a connection to the service that the flags and variables of a command name.
func askService(sys System, cmd *cobra.Command, ask func(*client.Client)) {
	var o client.Options
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	o.AddFlags(fs)
	fs.VisitAll(func(f *pflag.Flag) {
		if given := cmd.Flags().Lookup(f.Name); given != nil && given.Changed {
			_ = fs.Set(f.Name, given.Value.String()) // the command has accepted it
		}
	})
	if err := flagvalue.FromEnvironment(fs, sys.Getenv, client.Variables...); err != nil {
		return
	}
	c, err := client.Dial(&o, Version().Version)
	if err != nil {
		return
	}
	defer c.Close()
	ask(c)
}

// completeFlags gives the flags of all commands their completions: by the kind of their value in the help for files and
// directories, by their own name otherwise.
func completeFlags(sys System, cmd *cobra.Command) {
	ofService := cmd.Flags().Lookup("addr") != nil
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		value, _ := pflag.UnquoteUsage(f)
		var complete cobra.CompletionFunc
		switch {
		case value == "file":
			complete = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
		case value == "directory":
			complete = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
		case f.Name == "cluster" && (ofService || cmd.Flags().Lookup("from") != nil):
			complete = completeCluster(sys)
		case f.Name == "backend" && ofService:
			complete = completeBackend(sys)
		case choices[f.Name] != nil:
			complete = cobra.FixedCompletions(choices[f.Name],
				cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveKeepOrder)
		default:
			return
		}
		_ = cmd.RegisterFlagCompletionFunc(f.Name, complete) // fails only for a flag that has one of its own
	})
	for _, sub := range cmd.Commands() {
		completeFlags(sys, sub)
	}
}

// choices are the values of flags with few values.
var choices = map[string][]cobra.Completion{
	"level":       {"checksum", "structure", "drill"},
	"state":       {"saving", "ready", "partial", "failed", "deleting"},
	"log-level":   {"debug", "info", "warn", "error"},
	"log-format":  {"text", "json"},
	"compression": {"zstd", "none"},
}
