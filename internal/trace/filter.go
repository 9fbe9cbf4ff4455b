package trace

import (
	"net/netip"
	"slices"
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

// packet is what is judged, with what is known of its flow.
type packet struct {
	in, out  string
	src, dst netip.Addr
	proto    string         // "": none in particular
	dport    uint16         // 0: none in particular
	asked    netip.AddrPort // where it was sent to, if that was rewritten
	reply    bool
}

// to is where it goes, as our sets have it, or false where no port is known.
func (p packet) to() ([]string, bool) {
	return []string{p.dst.String(), p.proto, strconv.Itoa(int(p.dport))}, p.dport != 0
}

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

// within reports whether an address is in a prefix, or an address or a port in a range as
// nft writes it.
func within(part, key string) bool {
	a, err := netip.ParseAddr(key)
	if err != nil {
		return portWithin(part, key)
	}
	if p, err := netip.ParsePrefix(part); err == nil {
		return p.Contains(a)
	}
	first, last, ranged := strings.Cut(part, "-")
	low, err := netip.ParseAddr(first)
	high, err2 := netip.ParseAddr(last)
	return ranged && err == nil && err2 == nil && !a.Less(low) && !high.Less(a)
}

func portWithin(part, key string) bool {
	first, last, ranged := strings.Cut(part, "-")
	low, err := strconv.Atoi(first)
	high, err2 := strconv.Atoi(last)
	port, err3 := strconv.Atoi(key)
	return ranged && err == nil && err2 == nil && err3 == nil && low <= port && port <= high
}

// digit ends the names of sets of a family.
func digit(is6 bool) string {
	if is6 {
		return "6"
	}
	return "4"
}

// forward judges what goes from one device to another.
func (f filter) forward(p packet) judgement {
	egress, ours := f.find("egress", p.in)
	switch {
	case !ours:
		return f.ingress(p)
	case egress == "goto arrived":
		if f.has("fabric"+digit(p.dst.Is6()), p.in, p.src.String(), p.dst.String()) {
			return passes("chain arrived: comes from another host of its network")
		}
		return drops("chain arrived: by " + p.in + " may come only what is from its network to this host's containers on it")
	case egress == "goto from_mesh":
		return f.fromMesh(p)
	case egress == "goto lodgers" && !f.has("home"+digit(p.src.Is6()), p.src.String(), p.in) && !f.has("whole"+digit(p.dst.Is6()), p.dst.String()):
		return f.ingress(p)
	case egress == "drop":
		return drops("map egress: nothing comes by " + p.in + " to be passed on")
	case egress == "goto stay":
		return f.inside(p, drops("chain stay: "+p.in+" is of an internal network, which nothing leaves"))
	case p.reply:
		return passes("an answer to what was let pass")
	}
	onward, _ := f.find("onward", p.out)
	switch {
	case onward == "goto within":
		return f.inside(p, f.ingress(p))
	case onward == "goto to_others":
		return passes("chain to_others: sealane leaves it to the firewall of who made " + p.out)
	case onward == "goto to_mesh", onward == "drop":
		return f.ingress(p)
	}
	d := digit(p.dst.Is6())
	switch {
	case onward != "goto across" && !f.has("whole"+d, p.dst.String()):
		return passes("chain leave: may leave " + p.in)
	case f.has("within"+d, p.src.String(), p.dst.String()):
		return passes("chain across: stays inside its network, which spans hosts")
	}
	return drops("chain across: " + p.dst.String() + " is of a network over hosts that " + p.src.String() + " is not of")
}

// fromMesh judges what another host passes on.
func (f filter) fromMesh(p packet) judgement {
	to, known := p.to()
	switch {
	case p.reply:
		return passes("chain from_mesh: an answer to what was let pass")
	case known && f.has("exposed"+digit(p.dst.Is6()), to...):
		return passes("chain from_mesh: a backend of a service with published ports is there")
	}
	return drops("chain from_mesh: only backends of services with published ports are reached by " + p.in)
}

// inside judges what may stay inside one network; what does not is otherwise.
func (f filter) inside(p packet, otherwise judgement) judgement {
	verdict, ok := f.find("inside", p.in, p.out)
	switch {
	case !ok:
		return otherwise
	case verdict == "goto pass":
		return passes("set inside: stays inside its network")
	case p.reply:
		return passes("an answer to what was let pass")
	case p.asked.IsValid():
		return f.published(p)
	}
	return drops("chain to_nat: icc=false keeps containers of this network apart, but for published ports")
}

// ingress judges what enters a network, or the way to other hosts.
func (f filter) ingress(p packet) judgement {
	d := digit(p.dst.Is6())
	verdict, ours := f.find("ingress"+d, p.out)
	dnat := p.asked.IsValid()
	switch {
	case !ours:
		return passes("none of sealane's rules is about it")
	case verdict == "drop":
		return drops("map ingress" + d + ": nothing from elsewhere may enter by " + p.out)
	case p.reply:
		return passes("an answer to what was let pass")
	case verdict == "goto to_lodge" && !f.has("fabric"+d, p.in, p.src.String(), p.dst.String()):
		return passes("chain to_lodge: sealane leaves it to the firewall of who made " + p.out)
	case verdict == "goto to_mesh" && dnat:
		return passes("chain to_mesh: was asked for at a published port")
	case verdict == "goto to_mesh":
		return drops("chain to_mesh: only what is asked for at published ports is passed on by " + p.out)
	case dnat && verdict != "goto to_lodge", verdict == "goto to_routed" && p.dport != 0:
		return f.published(p)
	case (verdict == "goto to_open" || verdict == "goto to_routed") && f.has("listed", p.out) && !f.has("there"+d, p.dst.String()):
		return drops("chain there: nobody has this address by " + p.out)
	case verdict == "goto to_open":
		return passes("chain to_open: gateway-mode nat-unprotected lets everything in by " + p.out)
	case verdict == "goto to_routed":
		return drops("chain to_routed: gateway-mode routed lets only pings and published ports in by " + p.out)
	case f.has("fabric"+d, p.in, p.src.String(), p.dst.String()):
		return passes("set fabric" + d + ": comes from another host of its network")
	case f.has("trusted", p.in, p.out) && p.dport != 0:
		return f.published(p)
	case f.has("trusted", p.in, p.out):
		return drops("chain to_nat: trusted-interfaces lets only published ports in from " + p.in + " by " + p.out)
	}
	return drops("chain to_nat: only answers and published ports may enter by " + p.out)
}

// published judges what is for a container's port that may be published.
func (f filter) published(p packet) judgement {
	to, _ := p.to()
	d := digit(p.dst.Is6())
	port := p.dst.String() + " port " + to[2] + "/" + p.proto
	some := append(slices.Clone(to), p.src.String())
	if p.asked.IsValid() {
		some = []string{p.asked.Addr().String(), strconv.Itoa(int(p.asked.Port())), to[0], p.proto, p.src.String()}
	}
	switch {
	case f.has("open"+d, to...), f.has("open_ranges"+d, to...):
		return passes("chain published: " + port + " is published")
	case f.has("exposed"+d, to...) && !f.has("vip"+d, p.asked.Addr().String()):
		return passes("chain published: " + port + " is a backend's of a service with published ports")
	case p.asked.IsValid() && f.has("asked_from"+d, some...), !p.asked.IsValid() && f.has("open_from"+d, some...):
		return passes("chain published: " + port + " is published for " + p.src.String())
	}
	if f.has("vip"+d, p.asked.Addr().String()) {
		return drops("chain published: " + p.asked.Addr().String() + " is a service's own address, for its network: others ask for the ports that it publishes at a host")
	}
	return drops("chain published: " + port + " is not published, or not for " + p.src.String())
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
	case verdict == "goto mesh_host":
		return drops("chain mesh_host: " + in + " is not for what is asked of the host itself")
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
func (f filter) source(p packet) (to netip.Addr, by string) {
	d := digit(p.dst.Is6())
	src, dst := p.src.String(), p.dst.String()
	switch {
	case !p.src.IsValid():
		return to, ""
	case f.has("hairpin"+d, src, dst):
		return to, "a backend that chose itself"
	case p.asked.IsValid() && f.has("vip"+d, p.asked.Addr().String()):
		return to, ""
	case p.asked.IsValid() && f.has("bridges", p.out):
		if f.has("home"+d, src, p.out) || f.has("around"+d, src, dst) {
			return to, "chain clients: else the answer would not come back this way"
		}
		return to, ""
	case f.has("home"+d, src, p.out), f.has("within"+d, src, dst):
		return to, ""
	}
	if text, ok := f.find("source"+d, src); ok {
		to, _ = netip.ParseAddr(text)
		return to, "source-ip"
	}
	if f.has("masq"+d, src) {
		return to, "masquerade"
	}
	return to, ""
}
