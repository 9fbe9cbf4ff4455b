package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// help prints a command's page: what it does, its forms, its commands and
// flags, and examples.
func help(c *cobra.Command, _ []string) {
	w := c.OutOrStdout()
	form := c.UseLine()
	if c.HasSubCommands() {
		form = c.CommandPath() + " COMMAND"
	}
	fmt.Fprintf(w, "Usage: %s\n\n%s.\n", form, c.Short)
	if c.Long != "" {
		fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(c.Long))
	}
	if c.HasSubCommands() {
		fmt.Fprintln(w, "\nCommands:")
		list(w, c.Commands())
	}
	if c.Example != "" {
		fmt.Fprintf(w, "\nExamples:\n%s\n", strings.Trim(c.Example, "\n"))
	}
	c.InitDefaultHelpFlag()
	c.Flags().Lookup("help").Hidden = true // whoever reads this knows it
	if flags := c.LocalFlags(); flags.HasAvailableFlags() && !c.DisableFlagParsing {
		fmt.Fprintf(w, "\nFlags:\n%s", flags.FlagUsages())
	}
	if c.HasSubCommands() {
		fmt.Fprintf(w, "\n%s COMMAND --help says more about a command.\n", c.CommandPath())
	}
}

func list(w io.Writer, commands []*cobra.Command) {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, c := range commands {
		if c.Hidden || c.Name() == "help" {
			continue
		}
		fmt.Fprintf(t, "  %s\t%s\n", c.Name(), c.Short)
	}
	t.Flush()
}
