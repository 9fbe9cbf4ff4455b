package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sealane/sealane/internal/api"
)

func (a *app) doctorCommand() *cobra.Command {
	var f format
	c := &cobra.Command{
		Use:   "doctor [FLAGS]",
		Short: "Say whether this host and the daemon are well, and what to do if not",
		Long: `A line for each thing that was looked at: ok, warn (it works, and may not for long, or not
for all) or fail, what it is and why, and what would be right. What the kernel lacks, what is
not as intended, networks and sandboxes, others' firewalls, what is nearly used up, name
servers, runtimes and the cluster. Nothing is changed. The exit status is 1 if something
fails.`,
		Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(c, false); err != nil {
				return err
			}
			d, err := a.client().Doctor(c.Context())
			if err != nil {
				return err
			}
			switch {
			case f.output == "json":
				err = printJSON(c.OutOrStdout(), d)
			default:
				err = show(c, &f, []api.Doctor{d}, func(io.Writer) { tellChecks(c.OutOrStdout(), d.Checks) })
			}
			if err == nil && d.State == "fail" {
				return &commandError{statusFailed}
			}
			return err
		},
	}
	f.flags(c)
	return c
}

func tellChecks(w io.Writer, all []api.Check) {
	for _, c := range all {
		right := ""
		if c.Right != "" {
			right = "; " + c.Right
		}
		fmt.Fprintf(w, "%-4s %s: %s%s\n", c.State, c.What, c.Why, right)
	}
}
