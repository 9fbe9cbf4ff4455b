package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// ports returns the holds and the map elements of a sandbox's published ports.
func ports(sb *model.Sandbox, nets map[model.ID]*model.Network, f Facts) []kstate.Object {
	if len(sb.Ports) == 0 {
		return nil
	}
	var p publisher
	for _, m := range sb.Ports {
		if m.From != "" {
			p.limits = append(p.limits, m)
		}
	}
	for _, is6 := range []bool{false, true} {
		if e := natGateway(sb, nets, is6); e != nil {
			a, _ := e.Addr(is6)
			p.target[index(is6)] = a.Addr()
			p.answersAround(sb, nets[e.Network], is6)
			p.near[index(is6)] = neighbourhood(nets[e.Network], f)
		}
	}
	routed := Routed(sb, nets)
	for _, a := range routed {
		p.routed[index(a.Is6())] = true
	}
	for _, m := range sb.Ports {
		if p.rewrites() && !m.Idle {
			p.hold(m)
			for _, is6 := range []bool{false, true} {
				if !m.HostIP.IsValid() || m.HostIP.Is6() == is6 {
					p.publish(m, is6)
				}
			}
		}
		for _, a := range routed {
			if !m.HostIP.IsValid() || m.HostIP.Is6() == a.Is6() && !m.HostIP.IsLoopback() {
				p.opens(m, a)
			}
		}
	}
	p.openPorts()
	return p.objs
}

// NATs reports whether a sandbox's published ports take ports of the host. On
// routed networks alone they are reached at the container's own addresses.
func NATs(sb *model.Sandbox, nets map[model.ID]*model.Network) bool {
	return natGateway(sb, nets, false) != nil || natGateway(sb, nets, true) != nil
}

// natGateway returns the endpoint that host ports of a family lead to, or nil:
// the one that carries them, unless its network is routed.
func natGateway(sb *model.Sandbox, nets map[model.ID]*model.Network, is6 bool) *model.Endpoint {
	if e := Carrier(sb, nets, is6); e != nil && nets[e.Network].Mode(is6).NAT() {
		return e
	}
	return nil
}

// Routed lists the addresses at which a sandbox is reached itself.
func Routed(sb *model.Sandbox, nets map[model.ID]*model.Network) []netip.Addr {
	var out []netip.Addr
	for i := range sb.Endpoints {
		n := nets[sb.Endpoints[i].Network]
		for _, a := range sb.Endpoints[i].Addrs {
			if n != nil && !n.Internal && n.Mode(a.Addr().Is6()) == model.GatewayRouted {
				out = append(out, a.Addr())
			}
		}
	}
	return out
}

// publisher gathers the objects of one sandbox's published ports.
type publisher struct {
	limits []model.PortMapping // those that are for some clients only
	target [2]netip.Addr       // of the container, by index
	routed [2]bool             // the container is reached at its own address
	near   [2]string           // the bridge whose containers the proxy serves, or ""
	open   []span
	objs   []kstate.Object
}

// span is ports by which a container may be reached. Where they are for some
// clients only, what is rewritten goes by the address and port that were asked
// for: ports of the host that lead to one port of the container can be for
// different clients.
type span struct {
	to          netip.Addr
	proto       string
	asked       string // an address or prefix; "" is the container's, and the ports are too
	from        string // a prefix; "" is everyone
	first, last uint16
}

func (p *publisher) rewrites() bool { return p.target[0].IsValid() || p.target[1].IsValid() }

// hold keeps other programs off the host's ports. The kernel asks nobody when a
// program binds a port of SCTP (sctp_bind has no hook), so those are not held.
// Neither are a container runtime's: it may bind them itself, as Podman does, to
// keep others off.
func (p *publisher) hold(m model.PortMapping) {
	at, any := m.HostIP, !m.HostIP.IsValid()
	switch {
	case m.Proto == "sctp" || m.Endpoint != "" || !any && p.direct(at.Is6()):
		return
	case any && p.direct(false):
		at = netip.IPv6Unspecified()
	case any && p.direct(true):
		at = netip.IPv4Unspecified()
	}
	p.objs = append(p.objs, kstate.Hold{Proto: m.Proto, Addr: at, First: m.HostPort, Last: m.HostLast()})
}

// direct reports whether the container is reached at its own address only, in a family.
func (p *publisher) direct(is6 bool) bool {
	return p.routed[index(is6)] && !p.target[index(is6)].IsValid()
}

// opens notes that the ports of a mapping may be reached at a container's address.
func (p *publisher) opens(m model.PortMapping, to netip.Addr) {
	if !p.limited(m) {
		p.open = append(p.open, span{to, m.Proto, "", "", m.Port, m.Port + m.Count - 1})
		return
	}
	for _, from := range clientsOf(m, to.Is6()) {
		p.open = append(p.open, span{to, m.Proto, "", clientSpan(from), m.Port, m.Port + m.Count - 1})
	}
}

// serves notes that a container may be reached by a mapping's host ports.
func (p *publisher) serves(m model.PortMapping, to netip.Addr) {
	if !p.limited(m) {
		p.opens(m, to)
		return
	}
	asked := anyAddr(to.Is6()).String()
	if !everywhere(m.HostIP) {
		asked = m.HostIP.String()
	}
	for _, from := range clientsOf(m, to.Is6()) {
		p.open = append(p.open, span{to, m.Proto, asked, clientSpan(from), m.HostPort, m.HostLast()})
	}
	if !m.HostIP.IsLoopback() {
		p.opens(m, to) // for trusted devices
	}
}

// limited reports whether a mapping has a port of the container in common with
// one that is for some clients only, or is such a one.
func (p *publisher) limited(m model.PortMapping) bool {
	return slices.ContainsFunc(p.limits, func(o model.PortMapping) bool {
		return o.Proto == m.Proto && o.Port <= m.Port+m.Count-1 && m.Port <= o.Port+o.Count-1
	})
}

// clientsOf returns who may use a mapping.
func clientsOf(m model.PortMapping, is6 bool) []netip.Prefix {
	if m.From == "" {
		return []netip.Prefix{anyAddr(is6)}
	}
	return m.From.Prefixes(is6)
}

// anyAddr holds all addresses of a family.
func anyAddr(is6 bool) netip.Prefix {
	if is6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

func index(is6 bool) int {
	if is6 {
		return 1
	}
	return 0
}

// everywhere reports whether a host address stands for all of its family.
func everywhere(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() }

func (p *publisher) elem(set *kstate.NftSet, value, format string, args ...any) {
	p.objs = append(p.objs, kstate.Elem{Set: set, At: fmt.Sprintf(format, args...), Value: value})
}

// answersAround notes the other networks of a sandbox: it would answer clients
// there directly, and not from the address they asked. One whose default route
// is somebody else's would answer all clients so.
func (p *publisher) answersAround(sb *model.Sandbox, gateway *model.Network, is6 bool) {
	if sb.Routed(is6) || leadsElsewhere(gateway, is6) {
		p.elem(setAround.of(is6), "", "%s . %s", anyAddr(is6), p.target[index(is6)])
		return
	}
	for i := range sb.Endpoints {
		e := &sb.Endpoints[i]
		if a, ok := e.Addr(is6); ok && e.Network != gateway.ID {
			p.elem(setAround.of(is6), "", "%s . %s", a.Masked(), p.target[index(is6)])
		}
	}
}

// leadsElsewhere reports whether a network's containers send to another machine
// what is not on their subnet, while the host is there too.
func leadsElsewhere(n *model.Network, is6 bool) bool {
	sub, ok := n.Subnet(is6)
	return ok && n.OnBridge(is6) && sub.Router() != sub.Gateway
}

// publish makes a mapping reachable at the host's addresses of one family, unless
// the container is routed in that one.
func (p *publisher) publish(m model.PortMapping, is6 bool) {
	to := p.target[index(is6)]
	if to.IsValid() {
		p.rewrite(m, to)
		p.serves(m, to)
		p.serveNear(m, is6)
	}
	switch {
	case m.Proto == "sctp" || p.direct(is6):
	case !to.IsValid() || is6 && needsProxy(m.HostIP):
		p.proxy(m, is6)
	}
}

// neighbourhood returns the bridge of a network whose containers are kept apart by more
// than the firewall, or "".
func neighbourhood(n *model.Network, f Facts) string {
	if f.BridgeNetfilter && n.Options.NoICC && n.Bridged() {
		return n.Device()
	}
	return ""
}

// serveNear adds the element that sends neighbours, and the container itself, to the
// daemon's proxy. It has no SCTP.
func (p *publisher) serveNear(m model.PortMapping, is6 bool) {
	dev := p.near[index(is6)]
	if dev == "" || m.Proto == "sctp" || m.HostIP.IsLoopback() {
		return
	}
	at := anyAddr(is6).String()
	if !everywhere(m.HostIP) {
		at = m.HostIP.String()
	}
	p.elem(setNear.of(is6), "", "%s . %s . %s . %s", dev, at, m.Proto, portSpan(m.HostPort, m.HostLast()))
}

// needsProxy reports whether some clients of an IPv6 host address cannot be
// rewritten: the kernel sends nothing from ::1 out of another device, and a
// link-local client is unknown behind a router.
func needsProxy(a netip.Addr) bool {
	return everywhere(a) || a.IsLoopback() || a.IsLinkLocalUnicast()
}

// rewrite adds the elements that change a packet's destination to the
// container. A range can be thousands of elements, so they are put together
// plainly.
func (p *publisher) rewrite(m model.PortMapping, to netip.Addr) {
	is6 := to.Is6()
	if everywhere(m.HostIP) && m.Count > 1 && m.HostPort == m.Port {
		p.elem(mapRanges.of(is6), to.String(), "%s . %d-%d", m.Proto, m.HostPort, m.HostLast())
		return
	}
	set, at, value := mapPorts.of(is6), m.Proto+" . ", to.String()+" . "
	if !everywhere(m.HostIP) {
		set, at = mapPortsAt.of(is6), m.HostIP.String()+" . "+at
	}
	p.objs = slices.Grow(p.objs, int(m.Count))
	for i := range m.Count {
		p.objs = append(p.objs, kstate.Elem{Set: set, At: at + strconv.Itoa(int(m.HostPort+i)), Value: value + strconv.Itoa(int(m.Port+i))})
	}
}

// proxy adds the elements that send clients to the daemon's proxy.
func (p *publisher) proxy(m model.PortMapping, is6 bool) {
	switch {
	case !everywhere(m.HostIP):
		for i := range m.Count {
			p.elem(setProxyAt.of(is6), "", "%s . %s . %d", m.HostIP, m.Proto, m.HostPort+i)
		}
	case m.Count > 1:
		p.elem(setProxies.of(is6), "", "%s . %d-%d", m.Proto, m.HostPort, m.HostLast())
	default:
		p.elem(setProxy.of(is6), "", "%s . %d", m.Proto, m.HostPort)
	}
}

// openPorts lets packets pass to the container's published ports. Spans that
// touch are joined: the kernel refuses overlapping intervals.
func (p *publisher) openPorts() {
	p.open = apart(p.open)
	slices.SortFunc(p.open, func(a, b span) int {
		return cmp.Or(a.to.Compare(b.to), cmp.Compare(a.proto, b.proto), cmp.Compare(a.asked, b.asked), cmp.Compare(a.from, b.from), cmp.Compare(a.first, b.first))
	})
	for i := 0; i < len(p.open); {
		s := p.open[i]
		for i++; i < len(p.open) && joins(s, p.open[i]); i++ {
			s.last = max(s.last, p.open[i].last)
		}
		is6 := s.to.Is6()
		switch {
		case s.asked != "":
			p.elem(setAsked.of(is6), "", "%s . %s . %s . %s . %s", s.asked, portSpan(s.first, s.last), s.to, s.proto, s.from)
		case s.from != "":
			p.elem(setOpenTo.of(is6), "", "%s . %s . %s . %s", s.to, s.proto, portSpan(s.first, s.last), s.from)
		case s.first == s.last:
			p.elem(setOpen.of(is6), "", "%s . %s . %d", s.to, s.proto, s.first)
		default:
			p.elem(setOpens.of(is6), "", "%s . %s . %d-%d", s.to, s.proto, s.first, s.last)
		}
	}
}

// portSpan is ports as an element of an interval set has them.
func portSpan(first, last uint16) string {
	if first == last {
		return strconv.Itoa(int(first))
	}
	return fmt.Sprintf("%d-%d", first, last)
}

// clientSpan is a prefix as an element of an interval set has it.
func clientSpan(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func joins(a, b span) bool {
	return a.to == b.to && a.proto == b.proto && a.asked == b.asked && a.from == b.from && int(b.first) <= int(a.last)+1
}
