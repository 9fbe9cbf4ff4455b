package trace

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// filter is our firewall's elements by set: what varies in it. Its structure is fixed,
// and followed here in the order that compile/firewall.go tells.
type filter map[string][]kstate.Elem

// judgement is what it says of a packet.
type judgement struct {
	drop bool
	said string
}

func passes(said string) judgement { return judgement{said: said} }
func drops(said string) judgement  { return judgement{drop: true, said: said} }

// add takes in an element, if it is of the table that judges IP.
func (f filter) add(e kstate.Elem) {
	if e.Set.Table.Family == "inet" {
		f[e.Set.Name] = append(f[e.Set.Name], e)
	}
}

// find looks a key up. Of intervals, the parts that are prefixes hold addresses.
func (f filter) find(set string, key ...string) (value string, ok bool) {
	for _, e := range f[set] {
		if holds(strings.Split(e.At, " . "), key) {
			return e.Value, true
		}
	}
	return "", false
}

func (f filter) has(set string, key ...string) bool { _, ok := f.find(set, key...); return ok }

func holds(parts, key []string) bool {
	if len(parts) != len(key) {
		return false
	}
	for i, part := range parts {
		if part != key[i] && !within(part, key[i]) {
			return false
		}
	}
	return true
}

// within reports whether an address is in a prefix, or in a range as nft writes it.
func within(part, key string) bool {
	a, err := netip.ParseAddr(key)
	if err != nil {
		return false
	}
	if p, err := netip.ParsePrefix(part); err == nil {
		return p.Contains(a)
	}
	first, last, ranged := strings.Cut(part, "-")
	low, err := netip.ParseAddr(first)
	high, err2 := netip.ParseAddr(last)
	return ranged && err == nil && err2 == nil && !a.Less(low) && !high.Less(a)
}

// digit ends the names of sets of a family.
func digit(is6 bool) string {
	if is6 {
		return "6"
	}
	return "4"
}

// forward judges what goes from one device to another.
func (f filter) forward(in, out string, src, dst netip.Addr, reply bool) judgement {
	egress, ours := f.find("egress", in)
	switch {
	case !ours:
		return f.ingress(in, out, src, dst, reply)
	case egress == "goto arrived":
		if f.has("fabric"+digit(dst.Is6()), in, src.String(), dst.String()) {
			return passes("chain arrived: comes from another host of its network")
		}
		return drops("chain arrived: by " + in + " may come only what is from its network to this host's containers on it")
	case egress == "goto stay":
		return f.inside(in, out, drops("chain stay: "+in+" is of an internal network, which nothing leaves"), reply)
	case reply:
		return passes("an answer to what was let pass")
	}
	onward, _ := f.find("onward", out)
	if onward == "goto within" {
		return f.inside(in, out, f.ingress(in, out, src, dst, reply), reply)
	}
	d := digit(dst.Is6())
	switch {
	case onward != "goto across" && !f.has("whole"+d, dst.String()):
		return passes("chain leave: may leave " + in)
	case f.has("within"+d, src.String(), dst.String()):
		return passes("chain across: stays inside its network, which spans hosts")
	}
	return drops("chain across: " + dst.String() + " is of a network over hosts that " + src.String() + " is not of")
}

// inside judges what may stay inside one network; what does not is otherwise.
func (f filter) inside(in, out string, otherwise judgement, reply bool) judgement {
	verdict, ok := f.find("inside", in, out)
	switch {
	case !ok:
		return otherwise
	case verdict == "goto pass":
		return passes("set inside: stays inside its network")
	case reply:
		return passes("an answer to what was let pass")
	}
	return drops("chain to_nat: icc=false keeps containers of this network apart, but for published ports")
}

// ingress judges what enters a network.
func (f filter) ingress(in, out string, src, dst netip.Addr, reply bool) judgement {
	d := digit(dst.Is6())
	verdict, ours := f.find("ingress"+d, out)
	switch {
	case !ours:
		return passes("none of sealane's rules is about it")
	case verdict == "drop":
		return drops("map ingress" + d + ": nothing from elsewhere may enter by " + out)
	case reply:
		return passes("an answer to what was let pass")
	case verdict == "goto to_open":
		return passes("chain to_open: gateway-mode nat-unprotected lets everything in by " + out)
	case verdict == "goto to_routed":
		return drops("chain to_routed: gateway-mode routed lets only pings and published ports in by " + out)
	case f.has("fabric"+d, in, src.String(), dst.String()):
		return passes("set fabric" + d + ": comes from another host of its network")
	case f.has("trusted", in, out):
		return drops("chain to_nat: trusted-interfaces lets only published ports in from " + in + " by " + out)
	}
	return drops("chain to_nat: only answers and published ports may enter by " + out)
}

// input judges what is for the host itself.
func (f filter) input(in string, is6, reply bool) judgement {
	verdict, ours := f.find("to_host"+digit(is6), in)
	switch {
	case !ours:
		return passes("none of sealane's rules keeps it from the host")
	case verdict == "drop":
		return drops("map to_host" + digit(is6) + ": containers on " + in + " have nothing to say to the host")
	case reply:
		return passes("an answer to what the host asked")
	}
	return drops("chain no_host: host-access=off lets only pings and published ports from " + in + " to the host")
}

// outer judges a packet to a UDP port of the host's that another host sends through a
// tunnel, and that comes by a device.
func (f filter) outer(in string, port int, from netip.Addr) judgement {
	switch sealed := f.has("sealed", strconv.Itoa(port)); {
	case sealed && in == model.CipherDevice:
		return passes("chain outer: it came through " + in + ", encrypted")
	case sealed:
		return drops("chain outer: it did not come through " + model.CipherDevice)
	case !f.has("trunks", strconv.Itoa(port)):
		return passes("none of sealane's rules is about it")
	case f.has("hosts"+digit(from.Is6()), from.String()):
		return passes("chain outer: " + from.String() + " is another host of an overlay network")
	}
	return drops("chain outer: " + from.String() + " is no other host of an overlay network")
}

// source says which address a packet leaves with: another one, the zero address for
// one of the device, and why; "" is its own.
func (f filter) source(src, dst netip.Addr, out string) (to netip.Addr, by string) {
	d := digit(dst.Is6())
	switch {
	case !src.IsValid(), f.has("home"+d, src.String(), out), f.has("within"+d, src.String(), dst.String()):
		return to, ""
	}
	if text, ok := f.find("source"+d, src.String()); ok {
		to, _ = netip.ParseAddr(text)
		return to, "source-ip"
	}
	if f.has("masq"+d, src.String()) {
		return to, "masquerade"
	}
	return to, ""
}
