package cli

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

// runFlags are the flags of run.
type runFlags struct {
	detach, remove, publishAll     bool
	name, hostname, domain, dir    string
	networks, publish, expose      []string
	ip, ip6, mac                   string
	aliases, services              []string
	dns, search, options, addHost  []string
	linkLocal, links, sysctls, env []string
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run [FLAGS] [--] [CMD ARG…]",
		Short: "Run a command in a network namespace of its own",
		Long: `The command is a process of this host with its own network, /etc/hosts,
/etc/hostname and /etc/resolv.conf. Its exit status becomes that of run;
125 means that run itself did not work, 126 that the command cannot be
executed, 127 that it is not there. Without CMD the namespace is held until
it is removed, and its ID is printed.

A network SPEC is host, none, container:REF, a network's name, or
name=N,ip=A,ip6=A,link-local-ip=A,alias=A,mac-address=M,ifname=I,gw-priority=N,
service=NAME[:PORT][*WEIGHT],sysctl=net.ipv4.conf.IFNAME.KEY=VALUE,driver-opt=KEY=VALUE.
A PORT is [HOSTIP:][HOSTPORT[-END]]:PORT[-END][/tcp|udp|sctp], or PORT alone for
a free host port, or published=,target=,protocol=,host-ip=,from=CIDR;CIDR.`,
		Example: `  sealane run --rm ip addr
  sealane run -d --name web -p 8080:80 --network app nginx -g 'daemon off;'`,
		Annotations: map[string]string{runsCommand: "yes"},
		RunE: func(c *cobra.Command, args []string) error {
			spec, err := f.spec(args)
			if err != nil {
				return usage("run: %s", err)
			}
			r := runner{app: a, client: a.client(), detach: f.detach, dir: f.dir}
			if r.env, err = environment(f.env); err != nil {
				return usage("run: %s", err)
			}
			return r.run(c.Context(), spec)
		},
	}
	c.Flags().SetInterspersed(false) // the command's flags are its own
	c.Flags().SetNormalizeFunc(dockerNames)
	f.register(c.Flags())
	c.Flags().Bool("help", false, "") // without its letter, which is that of --hostname
	return c
}

func (f *runFlags) register(s *pflag.FlagSet) {
	s.BoolVarP(&f.detach, "detach", "d", false, "do not wait; print the ID. Output goes to a file, see inspect")
	s.BoolVar(&f.remove, "rm", false, "remove the sandbox when the command ends")
	s.StringVar(&f.name, "name", "", "`NAME` of the sandbox (default its ID)")
	s.StringArrayVar(&f.networks, "network", nil, "`SPEC` of a network (default bridge); may be repeated")
	s.StringArrayVarP(&f.publish, "publish", "p", nil, "publish a `PORT` on the host; may be repeated")
	s.BoolVarP(&f.publishAll, "publish-all", "P", false, "publish all exposed ports on free host ports")
	s.StringArrayVar(&f.expose, "expose", nil, "expose `PORT[-END][/tcp|udp|sctp]`, for -P and links; may be repeated")
	s.StringVar(&f.ip, "ip", "", "IPv4 `ADDRESS`, or dhcp, on the first network")
	s.StringVar(&f.ip6, "ip6", "", "IPv6 `ADDRESS`, or dhcp, on the first network")
	s.StringVar(&f.mac, "mac-address", "", "hardware `ADDRESS` on the first network")
	s.StringArrayVar(&f.aliases, "network-alias", nil, "another `NAME` on the first network; may be repeated")
	s.StringArrayVar(&f.services, "service", nil, "be a backend of `NAME[:PORT][*WEIGHT]` on the first network; may be repeated")
	s.StringArrayVar(&f.linkLocal, "link-local-ip", nil, "additional link-local `ADDRESS` on the first network; may be repeated")
	s.StringArrayVar(&f.links, "link", nil, "`NAME[:ALIAS]` of another sandbox, for this one only; may be repeated")
	s.StringArrayVar(&f.dns, "dns", nil, "`ADDRESS` of a DNS server; may be repeated")
	s.StringArrayVar(&f.search, "dns-search", nil, "`DOMAIN` to search, . for none; may be repeated")
	s.StringArrayVar(&f.options, "dns-option", nil, "`OPTION` of the resolver; may be repeated")
	s.StringArrayVar(&f.addHost, "add-host", nil, "`NAME:ADDRESS` or NAME:host-gateway for /etc/hosts; may be repeated")
	s.StringVarP(&f.hostname, "hostname", "h", "", "`NAME` of the host inside (default the sandbox's)")
	s.StringVar(&f.domain, "domainname", "", "`DOMAIN` of the host inside")
	s.StringArrayVar(&f.sysctls, "sysctl", nil, "`KEY=VALUE` to set in the namespace; may be repeated")
	s.StringArrayVarP(&f.env, "env", "e", nil, "`KEY=VALUE` for the command, KEY alone for ours; may be repeated")
	s.StringVarP(&f.dir, "workdir", "w", "", "`DIRECTORY` to run the command in")
}

// dockerNames are other spellings that fingers know.
func dockerNames(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	switch name {
	case "net":
		name = "network"
	case "net-alias":
		name = "network-alias"
	case "dns-opt":
		name = "dns-option"
	case "driver-opt":
		name = "opt"
	}
	return pflag.NormalizedName(name)
}

// spec is the request that the flags and arguments make.
func (f *runFlags) spec(command []string) (api.SandboxSpec, error) {
	spec := api.SandboxSpec{
		Name: f.name, PublishAll: f.publishAll, Expose: f.expose, Links: f.links, Hostname: f.hostname, Domain: f.domain,
		DNS: api.DNS{Servers: f.dns, Search: f.search, Options: f.options}, Command: command, AutoRemove: f.remove,
	}
	at, err := parsePlace(f.networks)
	if err != nil {
		return spec, err
	}
	spec.Mode, spec.Donor, spec.Networks = string(at.mode), at.donor, at.networks
	if err := f.firstNetwork(&spec); err != nil {
		return spec, err
	}
	if at.mode == model.ModeHost && len(command) == 0 {
		return spec, fmt.Errorf("--network host: there is no namespace to hold, give a command")
	}
	if len(command) == 0 && len(f.env)+len(f.dir) > 0 {
		return spec, fmt.Errorf("-e and -w: there is no command that they are for")
	}
	if spec.Ports, err = checkPorts(f.publish); err != nil {
		return spec, err
	}
	if spec.Hosts, err = parseHosts(f.addHost); err != nil {
		return spec, err
	}
	if err := checkLinks(f.links); err != nil {
		return spec, err
	}
	if _, err := checkPorts(f.expose); err != nil {
		return spec, fmt.Errorf("--expose: %w", err)
	}
	spec.Sysctls, err = pairs("--sysctl", f.sysctls)
	return spec, err
}

// firstNetwork puts --ip and its like where Docker does: on the first network,
// unless its SPEC has them.
func (f *runFlags) firstNetwork(spec *api.SandboxSpec) error {
	for _, set := range []struct {
		flag, value string
		to          func(*api.EndpointSpec) *string
	}{
		{"--ip", f.ip, func(e *api.EndpointSpec) *string { return &e.IP }},
		{"--ip6", f.ip6, func(e *api.EndpointSpec) *string { return &e.IP6 }},
		{"--mac-address", f.mac, func(e *api.EndpointSpec) *string { return &e.MAC }},
		{"--network-alias", strings.Join(f.aliases, " "), nil},
		{"--service", strings.Join(f.services, " "), nil},
		{"--link-local-ip", strings.Join(f.linkLocal, " "), nil},
	} {
		switch {
		case set.value == "":
			continue
		case len(spec.Networks) == 0:
			return fmt.Errorf("%s: there is no network of its own to be on", set.flag)
		case set.to == nil:
			continue
		}
		if to := set.to(&spec.Networks[0]); *to == "" {
			*to = set.value
		} else {
			return fmt.Errorf("%s: network %s has one already", set.flag, spec.Networks[0].Network)
		}
	}
	if len(spec.Networks) > 0 {
		first := &spec.Networks[0]
		first.Aliases = append(first.Aliases, f.aliases...)
		first.LinkLocalIPs = append(first.LinkLocalIPs, f.linkLocal...)
		for _, text := range f.services {
			if err := addService(first, text); err != nil {
				return fmt.Errorf("--service: %w", err)
			}
		}
	}
	for _, ep := range spec.Networks {
		if err := checkAliases(ep.Network, ep.Aliases); err != nil {
			return err
		}
	}
	return nil
}

// parseHosts reads --add-host NAME:ADDRESS; NAME=ADDRESS does too, and an IPv6
// address may stand in brackets.
func parseHosts(texts []string) ([]api.HostEntry, error) {
	var out []api.HostEntry
	for _, text := range texts {
		i := strings.IndexAny(text, ":=")
		if i <= 0 {
			return nil, fmt.Errorf("--add-host %q: want NAME:ADDRESS", text)
		}
		addr := text[i+1:]
		if inner, ok := strings.CutPrefix(addr, "["); ok {
			addr = strings.TrimSuffix(inner, "]")
		}
		if _, err := netip.ParseAddr(addr); err != nil && addr != api.HostGateway {
			return nil, fmt.Errorf("--add-host %q: %q is neither an IP address nor host-gateway", text, addr)
		}
		out = append(out, api.HostEntry{Name: text[:i], Address: addr})
	}
	return out, nil
}

// checkLinks refuses here what the daemon would refuse as a wrong link.
func checkLinks(texts []string) error {
	for _, text := range texts {
		if _, err := model.ParseLink(text); err != nil {
			return err
		}
	}
	return nil
}

// unmet says which links lead to nobody. Where there are names that is no error, as
// the other may come later, and a wrong name would not be noticed.
func (a *app) unmet(ctx context.Context, links []string) {
	for _, text := range links {
		l, _ := model.ParseLink(text) // the daemon took it
		if _, err := a.client().Sandbox(ctx, l.Target); model.KindOf(err) == model.NotFound {
			fmt.Fprintf(a.Err, "sealane: warning: link %s: no sandbox here has that name yet\n", l.Target)
		}
	}
}

// pairs reads KEY=VALUE arguments of a flag.
func pairs(flag string, texts []string) (map[string]string, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	m := map[string]string{}
	for _, text := range texts {
		k, v, ok := strings.Cut(text, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("%s %q: want KEY=VALUE", flag, text)
		}
		if old, twice := m[k]; twice && old != v {
			return nil, fmt.Errorf("%s %s: is %q and %q, want one of them", flag, k, old, v)
		}
		m[k] = v
	}
	return m, nil
}
