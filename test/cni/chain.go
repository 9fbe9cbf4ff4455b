package main

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

func chainChecks() []check {
	return []check{
		{"chain.kept", "ADD Success", "must", "ADD with a `prevResult`, as a later plugin of a list, prints that and its own interface", "0.3.0", chainKept},
		{"chain.converted", "ADD Success", "must", "a `prevResult` of another version is converted: the result has the form of `cniVersion`", "0.4.0", chainConverted},
		{"chain.nonsense", "Error", "sense", "ADD with a `prevResult` that is a string fails with an error object, and makes nothing", "0.3.0", func(t *trial) error {
			return t.refuses(nil, key("prevResult", "x"))
		}},
		{"chain.deleted", "DEL", "must", "DEL with the merged result as `prevResult` removes its interface and not the other plugin's", "0.4.0", chainDeleted},
		{"chain.later-mac", "Section 3", "sense", "a MAC that a later plugin sets, as `tuning` does, is still there some seconds later", "", func(t *trial) error {
			return t.stays(func(h *netlink.Handle, l netlink.Link) error {
				return h.LinkSetHardwareAddr(l, net.HardwareAddr{2, 0, 0x5e, 0x10, 0, 4})
			})
		}},
		{"chain.later-mtu", "Section 3", "sense", "so is an MTU", "", func(t *trial) error {
			return t.stays(func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetMTU(l, 1280) })
		}},
		{"chain.later-address", "Section 3", "sense", "so are an address and a route that a later plugin adds", "", func(t *trial) error {
			return t.stays(addMore)
		}},
	}
}

// before is what an earlier plugin of the list made: a device dmz0 with an
// address of its own, as 0.3.0 to 0.4.0 or 1.0.0 write it.
func before(c *space, v string) map[string]any {
	ip := map[string]any{"address": "192.0.2.9/24", "interface": 0}
	if !atLeast(v, "1.0.0") {
		ip["version"] = "4"
	}
	return map[string]any{
		"cniVersion": v,
		"interfaces": []any{map[string]any{"name": "dmz0", "mac": "02:00:5e:10:00:02", "sandbox": c.path}},
		"ips":        []any{ip},
		"routes":     []any{map[string]any{"dst": "198.51.100.0/24", "gw": "192.0.2.1"}},
		"dns":        map[string]any{"nameservers": []string{"192.0.2.53"}},
	}
}

// chained adds a container after an earlier plugin, whose result is of version
// v. A plugin that says that it has to be the first is not concerned.
func (t *trial) chained(v string, opts ...option) (*attachment, error) {
	n, err := t.newNetwork(24)
	if err != nil {
		return nil, err
	}
	c, err := t.container()
	if err != nil {
		return nil, err
	}
	if err := c.occupy("dmz0"); err != nil {
		return nil, err
	}
	a := t.attach(n, c, "eth0", append([]option{key("prevResult", before(c, v))}, opts...)...)
	if o := a.try(); o.code != 0 {
		if err := o.refused(nil); err != nil {
			return nil, err
		}
		return nil, inapplicable("it has to be the first: %v", o)
	}
	_, err = a.link()
	return a, err
}

// merged says whether the result has both what was before and its own.
func (a *attachment) merged() error {
	r := a.result
	var addresses, routes []string
	for _, x := range r.IPs {
		addresses = append(addresses, x.Address)
	}
	for _, x := range r.Routes {
		routes = append(routes, x.Dst)
	}
	text, _ := json.Marshal(r)
	switch _, own := r.inside(a.c.path, "eth0"); {
	case own == nil:
		return seen("no eth0 in the result: %s", text)
	case !slices.ContainsFunc(r.Interfaces, func(i iface) bool { return i.Name == "dmz0" && i.MAC == "02:00:5e:10:00:02" }):
		return seen("the interface of `prevResult` is not in the result")
	case !slices.Contains(addresses, "192.0.2.9/24"):
		return seen("the address of `prevResult` is not in the result")
	case !slices.Contains(routes, "198.51.100.0/24"):
		return seen("the route of `prevResult` is not in the result")
	case !slices.Contains(r.DNS.Nameservers, "192.0.2.53"):
		return seen("the nameserver of `prevResult` is not in the result")
	}
	return a.indexed()
}

// indexed says whether addresses still point at their interfaces.
func (a *attachment) indexed() error {
	for _, x := range a.result.IPs {
		if x.Interface == nil {
			continue
		}
		name, want := a.result.Interfaces[*x.Interface].Name, "eth0"
		if x.Address == "192.0.2.9/24" {
			want = "dmz0"
		}
		if name != want {
			return seen("%s is said to be on %s, not on %s", x.Address, name, want)
		}
	}
	return nil
}

func chainKept(t *trial) error {
	a, err := t.chained(t.newest())
	if err != nil {
		return err
	}
	return a.merged()
}

func chainConverted(t *trial) error {
	for _, v := range t.versions {
		if !atLeast(v, "0.3.0") {
			continue
		}
		other := "0.4.0"
		if !atLeast(v, "1.0.0") {
			other = "1.0.0"
		}
		a, err := t.chained(other, version(v))
		if err != nil {
			return err
		}
		if _, err := parse(v, a.out.stdout); err != nil {
			return seen("%s in a list of %s: %v", other, v, err)
		}
		if err := a.merged(); err != nil {
			return err
		}
	}
	return nil
}

func chainDeleted(t *trial) error {
	a, err := t.chained(t.newest())
	if err != nil {
		return err
	}
	if err := a.del(); err != nil {
		return err
	}
	if err := a.vanishes(); err != nil {
		return err
	}
	links, err := a.c.links()
	if _, there := links["dmz0"]; err == nil && !there {
		return seen("dmz0 is gone too")
	}
	return err
}

// stays changes a container's interface behind the plugin's back, as the next
// plugin of a list does, and looks whether that is undone in the next seconds.
func (t *trial) stays(change func(*netlink.Handle, netlink.Link) error) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	before, err := a.state()
	if err != nil {
		return err
	}
	if err := a.c.onLink("eth0", change); err != nil {
		return err
	}
	changed, err := a.state()
	if err != nil {
		return err
	}
	if changed == before {
		return seen("it was undone")
	}
	for end := time.Now().Add(undoing); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		after, err := a.state()
		if err != nil {
			return err
		}
		if after != changed {
			return seen("it was undone")
		}
	}
	return nil
}

// undoing is how long a daemon may take to notice a change, on a busy machine.
const undoing = 5 * time.Second

// state is the interface and its routes as text.
func (a *attachment) state() (string, error) {
	l, err := a.link()
	if err != nil {
		return "", err
	}
	routes, err := a.c.routes()
	routes = slices.DeleteFunc(routes, func(r string) bool { return strings.HasPrefix(r, "fe80:") }) // the kernel's, in its own time
	slices.Sort(routes)
	return fmt.Sprint(l, routes), err
}

func addMore(h *netlink.Handle, l netlink.Link) error {
	addr, err := netlink.ParseAddr("192.0.2.10/24")
	if err != nil {
		return err
	}
	if err := h.AddrAdd(l, addr); err != nil {
		return err
	}
	_, dst, err := net.ParseCIDR("198.51.100.0/24")
	if err != nil {
		return err
	}
	return h.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: dst, Gw: net.IPv4(192, 0, 2, 1)})
}
