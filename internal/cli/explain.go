package cli

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealane/sealane/internal/api"
)

func (a *app) explainCommand() *cobra.Command {
	var f format
	var backend string
	c := &cobra.Command{
		Use:   "explain [FLAGS] FROM TO",
		Short: "Say which way a packet goes, and why, or why it does not arrive",
		Long: `FROM is a sandbox, host, or world:ADDRESS, somebody beyond the host. TO is a sandbox, an
address or a service, with or without :PORT or :PORT/PROTOCOL after it; from world also
:PORT alone, of the host. One of both may be on another host, on an overlay network of this
one's too. The packet is followed through what the kernel has now, one line for each
decision; lines with ! are not as intended, or end the way. Of a service's backends each is
tried, and the way to one is told. Nothing is sent. The exit status is 1 if it does not
arrive.`,
		Example: "  sealane explain web 10.244.2.194\n  sealane explain cart shop:80\n  sealane explain world:198.51.100.7 :8080",
		Args:    args(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.check(c, false); err != nil {
				return err
			}
			e, err := a.client().Explain(c.Context(), args[0], args[1], backend)
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
	c.Flags().StringVar(&backend, "backend", "", "of a service, tell the way to this one: the first that is not reached, else the first")
	return c
}

// tellWays prints both directions.
func tellWays(w io.Writer, e api.Explanation) {
	tellWay(w, "there", e.There)
	if e.Back != nil {
		tellWay(w, "back", *e.Back)
	}
}

// known is an address, if there is one.
func known(a netip.Addr) string {
	if !a.IsValid() {
		return "?"
	}
	return a.String()
}

// tellWay prints one direction: a line that says what becomes of it, then its steps.
func tellWay(w io.Writer, name string, way api.Way) {
	fate := "does not arrive: " + way.Why
	if way.Arrives {
		fate = "arrives"
		if way.MTU > 0 {
			fate += fmt.Sprintf(", packets of up to %d bytes", way.MTU)
		}
	}
	fmt.Fprintf(w, "%s %s -> %s: %s\n", name, known(way.Source), known(way.Destination), fate)
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
