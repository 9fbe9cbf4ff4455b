package compile

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Where sockets can choose, a container that asks for a service by TCP has its backend
// when it connects, and its packets go straight there, over bridge and tunnel as any
// others. Nothing comes of the service's address then, and nothing is rewritten.
//
// What still comes, by whoever makes packets without a socket of the container's own (a
// container in it, a machine) or when there was no room for one more, the host rewrites
// as before, and so it does for who is to get the same backend always. So that it can tell
// the answers to those from all that go straight, such a flow has a port that the kernel
// gives nobody by itself: net.ipv4.ip_local_port_range begins at 32768. divert looks at
// those alone, and knows them also when another way to choose has come since they began.
var setDirect = families{bridgeSet("direct4", "ipv4_addr . inet_service"), bridgeSet("direct6", "ipv6_addr . inet_service")}

// StrayPorts are of the flows that the host rewrites for who did not choose. They do not have
// the bit farPorts, nor has the port of a backend that sends straight.
const (
	StrayPorts = "1024-32767"
	farPorts   = 32768
)

// connects reports whether sockets choose for a network's services.
func connects(n *model.Network, f Facts) bool { return f.SocketsChoose && !n.Options.NoICC }

// chooser says whose sockets choose on a network: those of a container there. That of a
// container engine has a namespace once it was seen there.
func chooser(sb *model.Sandbox, n *model.Network, f Facts) []kstate.Object {
	ns := NS(sb)
	if n.Overlay == nil || !connects(n, f) || sb.Mode == model.ModeRuntime && ns.Inode == 0 || len(ns.Path) > kstate.MaxChooserPath {
		return nil
	}
	return []kstate.Object{kstate.Chooser{NS: ns, VNI: n.Overlay.VNI}}
}

// chosen returns what sockets choose from that ask for a service at an address and port. For
// who is to get the same backend always the host chooses, and where containers have nothing to
// say to each other but by the host (icc=false).
func chosen(n *model.Network, s *model.Service, f Facts, at netip.AddrPort, seats []netip.AddrPort) []kstate.Object {
	if !connects(n, f) || s.Balance == model.BalanceHash || len(seats) == 0 {
		return nil
	}
	return []kstate.Object{kstate.Choice{VNI: n.Overlay.VNI, At: at, Turns: s.Balance == model.BalanceRound, Backends: seats}}
}

// straying gives flows that the host rewrites for who did not choose a port of their own.
func straying(f Facts) (rules []string) {
	if !f.SocketsChoose {
		return nil
	}
	for _, ip := range []struct{ name, digit string }{{"ip", "4"}, {"ip6", "6"}} {
		rules = append(rules, fmt.Sprintf("meta l4proto tcp ct original %[1]s daddr @vip%[2]s snat %[1]s to %[1]s saddr :%[3]s",
			ip.name, ip.digit, StrayPorts))
	}
	return rules
}

// Keeps reports whether what one of some who answer for a network's services answers by TCP
// always comes up to the host, where sockets choose for most.
func Keeps(n *model.Network, f Facts, all []*model.Servant) bool {
	return f.SocketsChoose && !n.Absent() && slices.ContainsFunc(all, func(s *model.Servant) bool {
		return slices.ContainsFunc(s.At, func(a model.Answer) bool { return a.Proto == "tcp" && comesUp(n, a, f) })
	})
}

// comesUp reports whether all that a backend answers comes up to the host. It does by TCP
// too where sockets do not choose, and from a port that strays cannot be told by.
func comesUp(n *model.Network, a model.Answer, f Facts) bool {
	return a.Proto != "tcp" || a.Port >= farPorts || !connects(n, f)
}

// keeping reports whether the host has such a network.
func keeping(in Intent, f Facts) bool {
	for _, n := range in.Networks {
		if n.Overlay != nil && Keeps(n, f, n.Overlay.Servants) {
			return true
		}
	}
	return false
}

// strays are the rules of divert for TCP, of a family, where sockets choose. Most frames are
// of a connection that goes straight: that has one port that strays have not. kept: some
// always come up.
func strays(kept bool, ip, digit string) (rules []string) {
	if kept {
		rules = answers(ip, digit)
	}
	return append(rules,
		fmt.Sprintf("tcp sport and %d != 0 accept", farPorts),
		fmt.Sprintf("tcp dport and %d != 0 accept", farPorts),
		fmt.Sprintf("%s saddr . tcp sport @direct%s goto to_client", ip, digit),
		fmt.Sprintf("%s daddr . tcp dport @direct%s goto from_client", ip, digit))
}
