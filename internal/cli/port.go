package cli

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

func (a *app) portCommand() *cobra.Command {
	c := &cobra.Command{Use: "port", Short: "Publish ports of sandboxes that run, and take them back"}
	c.AddCommand(a.portAdd(), a.portRm(), a.portLs())
	return c
}

func (a *app) portAdd() *cobra.Command {
	return &cobra.Command{
		Use:   "add REF PORT…",
		Short: "Publish ports",
		Long: `A PORT is [HOSTIP:][HOSTPORT[-END]]:PORT[-END][/tcp|udp|sctp], or PORT alone
for a free host port, or published=,target=,protocol=,host-ip=,from=CIDR;CIDR
where from says who may use it. What was published is printed.`,
		Example: "  sealane port add web 8080:80\n  sealane port add web 127.0.0.1:53:53/udp",
		Args:    args(2, -1),
		RunE: func(c *cobra.Command, args []string) error {
			ports, err := checkPorts(args[1:])
			if err != nil {
				return usage("port add: %s", err)
			}
			got, err := a.client().Publish(c.Context(), args[0], api.Ports{Ports: ports})
			for _, p := range got {
				fmt.Fprintln(a.Out, p)
			}
			return err
		},
	}
}

func (a *app) portRm() *cobra.Command {
	return &cobra.Command{
		Use:   "rm REF PORT…",
		Short: "Take published ports back",
		Args:  args(2, -1),
		RunE: func(c *cobra.Command, args []string) error {
			ports, err := checkPorts(args[1:])
			if err != nil {
				return usage("port rm: %s", err)
			}
			return a.client().Unpublish(c.Context(), args[0], api.Ports{Ports: ports})
		},
	}
}

// checkPorts refuses here what the daemon would refuse as a wrong port.
func checkPorts(texts []string) ([]string, error) {
	for _, text := range texts {
		if _, err := model.ParsePort(text); err != nil {
			return nil, err
		}
	}
	return texts, nil
}

// publishedPort is a port with its sandbox's name.
type publishedPort struct {
	Sandbox string `json:"sandbox"`
	api.Port
}

func (a *app) portLs() *cobra.Command {
	var f format
	c := &cobra.Command{
		Use:   "ls [REF [PORT]]",
		Short: "List published ports, of all sandboxes or of one, or where one of its ports is",
		Args:  args(0, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.check(c, false); err != nil {
				return err
			}
			ports, err := a.ports(c.Context(), args)
			if err == nil && len(args) > 1 {
				ports, err = leadTo(args[0], args[1], ports)
			}
			if err != nil {
				return err
			}
			return show(c, &f, ports, func(w io.Writer) {
				fmt.Fprintln(w, "SANDBOX\tPORT")
				for _, p := range ports {
					fmt.Fprintf(w, "%s\t%s\n", p.Sandbox, p.Port)
				}
			})
		},
	}
	f.flags(c)
	return c
}

func (a *app) ports(ctx context.Context, refs []string) ([]publishedPort, error) {
	var list []api.Sandbox
	var err error
	if len(refs) == 0 {
		list, err = a.client().Sandboxes(ctx, false)
	} else {
		var sb api.Sandbox
		sb, err = a.client().Sandbox(ctx, refs[0])
		list = []api.Sandbox{sb}
	}
	if err != nil {
		return nil, err
	}
	ports := []publishedPort{}
	for _, sb := range list {
		for _, p := range sb.Ports {
			ports = append(ports, publishedPort{sb.Name, p})
		}
	}
	return ports, nil
}

// leadTo leaves those of a sandbox's ports that lead to one of its own, PORT or
// PORT/PROTOCOL.
func leadTo(ref, text string, ports []publishedPort) ([]publishedPort, error) {
	want, err := model.ParsePort(text)
	switch {
	case err != nil:
		return nil, usage("port ls: %s", err)
	case want.HostPort != 0 || want.HostIP.IsValid() || want.From != "" || want.Count != 1:
		return nil, usage("port ls: port %s: want PORT[/tcp|udp|sctp]", want)
	}
	ports = slices.DeleteFunc(ports, func(p publishedPort) bool {
		return p.Protocol != want.Proto || want.Port < p.Port.Port || int(want.Port) >= int(p.Port.Port)+int(p.Count)
	})
	if len(ports) == 0 {
		return nil, fmt.Errorf("sandbox %s: list ports: port %s is not published", ref, want)
	}
	return ports, nil
}
