package cni

import (
	"bytes"
	"cmp"
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
	for _, text := range slices.Concat(c.runtime.IPs, c.args.CNI.IPs, r.env.args.ips) {
		if err := addAddress(&o, text); err != nil {
			return o, err
		}
	}
	for _, name := range slices.Concat(c.runtime.Aliases.on(c.network.Name), r.env.args.aliases()) {
		if !slices.Contains(o.Aliases, name) {
			o.Aliases = append(o.Aliases, name)
		}
	}
	return o, r.serve(&o)
}

// serve asks for the services that the container is a backend of: those that are said of
// it, or those of all containers of the configuration.
func (r *request) serve(o *api.EndpointOptions) error {
	text := cmp.Or(r.env.args.service, r.config.args.CNI.Service, strings.Join(r.config.services, ","))
	if text == "" {
		return nil
	}
	if _, err := model.ParseMemberships(text); err != nil {
		return errorf(codeConfig, "service: %w", err)
	}
	o.Options = map[string]string{"service": text}
	return nil
}

// addAddress asks for an address. There is one of each family.
func addAddress(o *api.EndpointOptions, text string) error {
	a, err := address(text)
	if err != nil {
		return errorf(codeConfig, "ips: %w", err)
	}
	want := &o.IP
	if a.Is6() {
		want = &o.IP6
	}
	if *want != "" && *want != a.String() {
		return errorf(codeConfig, "ips: %s and %s: an interface has one address of each family", *want, a)
	}
	*want = a.String()
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
