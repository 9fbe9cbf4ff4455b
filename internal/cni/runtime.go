package cni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

// runtimeConfig is what a runtime adds to the configuration for the capabilities
// that it declares
// (https://github.com/containernetworking/cni/blob/main/CONVENTIONS.md).
type runtimeConfig struct {
	Ports     []portMapping      `json:"portMappings"`
	IPs       []string           `json:"ips"`
	MAC       string             `json:"mac"`
	Aliases   aliases            `json:"aliases"`
	DNS       resolver           `json:"dns"`
	Ranges    [][]ipRange        `json:"ipRanges"`
	Bandwidth api.EndpointLimits `json:"bandwidth"`
}

// portMapping is one published port.
type portMapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

// resolver is what goes into the container's resolv.conf.
type resolver struct {
	Servers  []string `json:"servers"`
	Searches []string `json:"searches"`
	Options  []string `json:"options"`
}

// aliases are more names of a container: a list, as the conventions have it, or
// lists by network, as Podman says it.
type aliases struct {
	list  []string
	byNet map[string][]string
}

// UnmarshalJSON reads either form.
func (a *aliases) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(text, []byte("[")) {
		return json.Unmarshal(text, &a.list)
	}
	return json.Unmarshal(text, &a.byNet)
}

// on are those for a network.
func (a aliases) on(network string) []string { return slices.Concat(a.list, a.byNet[network]) }

// capabilities are the fields of runtimeConfig.
func capabilities() []string {
	return []string{"portMappings", "ips", "mac", "aliases", "dns", "ipRanges", "bandwidth"}
}

func readRuntime(c *config, v json.RawMessage) error {
	var values map[string]json.RawMessage
	if err := fill(&values, v); err != nil {
		return err
	}
	for name, value := range values {
		if !slices.Contains(capabilities(), name) {
			return unsupported("capability", name, value, capabilities())
		}
	}
	if err := fill(&c.runtime, v); err != nil {
		return err
	}
	return c.addRanges(c.runtime.Ranges)
}

// published returns the ports as -p takes them.
func (r runtimeConfig) published() ([]string, error) {
	var out []string
	for _, m := range r.Ports {
		if m.HostPort < 1 || m.ContainerPort < 1 {
			return nil, errorf(codeConfig, "portMappings: host port %d, container port %d: want numbers from 1 to 65535", m.HostPort, m.ContainerPort)
		}
		text := fmt.Sprintf("%d:%d", m.HostPort, m.ContainerPort)
		if m.Protocol != "" {
			text += "/" + strings.ToLower(m.Protocol)
		}
		if m.HostIP != "" {
			a, err := netip.ParseAddr(m.HostIP)
			if err != nil {
				return nil, errorf(codeConfig, "portMappings: hostIP %q: want an IP address", m.HostIP)
			}
			if a.Is6() {
				text = "[" + a.String() + "]:" + text
			} else {
				text = a.String() + ":" + text
			}
		}
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out, nil
}

// endpoint puts together what is asked for, from the three places where a
// runtime and its users can say it.
func (r *request) endpoint() (api.EndpointOptions, error) {
	c := r.config
	o := api.EndpointOptions{IfName: r.env.ifname, MAC: r.env.args.mac, EndpointLimits: c.runtime.Bandwidth}
	if c.runtime.MAC != "" {
		o.MAC = c.runtime.MAC
	}
	if err := r.addresses(&o); err != nil {
		return o, err
	}
	for _, name := range slices.Concat(c.runtime.Aliases.on(c.network.Name), r.env.args.aliases()) {
		if !slices.Contains(o.Aliases, name) {
			o.Aliases = append(o.Aliases, name)
		}
	}
	return o, r.serve(&o)
}

// addresses asks for an address of each family: what capabilities ask for counts before
// args, and where args has any, CNI_ARGS has none (CONVENTIONS.md).
func (r *request) addresses(o *api.EndpointOptions) error {
	c := r.config
	if err := addAddresses(o, c.runtime.IPs); err != nil {
		return errorf(codeConfig, "runtimeConfig: ips: %w", err)
	}
	if err := addAddresses(o, c.args.CNI.IPs); err != nil {
		return errorf(codeConfig, "args: cni.ips: %w", err)
	}
	if len(c.args.CNI.IPs) > 0 {
		return nil
	}
	if err := addAddresses(o, r.env.args.ips); err != nil {
		return errorf(codeEnvironment, "%s: IP: %w", envArgs, err)
	}
	return nil
}

// addAddresses asks for addresses of families of which none is asked for yet.
func addAddresses(o *api.EndpointOptions, list []string) error {
	var of [2]netip.Addr
	for _, text := range list {
		a, err := address(text)
		if err != nil {
			return err
		}
		family := 0
		if a.Is6() {
			family = 1
		}
		if had := of[family]; had.IsValid() && had != a {
			return fmt.Errorf("%s and %s: an interface has one address of each family", had, a)
		}
		of[family] = a
	}
	for i, want := range []*string{&o.IP, &o.IP6} {
		if *want == "" && of[i].IsValid() {
			*want = of[i].String()
		}
	}
	return nil
}

// serve asks for the services that the container is a backend of: those that are said of
// it, in args before CNI_ARGS, or those of all containers of the configuration.
func (r *request) serve(o *api.EndpointOptions) error {
	set := func(code uint, what, text string) error {
		if _, err := model.ParseMemberships(text); err != nil {
			return errorf(code, "%s: %w", what, err)
		}
		o.Options = map[string]string{"service": text}
		return nil
	}
	if text := r.config.args.CNI.Service; text != "" {
		return set(codeConfig, "args: cni.sealane.service", text)
	}
	if text := r.env.args.service; text != "" {
		return set(codeEnvironment, envArgs+": SEALANE_SERVICE", text)
	}
	if text := strings.Join(r.config.services, ","); text != "" {
		return set(codeConfig, "service", text)
	}
	return nil
}

// address is the address in a text; a subnet's length behind it is the network's to say.
func address(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if p, perr := netip.ParsePrefix(text); perr == nil {
		a, err = p.Addr(), nil
	}
	if err != nil || a.Zone() != "" {
		return a, fmt.Errorf("%q: want an IP address, or one with its subnet's length", text)
	}
	return a, nil
}
