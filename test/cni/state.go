package main

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
)

func removeLink(h *netlink.Handle, l netlink.Link) error { return h.LinkDel(l) }

func checkChecks() []check {
	const since = "0.4.0"
	spoilt := func(what func(*attachment) error) func(*trial) error {
		return func(t *trial) error { return t.notices(what) }
	}
	return []check{
		{"check.good", "CHECK", "must", "CHECK succeeds right after ADD, and prints nothing", since, checkGood},
		{"check.versions", "CHECK", "must", "CHECK of every version from 0.4.0 succeeds right after ADD", since, checkVersions},
		{"check.old", "Section 1", "sense", "CHECK with `cniVersion` 0.3.1, which has no CHECK, fails with code 1", since, func(t *trial) error {
			return t.tooOld("CHECK", "0.3.1")
		}},
		{"check.no-previous", "CHECK", "must", "CHECK without `prevResult` fails with an error object", since, func(t *trial) error {
			a, err := t.fresh()
			if err != nil {
				return err
			}
			return a.later("CHECK", key("prevResult", nil)).refused(nil)
		}},
		{"check.interface-gone", "CHECK", "should", "CHECK fails when the interface is gone, unless it was made again", since, spoilt(func(a *attachment) error {
			return a.c.onLink("eth0", removeLink)
		})},
		{"check.link-down", "CHECK", "should", "CHECK fails when the interface is down, unless it was set up again", since, spoilt(func(a *attachment) error {
			return a.c.onLink("eth0", func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetDown(l) })
		})},
		{"check.address-gone", "CHECK", "should", "CHECK fails when the address is gone, unless it was added again", since, spoilt(removeAddress)},
		{"check.route-gone", "CHECK", "should", "CHECK fails when the default route is gone, unless it was added again", since, spoilt(removeDefault)},
		{"check.subnet-route-gone", "CHECK", "should", "CHECK fails when the route to the address's subnet is gone, unless it was added again", since, spoilt(removeSubnet)},
		{"check.host-side-gone", "CHECK", "should", "CHECK fails when the host's end is no port of the bridge any more, unless it was made one again", since, spoilt(unplug)},
		{"check.other-address", "CHECK", "must", "CHECK fails when `prevResult` has an address that the interface has not", since, checkOtherAddress},
		{"check.deleted", "CHECK", "sense", "CHECK after DEL fails", since, func(t *trial) error {
			a, err := t.fresh()
			if err == nil {
				err = a.del()
			}
			if err != nil {
				return err
			}
			return a.later("CHECK").refused(nil)
		}},
		{"check.namespace-gone", "CHECK", "sense", "CHECK with the namespace gone fails", since, func(t *trial) error {
			a, err := t.fresh()
			if err == nil {
				err = a.c.end()
			}
			if err != nil {
				return err
			}
			return a.later("CHECK").refused(nil)
		}},
		{"check.more-routes", "CHECK", "must", "CHECK succeeds when a later plugin has added a route", since, checkMoreRoutes},
		{"check.later-mac", "CHECK", "must", "CHECK succeeds when a later plugin has changed the MAC, and `prevResult` says so", since, checkLaterMAC},
		{"check.later-address", "CHECK", "must", "CHECK succeeds when a later plugin has added an address, and `prevResult` says so", since, checkLaterAddress},
	}
}

func checkGood(t *trial) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	o := a.later("CHECK")
	if err := o.succeeded(); err != nil {
		return err
	}
	if len(o.stdout) > 0 {
		return seen("%v", o)
	}
	return nil
}

func checkVersions(t *trial) error {
	for _, v := range t.versions {
		if !atLeast(v, "0.4.0") {
			continue
		}
		a, err := t.fresh(version(v))
		if err != nil {
			return err
		}
		if err := a.later("CHECK").succeeded(); err != nil {
			return fmt.Errorf("%s: %w", v, err)
		}
	}
	return nil
}

// tooOld says whether a command is refused for a configuration of a version
// that has it not.
func (t *trial) tooOld(command, v string) error {
	if !slices.Contains(t.versions, v) {
		return inapplicable("it does not announce %s", v)
	}
	a, err := t.fresh(version(v))
	if err != nil {
		return err
	}
	return a.later(command).refused([]uint{1})
}

// notices spoils an attachment and says whether CHECK sees it. A plugin with a
// daemon may have repaired it by the time that CHECK has looked.
func (t *trial) notices(spoil func(*attachment) error) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	was, err := a.picture()
	if err != nil {
		return err
	}
	if err := spoil(a); err != nil {
		return err
	}
	o := a.later("CHECK")
	if o.code != 0 {
		return o.refused(nil)
	}
	is, err := a.picture()
	if err != nil {
		return err
	}
	if was != is {
		return seen("%v", o)
	}
	return nil
}

// picture is what CHECK has to look at, as text without what differs between
// two devices that do the same.
func (a *attachment) picture() (string, error) {
	links, err := a.c.links()
	if err != nil {
		return "", err
	}
	routes, err := a.c.routes()
	if err != nil {
		return "", err
	}
	ports, err := a.ports()
	l := links[a.ifname]
	slices.Sort(routes)
	return fmt.Sprint(l.name, l.up, l.addresses, routes, ports), err
}

// ports counts the devices of the result that are ports of a bridge on the host.
func (a *attachment) ports() (int, error) {
	n := 0
	err := (*space)(nil).handle(func(h *netlink.Handle) error {
		for _, i := range a.result.Interfaces {
			l, err := h.LinkByName(i.Name)
			if i.Sandbox == "" && err == nil && l.Attrs().MasterIndex != 0 {
				n++
			}
		}
		return nil
	})
	return n, err
}

func removeAddress(a *attachment) error {
	return a.c.onLink("eth0", func(h *netlink.Handle, l netlink.Link) error {
		addr, err := netlink.ParseAddr(a.result.address().String())
		if err != nil {
			return err
		}
		return h.AddrDel(l, addr)
	})
}

func removeDefault(a *attachment) error {
	ok, err := a.c.hasRoute("0.0.0.0/0", "", "eth0")
	if err != nil {
		return err
	}
	if !ok {
		return inapplicable("there is no default route")
	}
	return a.c.onLink("eth0", func(h *netlink.Handle, l netlink.Link) error {
		return h.RouteDel(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}})
	})
}

// removeSubnet removes the route that the kernel made with the address.
func removeSubnet(a *attachment) error {
	_, subnet, err := net.ParseCIDR(a.result.address().String())
	if err != nil {
		return err
	}
	return a.c.onLink("eth0", func(h *netlink.Handle, l netlink.Link) error {
		return h.RouteDel(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: subnet, Scope: netlink.SCOPE_LINK})
	})
}

// unplug takes the host's ends off their bridges.
func unplug(a *attachment) error {
	n, err := a.ports()
	if err != nil {
		return err
	}
	if n == 0 {
		return inapplicable("no port of a bridge in the result")
	}
	return (*space)(nil).handle(func(h *netlink.Handle) error {
		for _, i := range a.result.Interfaces {
			if i.Sandbox != "" {
				continue
			}
			l, err := h.LinkByName(i.Name)
			if err == nil && l.Attrs().MasterIndex != 0 {
				err = h.LinkSetNoMaster(l)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// changed is the result of ADD after fn has changed it as JSON.
func (a *attachment) changed(fn func(map[string]any)) (option, error) {
	var r map[string]any
	if err := json.Unmarshal(a.out.stdout, &r); err != nil {
		return nil, err
	}
	fn(r)
	return key("prevResult", r), nil
}

// each calls fn for the objects of a list of a result.
func each(r map[string]any, list string, fn func(map[string]any)) {
	all, _ := r[list].([]any)
	for _, x := range all {
		if object, ok := x.(map[string]any); ok {
			fn(object)
		}
	}
}

func checkOtherAddress(t *trial) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	prev, err := a.changed(func(r map[string]any) {
		each(r, "ips", func(ip map[string]any) { ip["address"] = "192.0.2.77/24" })
	})
	if err != nil {
		return err
	}
	return a.later("CHECK", prev).refused(nil)
}

func checkMoreRoutes(t *trial) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	_, dst, err := net.ParseCIDR("198.51.100.0/24")
	if err != nil {
		return err
	}
	err = a.c.onLink("eth0", func(h *netlink.Handle, l netlink.Link) error {
		return h.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: dst, Scope: netlink.SCOPE_LINK})
	})
	if err != nil {
		return err
	}
	prev, err := a.changed(func(r map[string]any) {
		routes, _ := r["routes"].([]any)
		r["routes"] = append(routes, map[string]any{"dst": dst.String()})
	})
	if err != nil {
		return err
	}
	return a.later("CHECK", prev).succeeded()
}

func checkLaterAddress(t *trial) error {
	a, err := t.fresh()
	if err != nil {
		return err
	}
	if err := a.c.onLink("eth0", addMore); err != nil {
		return err
	}
	at, _ := a.result.inside(a.c.path, "eth0")
	prev, err := a.changed(func(r map[string]any) {
		more := map[string]any{"address": "192.0.2.10/24", "interface": at}
		if !atLeast(t.newest(), "1.0.0") {
			more["version"] = "4"
		}
		ips, _ := r["ips"].([]any)
		r["ips"] = append(ips, more)
	})
	if err != nil {
		return err
	}
	return a.later("CHECK", prev).succeeded()
}

func checkLaterMAC(t *trial) error {
	const mac = "02:00:5e:10:00:01"
	a, err := t.fresh()
	if err != nil {
		return err
	}
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	err = a.c.onLink("eth0", func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetHardwareAddr(l, hw) })
	if err != nil {
		return err
	}
	prev, err := a.changed(func(r map[string]any) {
		each(r, "interfaces", func(i map[string]any) {
			if i["sandbox"] != nil && i["sandbox"] != "" {
				i["mac"] = mac
			}
		})
	})
	if err != nil {
		return err
	}
	o := a.later("CHECK", prev)
	if f, err := o.failure(); err == nil { // a daemon may have put the old one back: more words, or fewer
		words, _, _ := strings.Cut(f.text(), ";")
		return seen("exit %d, code %d: %s", o.code, *f.Code, words)
	}
	return o.succeeded()
}
