package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

func (a *app) networkCommand() *cobra.Command {
	c := &cobra.Command{Use: "network", Short: "Make, show and remove networks, and put sandboxes on them"}
	c.AddCommand(
		a.networkCreate(), a.networkLs(), a.networkInspect(), a.networkRm(), a.networkPrune(),
		a.networkConnect(), a.networkDisconnect(),
	)
	return c
}

func (a *app) networkCreate() *cobra.Command {
	var spec api.NetworkSpec
	var ipv4 bool
	var labels, options []string
	var subnets subnetFlags
	c := &cobra.Command{
		Use:   "create [FLAGS] NAME",
		Short: "Make a network",
		Long: `Without --subnet a free one is chosen. Each --gateway, --ip-range and
--aux-address belongs to the subnet that contains it.`,
		Example: `  sealane network create app
  sealane network create --subnet 10.1.0.0/16 --subnet fd00:1::/64 -o mtu=1400 app`,
		Args: args(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			spec.Name = args[0]
			if c.Flags().Changed("ipv4") {
				spec.IPv4 = &ipv4
			}
			var err error
			if spec.Subnets, err = subnets.group(); err != nil {
				return usage("network create: %s", err)
			}
			if spec.Options, err = pairs("-o", options); err != nil {
				return usage("network create: %s", err)
			}
			spec.Labels = labelMap(labels)
			n, err := a.client().CreateNetwork(c.Context(), spec)
			if err == nil {
				fmt.Fprintln(a.Out, n.ID)
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVarP(&spec.Driver, "driver", "d", "bridge", "`DRIVER` of the network")
	subnets.register(f)
	f.BoolVar(&spec.Internal, "internal", false, "no way out and no way in")
	f.BoolVar(&spec.IPv6, "ipv6", false, "choose an IPv6 subnet if none is given")
	f.BoolVar(&ipv4, "ipv4", true, "choose an IPv4 subnet if none is given")
	f.StringArrayVar(&labels, "label", nil, "`KEY=VALUE` to note; may be repeated")
	f.StringArrayVarP(&options, "opt", "o", nil, "`KEY=VALUE` for the driver; may be repeated")
	return c
}

// labelMap reads labels; one without a value is empty, as with docker.
func labelMap(texts []string) map[string]string {
	m := map[string]string{}
	for _, text := range texts {
		k, v, _ := strings.Cut(text, "=")
		m[k] = v
	}
	return m
}

func (a *app) networkLs() *cobra.Command {
	var quiet bool
	var f format
	c := &cobra.Command{
		Use:   "ls",
		Short: "List networks",
		Args:  args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(c); err != nil {
				return err
			}
			list, err := a.client().Networks(c.Context())
			if err != nil {
				return err
			}
			if quiet {
				for _, n := range list {
					fmt.Fprintln(a.Out, n.ID)
				}
				return nil
			}
			return show(c, &f, list, func(w io.Writer) { networkTable(w, list) })
		},
	}
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "IDs only")
	f.flags(c)
	return c
}

func networkTable(w io.Writer, list []api.Network) {
	fmt.Fprintln(w, "ID\tNAME\tDRIVER\tSUBNETS\tENDPOINTS\tSTATUS")
	for _, n := range list {
		var subnets []string
		for _, s := range n.Subnets {
			subnets = append(subnets, s.Prefix.String())
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", n.ID, n.Name, n.Driver, dash(strings.Join(subnets, ", ")), len(n.Endpoints), n.Status.State)
	}
}

func (a *app) networkInspect() *cobra.Command {
	return inspect("inspect NETWORK…", "Show networks as JSON", func(c *cobra.Command, ref string) (api.Network, error) {
		return a.client().Network(c.Context(), ref)
	})
}

func (a *app) networkRm() *cobra.Command {
	return &cobra.Command{
		Use:   "rm NETWORK…",
		Short: "Remove networks that nobody uses",
		Args:  args(1, -1),
		RunE: func(c *cobra.Command, refs []string) error {
			client := a.client()
			return a.each(refs, func(ref string) error { return client.RemoveNetwork(c.Context(), ref) })
		},
	}
}

func (a *app) networkPrune() *cobra.Command {
	return &cobra.Command{
		Use:   "prune",
		Short: "Remove all networks that nobody uses, but not the built-in ones",
		Args:  args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			pruned, err := a.client().PruneNetworks(c.Context())
			for _, name := range pruned.Removed {
				fmt.Fprintln(a.Out, name)
			}
			return err
		},
	}
}

func (a *app) networkConnect() *cobra.Command {
	var req api.Connect
	var publish []string
	c := &cobra.Command{
		Use:   "connect [FLAGS] NETWORK REF",
		Short: "Put a running sandbox on a network",
		Long: `REF is the name or ID of a sandbox, or netns:PATH or pid:N for the network
namespace of something else.`,
		Example: "  sealane network connect app web\n  sealane network connect --ip 10.1.0.7 -p 8080:80 app netns:/run/netns/vm1",
		Args:    args(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			req.Sandbox = args[1]
			var err error
			if req.Ports, err = checkPorts(publish); err != nil {
				return usage("network connect: %s", err)
			}
			_, err = a.client().Connect(c.Context(), args[0], req)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&req.IP, "ip", "", "IPv4 `ADDRESS`")
	f.StringVar(&req.IP6, "ip6", "", "IPv6 `ADDRESS`")
	f.StringVar(&req.MAC, "mac-address", "", "hardware `ADDRESS`")
	f.StringArrayVar(&req.Aliases, "alias", nil, "another `NAME` on the network; may be repeated")
	f.StringVar(&req.IfName, "ifname", "", "`NAME` of the interface (default eth0, eth1, …)")
	f.IntVar(&req.GwPriority, "gw-priority", 0, "the network with the highest `NUMBER` gives the default route")
	f.StringArrayVarP(&publish, "publish", "p", nil, "publish a `PORT` on the host; may be repeated")
	return c
}

func (a *app) networkDisconnect() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "disconnect [FLAGS] NETWORK REF",
		Short: "Take a sandbox off a network",
		Args:  args(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			err := a.client().Disconnect(c.Context(), args[0], api.Disconnect{Sandbox: args[1]})
			if force && model.KindOf(err) == model.NotFound {
				return nil
			}
			return err
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "no error if it is not on the network")
	return c
}
