package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// released are the versions of the specification that there are.
var released = []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// atLeast says whether a released version is one or a later one.
func atLeast(version, least string) bool {
	return slices.Index(released, version) >= slices.Index(released, least)
}

// result is what ADD prints, in the form of 1.1.0. Older forms are subsets
// (fields) or are translated (legacy).
type result struct {
	CNIVersion string  `json:"cniVersion"`
	Interfaces []iface `json:"interfaces"`
	IPs        []ip    `json:"ips"`
	Routes     []route `json:"routes"`
	DNS        dns     `json:"dns"`
}

type iface struct {
	Name       string `json:"name"`
	MAC        string `json:"mac"`
	MTU        uint   `json:"mtu"`
	Sandbox    string `json:"sandbox"`
	SocketPath string `json:"socketPath"`
	PciID      string `json:"pciID"`
}

type ip struct {
	Version   string `json:"version"` // before 1.0.0
	Address   string `json:"address"`
	Gateway   string `json:"gateway"`
	Interface *uint  `json:"interface"`
}

type route struct {
	Dst      string `json:"dst"`
	GW       string `json:"gw"`
	MTU      uint   `json:"mtu"`
	AdvMSS   uint   `json:"advmss"`
	Priority uint   `json:"priority"`
	Table    *uint  `json:"table"`
	Scope    *uint  `json:"scope"`
}

type dns struct {
	Nameservers []string `json:"nameservers"`
	Domain      string   `json:"domain"`
	Search      []string `json:"search"`
	Options     []string `json:"options"`
}

// legacy is the form before 0.3.0.
type legacy struct {
	CNIVersion string  `json:"cniVersion"`
	IP4        *family `json:"ip4"`
	IP6        *family `json:"ip6"`
	DNS        dns     `json:"dns"`
}

type family struct {
	IP      string  `json:"ip"`
	Gateway string  `json:"gateway"`
	Routes  []route `json:"routes"`
}

// fields are the keys that objects of a result may have in a version.
func fields(version string) map[string][]string {
	keys := map[string][]string{
		"":           {"cniVersion", "interfaces", "ips", "routes", "dns"},
		"interfaces": {"name", "mac", "sandbox"},
		"ips":        {"version", "address", "gateway", "interface"},
		"routes":     {"dst", "gw"},
		"dns":        {"nameservers", "domain", "search", "options"},
	}
	if atLeast(version, "1.0.0") {
		keys["ips"] = keys["ips"][1:]
	}
	if atLeast(version, "1.1.0") {
		keys["interfaces"] = append(keys["interfaces"], "mtu", "socketPath", "pciID")
		keys["routes"] = append(keys["routes"], "mtu", "advmss", "priority", "table", "scope")
	}
	return keys
}

// parse reads a result of a version, and complains about what that version
// does not have.
func parse(version string, b []byte) (*result, error) {
	if !atLeast(version, "0.3.0") {
		return parseLegacy(version, b)
	}
	var r result
	if err := one(b, &r); err != nil {
		return nil, err
	}
	if err := foreign(version, b); err != nil {
		return nil, err
	}
	return &r, r.valid(version)
}

func parseLegacy(version string, b []byte) (*result, error) {
	var l legacy
	if err := one(b, &l); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return nil, err
	}
	r := &result{CNIVersion: l.CNIVersion, DNS: l.DNS}
	for i, f := range []*family{l.IP4, l.IP6} {
		if f != nil {
			r.IPs = append(r.IPs, ip{Version: []string{"4", "6"}[i], Address: f.IP, Gateway: f.Gateway})
			r.Routes = append(r.Routes, f.Routes...)
		}
	}
	return r, r.valid(version)
}

// foreign looks for keys that a version does not have.
func foreign(version string, b []byte) error {
	keys := fields(version)
	var all map[string]any
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	objects := map[string][]any{"": {all}}
	for _, k := range []string{"interfaces", "ips", "routes"} {
		objects[k], _ = all[k].([]any)
	}
	objects["dns"] = []any{all["dns"]}
	for where, list := range objects {
		for _, o := range list {
			object, _ := o.(map[string]any)
			for k := range object {
				if !slices.Contains(keys[where], k) {
					return fmt.Errorf("%q has %q, which %s does not know", where, k, version)
				}
			}
		}
	}
	return nil
}

// valid complains about values that are not what the version wants.
func (r *result) valid(version string) error {
	// 0.1.0 has no such key in its result.
	if r.CNIVersion != version && !(version == "0.1.0" && r.CNIVersion == "") {
		return fmt.Errorf("cniVersion %q, not %q", r.CNIVersion, version)
	}
	for _, i := range r.Interfaces {
		if i.Name == "" {
			return fmt.Errorf("an interface has no name")
		}
		if _, err := net.ParseMAC(i.MAC); i.MAC != "" && err != nil {
			return fmt.Errorf("interface %s: %w", i.Name, err)
		}
	}
	for _, a := range r.IPs {
		if err := a.valid(version, len(r.Interfaces)); err != nil {
			return err
		}
	}
	for _, x := range r.Routes {
		if err := x.valid(); err != nil {
			return err
		}
	}
	return nil
}

func (a ip) valid(version string, interfaces int) error {
	p, err := netip.ParsePrefix(a.Address)
	if err != nil {
		return fmt.Errorf("ip %q: %w", a.Address, err)
	}
	if a.Gateway != "" {
		if _, err := netip.ParseAddr(a.Gateway); err != nil {
			return fmt.Errorf("ip %s: gateway: %w", a.Address, err)
		}
	}
	if a.Interface != nil && int(*a.Interface) >= interfaces {
		return fmt.Errorf("ip %s: interface %d of %d", a.Address, *a.Interface, interfaces)
	}
	family := "6"
	if p.Addr().Is4() {
		family = "4"
	}
	if !atLeast(version, "1.0.0") && a.Version != family {
		return fmt.Errorf("ip %s: version %q", a.Address, a.Version)
	}
	return nil
}

func (x route) valid() error {
	if _, err := netip.ParsePrefix(x.Dst); err != nil {
		return fmt.Errorf("route %q: %w", x.Dst, err)
	}
	if x.GW == "" {
		return nil
	}
	if _, err := netip.ParseAddr(x.GW); err != nil {
		return fmt.Errorf("route %s: gw: %w", x.Dst, err)
	}
	return nil
}

// inside returns the interface of the result that is the container's.
func (r *result) inside(path, name string) (int, *iface) {
	i := slices.IndexFunc(r.Interfaces, func(i iface) bool { return i.Sandbox == path && i.Name == name })
	if i < 0 {
		return i, nil
	}
	return i, &r.Interfaces[i]
}

// address is the result's first IPv4 address, or the zero prefix.
func (r *result) address() netip.Prefix { return r.first(netip.Addr.Is4) }

// address6 is its first IPv6 address.
func (r *result) address6() netip.Prefix { return r.first(netip.Addr.Is6) }

func (r *result) first(of func(netip.Addr) bool) netip.Prefix {
	for _, a := range r.IPs {
		if p, err := netip.ParsePrefix(a.Address); err == nil && of(p.Addr()) {
			return p
		}
	}
	return netip.Prefix{}
}

// gateways are the gateways of its addresses.
func (r *result) gateways() []netip.Addr {
	var out []netip.Addr
	for _, a := range r.IPs {
		if g, err := netip.ParseAddr(a.Gateway); err == nil {
			out = append(out, g)
		}
	}
	return out
}
