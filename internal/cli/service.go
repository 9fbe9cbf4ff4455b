package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

func (a *app) serviceCommand() *cobra.Command {
	c := &cobra.Command{Use: "service", Short: "Make, show and change services: one name for several containers of an overlay network"}
	c.AddCommand(a.serviceCreate(), a.serviceLs(), a.serviceInspect(), a.serviceUpdate(), a.serviceRm())
	return c
}

func (a *app) serviceCreate() *cobra.Command {
	var spec api.ServiceSpec
	var labels []string
	var same affinity
	var checks health
	c := &cobra.Command{
		Use:   "create [FLAGS]",
		Short: "Make a service, on all hosts of the cluster",
		Long: `Its backends are the containers that say so: sealane run --service NAME, and
sealane network connect -o service=NAME. They may be there before it. --publish takes
[ADDR:]PORT[:TARGET][/udp|sctp][,mode=host], or published=PORT,target=PORT,protocol=udp,
mode=host; with mode=host only hosts with backends answer, by those. PORT and TARGET may
be ranges of the same length, 8080-8085:80-85.`,
		Example: `  sealane service create --name web --network app --port 80
  sealane service create --name dns --network app --port 53/udp --port 53 --lb hash
  sealane service create --name shop --network app --publish 8080:80 --health http:/ready`,
		Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			err := same.choose(c, &spec.LB)
			if err == nil {
				spec.Health, err = checks.wish(c, true)
			}
			if err == nil {
				err = checkService(spec)
			}
			if err != nil {
				return usage("service create: %s", err)
			}
			if spec.Labels, err = labelMap(labels); err != nil {
				return usage("service create: %s", err)
			}
			s, err := a.client().CreateService(c.Context(), spec)
			if err == nil {
				fmt.Fprintln(a.Out, s.ID)
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&spec.Name, "name", "", "`NAME` of the service")
	f.StringVar(&spec.Network, "network", "", "the overlay `NETWORK` that it is on")
	servicePortFlag(c, &spec.Ports)
	f.StringVar(&spec.Mode, "endpoint-mode", "", "`MODE`: vip, an address of its own, or dnsrr: its name means its backends (default vip)")
	serviceLBFlag(c, &spec.LB)
	same.flag(c)
	f.StringArrayVarP(&spec.Publish, "publish", "p", nil, "`PORT:TARGET` of every host that leads to its port TARGET; may be repeated")
	f.BoolVar(&spec.Nearby, "publish-local-first", false, "at a published port, take backends of the host that is asked, if any")
	checks.flags(c)
	f.StringArrayVar(&labels, "label", nil, "`KEY=VALUE` to note; may be repeated")
	return c
}

func servicePortFlag(c *cobra.Command, to *[]string) {
	c.Flags().StringArrayVar(to, "port", nil, "`PORT[/tcp|udp|sctp]` or FIRST-LAST that it is asked for at; may be repeated")
}

func serviceLBFlag(c *cobra.Command, to *string) {
	c.Flags().StringVar(to, "lb", "", "`WAY` to choose a backend: random, round-robin or hash, of the client (default random)")
}

// checkService refuses here what the daemon would refuse as a service.
func checkService(spec api.ServiceSpec) error {
	for _, need := range [][2]string{{"--name", spec.Name}, {"--network", spec.Network}} {
		if need[1] == "" {
			return fmt.Errorf("%s: missing", need[0])
		}
	}
	if len(spec.Ports)+len(spec.Publish) == 0 {
		return fmt.Errorf("--port: missing")
	}
	if err := model.CheckName(spec.Name); err != nil {
		return err
	}
	if spec.Mode != "" && spec.Mode != "vip" && spec.Mode != "dnsrr" {
		return fmt.Errorf("--endpoint-mode %q: want vip or dnsrr", spec.Mode)
	}
	if err := checkPublishes(spec.Publish); err != nil {
		return err
	}
	return checkServing(spec.Ports, spec.LB)
}

func checkPublishes(texts []string) error {
	for _, text := range texts {
		if _, err := model.ParsePublish(text); err != nil {
			return err
		}
	}
	return nil
}

// affinity is another way to say how a backend is chosen.
type affinity string

func (a *affinity) flag(c *cobra.Command) {
	c.Flags().StringVar((*string)(a), "affinity", "", "`WHAT` keeps clients at a backend: client-ip, as --lb hash, or none")
}

// choose says by --lb what --affinity says.
func (a affinity) choose(c *cobra.Command, lb *string) error {
	hash := string(model.BalanceHash)
	switch {
	case !c.Flags().Changed("affinity"):
	case a == "client-ip" && (*lb == "" || *lb == hash):
		*lb = hash
	case a == "none" && *lb != hash:
		*lb = cmp.Or(*lb, string(model.BalanceRandom))
	case a == "client-ip", a == "none":
		return fmt.Errorf("--affinity %s: does not go with --lb %s", string(a), *lb)
	default:
		return fmt.Errorf("--affinity %q: want client-ip or none", string(a))
	}
	return nil
}

// checkServing does the same for what may change.
func checkServing(ports []string, lb string) error {
	for _, text := range ports {
		if _, err := model.ParseServicePorts(text); err != nil {
			return err
		}
	}
	_, err := model.ParseBalance(lb)
	return err
}

func (a *app) serviceLs() *cobra.Command {
	var quiet bool
	var f format
	c := &cobra.Command{
		Use:   "ls",
		Short: "List services",
		Args:  args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(c, quiet); err != nil {
				return err
			}
			list, err := a.client().Services(c.Context())
			if err != nil {
				return err
			}
			if quiet {
				for _, s := range list {
					fmt.Fprintln(a.Out, s.ID)
				}
				return nil
			}
			return show(c, &f, list, func(w io.Writer) { serviceTable(w, list) })
		},
	}
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "IDs only")
	f.flags(c)
	return c
}

func serviceTable(w io.Writer, list []api.Service) {
	fmt.Fprintln(w, "ID\tNAME\tNETWORK\tMODE\tVIPS\tPORTS\tPUBLISHED\tREADY\tSTATUS")
	for _, s := range list {
		var vips []string
		for _, v := range s.VIPs {
			vips = append(vips, v.String())
		}
		ready := 0
		for _, b := range s.Backends {
			if b.State == string(model.MemberReady) {
				ready++
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d/%d\t%s\n", s.ID, s.Name, s.Network, s.Mode, dash(strings.Join(vips, ", ")), strings.Join(s.Ports, ", "), dash(publishedText(s.Publish)), ready, len(s.Backends), s.Status.State)
	}
}

// publishedText is published ports as --publish takes them, and why this host does not
// answer at some.
func publishedText(all []api.Published) string {
	var out []string
	for _, p := range all {
		text := model.Publish{Port: uint16(p.Port), Target: uint16(p.Target), Proto: p.Protocol, Addrs: p.Addresses, Local: p.Mode == "host"}.String()
		if p.Taken != "" {
			text += " (" + p.Taken + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func (a *app) serviceInspect() *cobra.Command {
	c := inspect("inspect NAME…", "Show services as JSON", func(c *cobra.Command, ref string) (api.Service, error) {
		return a.client().Service(c.Context(), ref)
	})
	c.Example = "  sealane service inspect --format '{{range .Backends}}{{.Host}}/{{.Sandbox}}: {{.State}} {{end}}' web"
	return c
}

func (a *app) serviceUpdate() *cobra.Command {
	var up api.ServiceUpdate
	var same affinity
	var checks health
	var nearby bool
	var labels []string
	var mode string
	c := &cobra.Command{
		Use:   "update [FLAGS] NAME",
		Short: "Change a service, under its clients",
		Long: `A BACKEND is a container's name, HOST/NAME, or the ID of its endpoint, as sealane
service inspect shows them. One that drains keeps the connections that it has, and
gets no more. NAME is NETWORK/NAME where several networks have a service of that name. What
--publish-add takes, sealane service create --help tells.`,
		Example: "  sealane service update --drain b/web2 web\n  sealane service update --undrain b/web2 --lb hash web",
		Args:    args(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("publish-local-first") {
				up.Nearby = &nearby
			}
			err := same.choose(c, &up.LB)
			if err == nil {
				up.Health, err = checks.wish(c, false)
			}
			if err == nil {
				up.Labels, err = labelMap(labels)
			}
			if err == nil {
				err = checkServiceUpdate(up, mode)
			}
			if err != nil {
				return usage("service update: %s", err)
			}
			_, err = a.client().UpdateService(c.Context(), args[0], up)
			return err
		},
	}
	c.Flags().StringArrayVar(&up.Drain, "drain", nil, "a `BACKEND` that is to get nothing new; may be repeated")
	c.Flags().StringArrayVar(&up.Undrain, "undrain", nil, "a `BACKEND` that is to get its share again; may be repeated")
	serviceLBFlag(c, &up.LB)
	same.flag(c)
	servicePortFlag(c, &up.Ports)
	c.Flags().StringArrayVar(&up.PublishAdd, "publish-add", nil, "`PORT:TARGET` to publish it at besides; may be repeated")
	c.Flags().StringArrayVar(&up.PublishRm, "publish-rm", nil, "`PORT[/udp]` or FIRST-LAST that it is published at no more; may be repeated")
	checks.flags(c)
	c.Flags().BoolVar(&nearby, "publish-local-first", false, "at a published port, take backends of the host that is asked, if any")
	c.Flags().StringArrayVar(&labels, "label-add", nil, "`KEY=VALUE` to note; may be repeated")
	c.Flags().StringArrayVar(&up.RemoveLabels, "label-rm", nil, "label `KEY` to remove; may be repeated")
	c.Flags().StringVar(&mode, "endpoint-mode", "", "`MODE` stays: make the service anew for another")
	return c
}

// checkServiceUpdate refuses here what the daemon would refuse of a change, and what cannot
// change: clients that know a service by its address would not hear of another mode.
func checkServiceUpdate(up api.ServiceUpdate, mode string) error {
	switch {
	case mode != "":
		return fmt.Errorf("--endpoint-mode: cannot change: sealane service rm, then sealane service create --endpoint-mode; the backends stay meanwhile")
	case len(up.Ports)+len(up.LB)+len(up.Drain)+len(up.Undrain)+len(up.PublishAdd)+len(up.PublishRm)+len(up.Labels)+len(up.RemoveLabels) == 0 && up.Nearby == nil && up.Health == nil:
		return fmt.Errorf("want --drain, --undrain, --lb, --affinity, --port, --publish-add, --publish-rm, --publish-local-first, --health, --label-add or --label-rm")
	}
	for _, k := range up.RemoveLabels {
		if _, both := up.Labels[k]; both {
			return fmt.Errorf("label %s: --label-add and --label-rm: want one of them", k)
		}
	}
	if err := checkPublishes(up.PublishAdd); err != nil {
		return err
	}
	return checkServing(append(slices.Clone(up.Ports), up.PublishRm...), up.LB)
}

func (a *app) serviceRm() *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME…",
		Short: "Remove services; their backends stay",
		Args:  args(1, -1),
		RunE: func(c *cobra.Command, refs []string) error {
			client := a.client()
			return a.each(refs, func(ref string) error { return client.RemoveService(c.Context(), ref) })
		},
	}
}
