package cli

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

func (a *app) networkCommand() *cobra.Command {
	c := &cobra.Command{Use: "network", Short: "Make, show and remove networks, and put sandboxes on them"}
	c.AddCommand(
		a.networkCreate(), a.networkLs(), a.networkInspect(), a.networkUpdate(), a.networkRm(), a.networkPrune(),
		a.networkConnect(), a.networkDisconnect(),
	)
	return c
}

func (a *app) networkCreate() *cobra.Command {
	var spec api.NetworkSpec
	var ipv4 bool
	var labels, options []string
	var subnets subnetFlags
	var swarm swarmFlags
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
			if c.Flags().Changed("ipv6") && !spec.IPv6 && slices.ContainsFunc(spec.Subnets, func(s api.SubnetSpec) bool { return strings.Contains(s.Prefix, ":") }) {
				return usage("network create: --ipv6=false: there is a --subnet of that family")
			}
			if i := slices.Index(options, "encrypted"); i >= 0 {
				options[i] += "=true" // as Docker has it
			}
			if spec.Options, err = pairs("-o", options); err != nil {
				return usage("network create: %s", err)
			}
			if spec.Labels, err = labelMap(labels); err != nil {
				return usage("network create: %s", err)
			}
			if err := swarm.add(&spec); err != nil {
				return usage("network create: %s", err)
			}
			n, err := a.client().CreateNetwork(c.Context(), spec)
			if err == nil {
				fmt.Fprintln(a.Out, n.ID)
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVarP(&spec.Driver, "driver", "d", "bridge", "`DRIVER`: bridge, macvlan, ipvlan, ovs, phys, fabric or overlay")
	subnets.register(f)
	f.BoolVar(&spec.Internal, "internal", false, "no way out and no way in")
	f.BoolVar(&spec.IPv6, "ipv6", false, "choose an IPv6 subnet if none is given")
	f.BoolVar(&ipv4, "ipv4", true, "choose an IPv4 subnet if none is given")
	f.StringArrayVar(&labels, "label", nil, "`KEY=VALUE` to note; may be repeated")
	f.StringArrayVarP(&options, "opt", "o", nil, "`KEY=VALUE` for the driver; may be repeated")
	swarm.register(f)
	return c
}

// labelMap reads labels; one without a value is empty, as with docker.
func labelMap(texts []string) (map[string]string, error) {
	whole := make([]string, len(texts))
	for i, text := range texts {
		if whole[i] = text; !strings.Contains(text, "=") {
			whole[i] += "="
		}
	}
	return pairs("--label", whole)
}

func (a *app) networkLs() *cobra.Command {
	var quiet bool
	var filters []string
	var f format
	c := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List networks",
		Long: `A FILTER is driver=, id=, name= (a part of it, or a regular expression),
label=KEY[=VALUE], type=builtin|custom, scope=local|global (one host, or several),
dangling=true|false (nobody uses it) or internal=true|false.`,
		Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(c, quiet); err != nil {
				return err
			}
			list, err := a.client().Networks(c.Context(), filters...)
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
	c.Flags().StringArrayVarP(&filters, "filter", "f", nil, "show only what passes `FILTER`; may be repeated")
	c.Flags().Bool("no-trunc", false, "has no effect: nothing is cut")
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
	c := inspect("inspect NETWORK…", "Show networks as JSON", func(c *cobra.Command, ref string) (api.Network, error) {
		return a.client().Network(c.Context(), ref)
	})
	c.Flags().BoolP("verbose", "v", false, "has no effect: all that is known is printed")
	c.Example = "  sealane network inspect --format '{{range .Subnets}}{{.Prefix}}: {{.Usage.Free}} free {{end}}' app"
	return c
}

func (a *app) networkUpdate() *cobra.Command {
	var options, labels []string
	var up api.NetworkUpdate
	c := &cobra.Command{
		Use:   "update [FLAGS] NETWORK",
		Short: "Change options and labels of a network, under whatever is on it",
		Long: `It happens wholly or not at all, and cuts no connection that the new options
allow. An option without a value gets its default back; what is not mentioned
stays as it is.`,
		Example: "  sealane network update -o icc=false -o mtu=1400 app\n  sealane network update --label tier=web --label-rm old app",
		Args:    args(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if up.Options, err = pairs("-o", options); err != nil {
				return usage("network update: %s", err)
			}
			if up.Labels, err = labelMap(labels); err != nil {
				return usage("network update: %s", err)
			}
			for _, k := range up.RemoveLabels {
				if _, both := up.Labels[k]; both {
					return usage("network update: label %s: --label and --label-rm: want one of them", k)
				}
			}
			if len(up.Options)+len(up.Labels)+len(up.RemoveLabels) == 0 {
				return usage("network update: want -o, --label or --label-rm")
			}
			_, err = a.client().UpdateNetwork(c.Context(), args[0], up)
			return err
		},
	}
	c.Flags().StringArrayVarP(&options, "opt", "o", nil, "`KEY=VALUE` for the driver; may be repeated")
	c.Flags().StringArrayVar(&labels, "label", nil, "`KEY=VALUE` to note; may be repeated")
	c.Flags().StringArrayVar(&up.RemoveLabels, "label-rm", nil, "label `KEY` to remove; may be repeated")
	return c
}

func (a *app) networkRm() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:     "rm [FLAGS] NETWORK…",
		Aliases: []string{"remove"},
		Short:   "Remove networks that nobody uses",
		Args:    args(1, -1),
		RunE: func(c *cobra.Command, refs []string) error {
			client := a.client()
			return a.each(refs, func(ref string) error {
				err := client.RemoveNetwork(c.Context(), ref)
				if force && model.KindOf(err) == model.NotFound {
					return nil
				}
				return err
			})
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "no error if there is no such network")
	return c
}

func (a *app) networkPrune() *cobra.Command {
	var filters []string
	c := &cobra.Command{
		Use:   "prune",
		Short: "Remove all networks that nobody uses, but not the built-in ones",
		Long: `A FILTER is until=TIME (made before that time, or so long ago: until=24h),
label=KEY[=VALUE] or label!=KEY[=VALUE]. Nothing is asked first.`,
		Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			pruned, err := a.client().PruneNetworks(c.Context(), filters...)
			for _, name := range pruned.Removed {
				fmt.Fprintln(a.Out, name)
			}
			return err
		},
	}
	c.Flags().StringArrayVar(&filters, "filter", nil, "remove only what passes `FILTER`; may be repeated")
	c.Flags().BoolP("force", "f", false, "has no effect: nothing is asked")
	return c
}

func (a *app) networkConnect() *cobra.Command {
	var req api.Connect
	var publish, options []string
	c := &cobra.Command{
		Use:   "connect [FLAGS] NETWORK REF",
		Short: "Put a sandbox or a container on a network",
		Long: `REF is the name or ID of a sandbox, or of a container of this host's:
docker:NAME, podman:NAME, containerd:[NAMESPACE/]ID, lxc:NAME, machine:NAME, pid:N
for that of a process, or netns:PATH. When the container is started anew, its
connections come back by themselves. Options are ifname, gateway,
route=DESTINATION=ROUTER, mtu, hostif, vlan, service=NAME[:PORT][*WEIGHT] and
sysctls, both with commas between several; IFNAME stands for the interface, as in
sysctls=net.ipv4.conf.IFNAME.log_martians=1.`,
		Example: "  sealane network connect app web\n  sealane network connect --ip 10.1.0.7 -p 8080:80 app netns:/run/netns/vm1",
		Args:    args(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			req.Sandbox = args[1]
			var err error
			if req.Ports, err = checkPorts(publish); err != nil {
				return usage("network connect: %s", err)
			}
			if req.Options, err = pairs("-o", options); err != nil {
				return usage("network connect: %s", err)
			}
			if err := checkLinks(req.Links); err != nil {
				return usage("network connect: %s", err)
			}
			if err := checkAliases(args[0], req.Aliases); err != nil {
				return usage("network connect: %s", err)
			}
			if _, err = a.client().Connect(c.Context(), args[0], req); err == nil {
				a.unmet(c.Context(), req.Links)
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&req.IP, "ip", "", "IPv4 `ADDRESS`, or dhcp")
	f.StringVar(&req.IP6, "ip6", "", "IPv6 `ADDRESS`, or dhcp")
	f.StringVar(&req.MAC, "mac-address", "", "hardware `ADDRESS`")
	f.StringArrayVar(&req.Aliases, "alias", nil, "another `NAME` on the network; may be repeated")
	f.StringVar(&req.IfName, "ifname", "", "`NAME` of the interface (default eth0, eth1, …)")
	f.StringArrayVar(&req.LinkLocalIPs, "link-local-ip", nil, "additional link-local `ADDRESS`; may be repeated")
	f.StringArrayVar(&req.Links, "link", nil, "`NAME[:ALIAS]` of another sandbox, for this one only; may be repeated")
	f.Func("gw-priority", "the network with the highest `NUMBER` gives the default route (default 0)", func(v string) (err error) {
		req.GwPriority, err = strconv.Atoi(v) // 010 is ten
		return err
	})
	f.StringArrayVarP(&options, "opt", "o", nil, "`KEY=VALUE` for the endpoint; may be repeated")
	f.StringArrayVarP(&publish, "publish", "p", nil, "publish a `PORT` on the host; may be repeated")
	f.BoolVar(&req.Await, "await", false, "the container need not exist yet")
	f.SetNormalizeFunc(dockerNames)
	return c
}

func (a *app) networkDisconnect() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "disconnect [FLAGS] NETWORK REF",
		Short: "Take a sandbox or a container off a network",
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
