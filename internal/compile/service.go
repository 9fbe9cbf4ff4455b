package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/sealane/sealane/internal/driver"
	"github.com/sealane/sealane/internal/driver/overlay"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Services of overlay networks. The host of the client chooses a backend, for all
// its containers by the same maps, so the backend sees the client's own address:
//
//	client ── a service's address is asked for: the network's own tunnel device answers,
//	   │      with the bridge's address: see driver/overlay
//	bridge ── service4, by address, protocol and port: how many backends there are
//	   │      pick3: one of so many, by chance, by turns or by the client's address
//	   │      rewrite: backend4, which that is
//	   └───▶ backend, on this host or another, on the same network
//
// What it answers would go straight to the client, and past the connection here that
// knows of the service. So a frame from a backend's port to a container of this host
// is sent up to the host, as if it had been for it (divert); and one straight to such
// a port, that the host may see both directions of every connection it sees.
//
// A chain is for a number of backends, and not for a service. Services lead there by a
// number: with each verdict that comes, the kernel goes through all there are in the table
// (nft_table_validate), so these are only as many as the chains. Where sockets choose, little
// of that is for TCP: see choice.go.
var (
	setVIP     = perFamily("vip", "ADDR", "")                                     // addresses of services
	mapService = perFamily("service", "ADDR . inet_proto . inet_service", "mark") // asked for at → the number of a chain
	mapPick    = set("pick", "mark", "verdict")                                   // that number → the chain
	mapBackend = perFamily("backend", "ADDR . inet_proto . inet_service . mark", "ADDR . inet_service")
	setHairpin = perFamily("hairpin", "ADDR . ADDR", "") // backends here, twice: those that choose themselves

	mapHere     = &kstate.NftSet{Table: bridgeTable, Name: "here", Type: "ether_addr", Data: "ether_addr"} // a container here → its bridge, at which the host is
	setAnswers  = families{bridgeSet("answers4", "ipv4_addr . inet_proto . inet_service"), bridgeSet("answers6", "ipv6_addr . inet_proto . inet_service")}
	setServants = families{bridgeSet("servants4", "ipv4_addr"), bridgeSet("servants6", "ipv6_addr")} // the same: fragments have no port
)

// maxPicks is how many a chain chooses from.
const maxPicks = kstate.MaxBackends

// Pick is a chain that chooses one of so many.
type Pick = driver.Pick

// pickOf is how a backend of a service is chosen; N is 0 if there is none.
func pickOf(s *model.Service, is6 bool) Pick {
	n := 0
	for i := range s.Backends {
		n = min(n+share(&s.Backends[i], is6), maxPicks)
	}
	return Pick{Balance: s.Balance, N: n}
}

// pickMark is the chain's number: how it chooses, and of how many.
func pickMark(p Pick) string {
	how := map[model.Balance]int{model.BalanceRound: 1, model.BalanceHash: 2}[p.Balance]
	return mark(how<<16 | p.N)
}

// mark is a number as nftables writes a mark.
func mark(n int) string {
	const digits = "00000000"
	text := strconv.FormatUint(uint64(uint32(n)), 16)
	return "0x" + digits[len(text):] + text
}

// verdict goes to the chain.
func pickVerdict(p Pick) string { return "goto " + pickName(p) }

func pickName(p Pick) string {
	name := map[model.Balance]string{model.BalanceRound: "turn", model.BalanceHash: "hash"}[p.Balance]
	return fmt.Sprintf("%s%d", cmp.Or(name, "pick"), p.N)
}

// Picks lists the chains that services of a network need, in order.
func Picks(n *model.Network, services []*model.Service) []Pick {
	seen := map[Pick]bool{}
	for _, s := range services {
		picksOf(n, s, seen)
	}
	return sortPicks(seen)
}

// picksOf adds the chains that a service needs.
func picksOf(n *model.Network, s *model.Service, seen map[Pick]bool) {
	for _, vip := range s.VIPs {
		if p := pickOf(s, vip.Is6()); p.N > 0 && !n.Absent() {
			seen[p] = true
		}
	}
	if n.Overlay.Mesh == nil {
		return
	}
	for _, p := range offeredPicks(n, s) {
		seen[p] = true
	}
}

// serving reports whether a network that is on this host has services with addresses.
func serving(in Intent) bool {
	for _, n := range in.Networks {
		if n.Overlay != nil && !n.Absent() && slices.ContainsFunc(n.Overlay.Services, func(s *model.Service) bool { return len(s.VIPs) > 0 }) {
			return true
		}
	}
	return false
}

func sortPicks(seen map[Pick]bool) []Pick {
	var all []Pick
	for p := range seen {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b Pick) int { return cmp.Or(cmp.Compare(a.Balance, b.Balance), a.N-b.N) })
	return all
}

// services adds the chains that choose: those that there are to be, and those that the host
// has had since the daemon started. meshed: ports of the host lead there too.
func (b builder) services(f Facts, in Intent, meshed bool) {
	seen := map[Pick]bool{}
	for _, p := range f.Picks {
		seen[p] = true
	}
	for _, n := range in.Networks {
		if n.Overlay != nil {
			for _, s := range n.Overlay.Services {
				picksOf(n, s, seen)
			}
		}
	}
	all := sortPicks(seen)
	must(b.Add(*mapPick))
	for _, p := range all {
		must(b.Add(elem(mapPick, pickMark(p), pickVerdict(p))))
		b.chain(pickName(p), slices.Concat(choosing(p), []string{"goto rewrite"})...)
	}
	rewrite := []string{
		"dnat ip addr . port to ip daddr . meta l4proto . th dport . meta mark map @backend4",
		"dnat ip6 addr . port to ip6 daddr . meta l4proto . th dport . meta mark map @backend6"}
	if meshed {
		rewrite = append(rewrite, targeting()...)
	}
	b.chain("rewrite", rewrite...)
	b.chain("service4",
		"meta mark set ip daddr . meta l4proto . th dport map @service4 meta mark vmap @pick",
		"icmp type echo-request redirect")
	b.chain("service6",
		"meta mark set ip6 daddr . meta l4proto . th dport map @service6 meta mark vmap @pick",
		"icmpv6 type echo-request redirect")
	// The mark was for the choice only. What still asks for a service found none.
	begun := []string{"ct original ip daddr @vip4 meta mark set 0", "ct original ip6 daddr @vip6 meta mark set 0"}
	chosen := []string{"ct state new jump begun", "ip daddr @vip4 goto refuse", "ip6 daddr @vip6 goto refuse"}
	if meshed {
		begun, chosen = append(begun, beginning()...), append([]string{ownFlow()}, chosen...)
	}
	b.chain("begun", begun...)
	b.base("chosen", "filter", "prerouting", steering, chosen...)
	b.chain("refuse",
		"icmp type echo-request accept",
		"icmpv6 type echo-request accept",
		"meta l4proto tcp reject with tcp reset",
		"reject")
}

// choosing are the rules that leave a number below p.N in the mark.
func choosing(p Pick) []string {
	switch {
	case p.N == 1:
		return []string{"meta mark set 0"}
	case p.Balance == model.BalanceRound:
		return []string{fmt.Sprintf("meta mark set numgen inc mod %d", p.N)}
	case p.Balance == model.BalanceHash:
		return []string{
			fmt.Sprintf("meta mark set jhash ip saddr mod %d seed 0x5ea1", p.N),
			fmt.Sprintf("meta mark set jhash ip6 saddr mod %d seed 0x5ea1", p.N),
		}
	}
	return []string{fmt.Sprintf("meta mark set numgen random mod %d", p.N)}
}

// divert returns what sends frames up to the host, in the bridges' table; kept: see strays.
func divert(f Facts, kept bool) kstate.Set {
	s := kstate.Set{}
	chain := func(name string, rules ...string) {
		must(s.Add(kstate.Chain{Table: bridgeTable, Name: name, Rules: rules}))
	}
	must(s.Add(kstate.Chain{
		Table: bridgeTable, Name: "divert", Type: "filter", Hook: "prerouting", Priority: -250, Rules: []string{
			"ether type ip goto divert4",
			"ether type ip6 goto divert6",
		}}))
	first4, first6 := []string{"ip frag-off and 0x3fff != 0 goto parts4"}, []string{"exthdr frag exists goto parts6"}
	if f.SocketsChoose {
		first4, first6 = append(first4, "meta l4proto tcp goto tcp4"), append(first6, "meta l4proto tcp goto tcp6")
		chain("tcp4", strays(kept, "ip", "4")...)
		chain("tcp6", strays(kept, "ip6", "6")...)
	}
	chain("divert4", slices.Concat(first4, answers("ip", "4"), []string{
		"icmp type destination-unreachable goto to_client",
		"icmp type time-exceeded goto to_client",
		"icmp type parameter-problem goto to_client",
	})...)
	chain("parts4", "ip saddr @servants4 goto to_client", "ip daddr @servants4 goto from_client")
	chain("divert6", slices.Concat(first6, answers("ip6", "6"), []string{
		"icmpv6 type destination-unreachable goto to_client",
		"icmpv6 type packet-too-big goto to_client",
		"icmpv6 type time-exceeded goto to_client",
		"icmpv6 type parameter-problem goto to_client",
	})...)
	chain("parts6", "ip6 saddr @servants6 goto to_client", "ip6 daddr @servants6 goto from_client")
	chain("to_client", "ether daddr set ether daddr map @here meta pkttype set host")
	chain("from_client", "ether daddr set ether saddr map @here meta pkttype set host")
	return s
}

// answers are the rules for what comes from where a backend answers, and goes there.
func answers(ip, digit string) []string {
	return []string{
		fmt.Sprintf("%s saddr . meta l4proto . th sport @answers%s goto to_client", ip, digit),
		fmt.Sprintf("%s daddr . meta l4proto . th dport @answers%s goto from_client", ip, digit),
	}
}

// served returns what a service is asked for by, and who its backends are. Where containers
// may not reach each other (icc=false) it has none for them: who asks is refused at once.
func served(n *model.Network, s *model.Service, f Facts) []kstate.Object {
	objs := overlay.Asked(n, s)
	for _, vip := range s.VIPs {
		is6 := vip.Is6()
		objs = append(objs, elem(setVIP.of(is6), vip.String(), ""))
		ready := seats(s, is6)
		if n.Options.NoICC {
			ready = nil
		}
		for _, p := range s.Ports {
			at := fmt.Sprintf("%s . %s . %d", vip, p.Proto, p.Port)
			if len(ready) > 0 {
				objs = append(objs, elem(mapService.of(is6), at, pickMark(pickOf(s, is6))))
			}
			to := make([]netip.AddrPort, len(ready))
			for i, m := range ready {
				to[i] = netip.AddrPortFrom(m.Addr(is6), cmp.Or(m.Port, p.Port))
				objs = append(objs, elem(mapBackend.of(is6), at+" . "+mark(i), to[i].Addr().String()+" . "+strconv.Itoa(int(to[i].Port()))))
			}
			if p.Proto == "tcp" {
				objs = append(objs, chosen(n, s, f, netip.AddrPortFrom(vip, p.Port), to)...)
			}
		}
	}
	return objs
}

// answering returns where a backend answers, one too that gets no new connections.
func answering(n *model.Network, s *model.Servant, f Facts) []kstate.Object {
	var objs []kstate.Object
	for i, at := range s.At {
		is6 := at.Addr.Is6()
		if comesUp(n, at, f) {
			objs = append(objs, elem(setAnswers.of(is6), fmt.Sprintf("%s . %s . %d", at.Addr, at.Proto, at.Port), ""))
		} else {
			objs = append(objs, elem(setDirect.of(is6), fmt.Sprintf("%s . %d", at.Addr, at.Port), ""))
		}
		if i > 0 && s.At[i-1].Addr == at.Addr && s.At[i-1].Local == at.Local {
			continue
		}
		objs = append(objs, elem(setServants.of(is6), at.Addr.String(), ""))
		if at.Local {
			objs = append(objs, elem(setHairpin.of(is6), fmt.Sprintf("%s . %[1]s", at.Addr), ""))
		}
	}
	return objs
}

// seats lists the backends that new connections go to, each as often as it weighs.
func seats(s *model.Service, is6 bool) []*model.Member {
	var all []*model.Member
	for i := range s.Backends {
		m := &s.Backends[i]
		for range min(share(m, is6), maxPicks-len(all)) {
			all = append(all, m)
		}
	}
	return all
}

// share is how many seats a backend has.
func share(m *model.Member, is6 bool) int {
	if m.State != model.MemberReady || !m.Addr(is6).IsValid() {
		return 0
	}
	return max(m.Weight, 1)
}

// resident returns what says on which bridge of this host a container is.
func resident(e *model.Endpoint, n *model.Network) []kstate.Object {
	if n.Overlay == nil {
		return nil
	}
	return []kstate.Object{elem(mapHere, e.MAC, model.MACForID(model.MACBridge, n.ID))}
}
