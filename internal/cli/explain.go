package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealane/sealane/internal/api"
)

func (a *app) explainCommand() *cobra.Command {
	var f format
	c := &cobra.Command{
		Use:   "explain [FLAGS] FROM TO",
		Short: "Say which way a packet goes, and why, or why it does not arrive",
		Long: `FROM is a sandbox, or host. TO is a sandbox or an address. One of both may be on another
host, on an overlay network of this one's too. The packet is followed through what the
kernel has now, one line for each decision; lines with ! are not as intended, or end the
way. Nothing is sent. The exit status is 1 if it does not arrive.`,
		Example: "  sealane explain web 10.244.2.194",
		Args:    args(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.check(c, false); err != nil {
				return err
			}
			e, err := a.client().Explain(c.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			switch {
			case f.output == "json":
				err = printJSON(c.OutOrStdout(), e)
			default:
				err = show(c, &f, []api.Explanation{e}, func(w io.Writer) { tellWays(c.OutOrStdout(), e) })
			}
			if err == nil && (!e.There.Arrives || e.Back != nil && !e.Back.Arrives) {
				return &commandError{statusFailed}
			}
			return err
		},
	}
	f.flags(c)
	return c
}

// tellWays prints both directions.
func tellWays(w io.Writer, e api.Explanation) {
	tellWay(w, "there", e.There)
	if e.Back != nil {
		tellWay(w, "back", *e.Back)
	}
}

// tellWay prints one direction: a line that says what becomes of it, then its steps.
func tellWay(w io.Writer, name string, way api.Way) {
	source := "?"
	if way.Source.IsValid() {
		source = way.Source.String()
	}
	fate := "does not arrive: " + way.Why
	if way.Arrives {
		fate = "arrives"
		if way.MTU > 0 {
			fate += fmt.Sprintf(", packets of up to %d bytes", way.MTU)
		}
	}
	fmt.Fprintf(w, "%s %s -> %s: %s\n", name, source, way.Destination, fate)
	for _, s := range way.Steps {
		mark := " "
		if s.Problem {
			mark = "!"
		}
		at := strings.TrimSpace(s.Where + " " + s.Device)
		if s.MTU > 0 {
			at += fmt.Sprintf(" (mtu %d)", s.MTU)
		}
		fmt.Fprintf(w, "%s %s: %s\n", mark, at, s.What)
	}
}
