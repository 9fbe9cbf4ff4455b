package cli

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealane/sealane/internal/api"
)

func (a *app) traceCommand() *cobra.Command {
	var f format
	var wait time.Duration
	c := &cobra.Command{
		Use:   "trace [FLAGS] FROM TO",
		Short: "Send a packet, and say what the host's packet filters do with it",
		Long: `FROM is a sandbox, or host. TO is a sandbox, an address or a service, with or without :PORT
or :PORT/PROTOCOL after it. A connection of TCP is opened and closed, a datagram of UDP has
no content, and without a port it is an echo request. The packet is sent from where FROM is
and followed through nftables, one line for each chain, and so is its answer; the line with !
dropped it. sealane explain says what should become of it, and sends nothing. The exit
status is 1 if there is no answer.`,
		Example: "  sealane trace web db:5432\n  sealane trace web 192.0.2.1\n  sealane trace host 10.7.0.2:53/udp",
		Args:    args(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.check(c, false); err != nil {
				return err
			}
			if wait < 100*time.Millisecond || wait > 30*time.Second {
				return usage("%s: --timeout %v: want 100ms to 30s", path(c), wait)
			}
			t, err := a.client().Trace(c.Context(), api.TraceRequest{From: args[0], To: args[1], Timeout: int(wait.Milliseconds())})
			if err != nil {
				return err
			}
			switch {
			case f.output == "json":
				err = printJSON(c.OutOrStdout(), t)
			default:
				err = show(c, &f, []api.Trace{t}, func(io.Writer) { tellTrace(c.OutOrStdout(), t) })
			}
			if err == nil && t.Fate != "answered" {
				return &commandError{statusFailed}
			}
			return err
		},
	}
	f.flags(c)
	c.Flags().DurationVar(&wait, "timeout", 2*time.Second, "`TIME` that the answer may take")
	return c
}

// tellTrace prints what became of the packet, then where it and its answer were seen.
func tellTrace(w io.Writer, t api.Trace) {
	fate := t.Why
	if t.Fate == "answered" {
		fate = fmt.Sprintf("answered in %s", time.Duration(t.Micros)*time.Microsecond)
	}
	fmt.Fprintf(w, "there %s -> %s %s: %s\n", known(t.Source), point(t.Destination, t.DestinationPort), t.Protocol, fate)
	tellSights(w, t.There)
	if len(t.Back) > 0 {
		fmt.Fprintf(w, "back %s -> %s\n", known(t.Destination), known(t.Source))
		tellSights(w, t.Back)
	}
	if t.Hint != "" {
		fmt.Fprintf(w, "hint: %s\n", t.Hint)
	}
}

// point is an address with its port, if it has one.
func point(a netip.Addr, port uint16) string {
	if port == 0 {
		return known(a)
	}
	return netip.AddrPortFrom(a, port).String()
}

func tellSights(w io.Writer, all []api.Sight) {
	for _, s := range all {
		mark := " "
		if s.Problem {
			mark = "!"
		}
		at := strings.TrimSpace(s.Where + " " + s.In)
		if s.Out != "" {
			at += " -> " + s.Out
		}
		fmt.Fprintf(w, "%s %s: %s\n", mark, at, s.What)
	}
}
