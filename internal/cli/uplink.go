package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealane/sealane/internal/api"
)

func (a *app) uplinkCommand() *cobra.Command {
	c := &cobra.Command{Use: "uplink", Short: "Move a NIC of the host under a bridge, and back, without losing it"}
	c.AddCommand(a.uplinkAttach(), a.uplinkDetach(), a.uplinkLs())
	return c
}

// patience is how long gateways may take.
type patience struct{ timeout time.Duration }

func (p *patience) flag(c *cobra.Command) {
	c.Flags().DurationVar(&p.timeout, "timeout", 5*time.Second, "`TIME` in which gateways that answered before have to answer again, or all goes back")
}

func (p *patience) milliseconds(c *cobra.Command) (int, error) {
	if p.timeout < time.Millisecond || p.timeout > 5*time.Minute {
		return 0, usage("%s: --timeout %v: want 1ms to 5m", path(c), p.timeout)
	}
	return int(p.timeout.Milliseconds()), nil
}

func (a *app) uplinkAttach() *cobra.Command {
	var p patience
	c := &cobra.Command{
		Use:   "attach [FLAGS] NIC BRIDGE",
		Short: "Make a NIC a port of a bridge, which gets its addresses and routes",
		Long: `BRIDGE is a device, a network, or the name of a bridge to be made. Connections
over the NIC go on. If a gateway that answered before does not answer then, everything
goes back as it was, whatever becomes of this command or the daemon meanwhile.`,
		Example: "  sealane uplink attach eth0 br1",
		Args:    args(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			ms, err := p.milliseconds(c)
			if err != nil {
				return err
			}
			moved, err := a.client().AttachUplink(c.Context(), api.UplinkSpec{NIC: args[0], Bridge: args[1], Timeout: ms})
			if err != nil {
				return err
			}
			a.tellMoved(moved, "to "+moved.Bridge)
			return nil
		},
	}
	p.flag(c)
	return c
}

func (a *app) uplinkDetach() *cobra.Command {
	var p patience
	c := &cobra.Command{
		Use:   "detach [FLAGS] NIC",
		Short: "Take a NIC out of its bridge, and give it its addresses and routes back",
		Args:  args(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			ms, err := p.milliseconds(c)
			if err != nil {
				return err
			}
			moved, err := a.client().DetachUplink(c.Context(), args[0], api.UplinkDetach{Timeout: ms})
			if err != nil {
				return err
			}
			a.tellMoved(moved, "from "+moved.Bridge)
			return nil
		},
	}
	p.flag(c)
	return c
}

// tellMoved says what was moved, and what to look after.
func (a *app) tellMoved(m api.Moved, where string) {
	line := fmt.Sprintf("%s %s: %s, %s", m.NIC, where, count(len(m.Addresses), "address", "addresses"), count(m.Routes, "route", "routes"))
	if len(m.Answering) > 0 {
		var who []string
		for _, g := range m.Answering {
			who = append(who, g.String())
		}
		line += "; " + strings.Join(who, ", ") + " answering"
	}
	fmt.Fprintln(a.Out, line)
	for _, w := range m.Warnings {
		fmt.Fprintln(a.Err, "sealane: warning:", w)
	}
}

func count(n int, one, many string) string {
	if n == 1 {
		many = one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func (a *app) uplinkLs() *cobra.Command {
	var f format
	c := &cobra.Command{
		Use:   "ls",
		Short: "List NICs that are attached to bridges",
		Args:  args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(c, false); err != nil {
				return err
			}
			list, err := a.client().Uplinks(c.Context())
			if err != nil {
				return err
			}
			return show(c, &f, list, func(w io.Writer) {
				fmt.Fprintln(w, "NIC\tBRIDGE\tADDRESSES\tSTATUS")
				for _, u := range list {
					var addrs []string
					for _, p := range u.Addresses {
						addrs = append(addrs, p.String())
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", u.NIC, u.Bridge, strings.Join(addrs, ","), u.Status.State)
				}
			})
		},
	}
	f.flags(c)
	return c
}
