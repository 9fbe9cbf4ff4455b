package overlay

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// The mesh passes on what is asked for at a host and served on another. A flow's mark says
// which host is at the other end, and by its mark a packet has a routing table of its own
// there, whose one route leads to that host's device.
//
//	client ─▶ eth0 192.0.2.1:8080 ┐ chosen: 10.0.0.3, on host 2             ┌─▶ bridge ─▶ 10.0.0.3
//	                              └ mark …02, table …02: via 169.254.0.2 ─▶ slm0 of host 2
//	client ◀─ eth0 192.0.2.1      ◀──────── slm0 of host 1 ◀ via 169.254.0.1: table …01, mark …01 ◀─ answers
//
// What a route leads to is on the device because the route says so. The address that the
// device has is for the kernel, see meshAnchor.
const (
	// MeshMark and MeshMask are of the marks of flows that go by it.
	MeshMark = 0x5ea10000
	MeshMask = 0xffffe000
	ownMask  = 0xffffc000 // of these and the next ones
	// ChoiceMark begins the marks of packets for which a backend was chosen, until it is
	// known where that is: what the host itself sends is routed in between, and has to
	// have a route.
	ChoiceMark = 0x5ea12000
	choiceMask = 0xfffff000

	sealedBit = 1 << 12 // after model.MaxHostNumber

	firstTable = 242250000 // of host 0: 24225, and the mark's lower bits

	passPriority = 24224 // what is not marked goes past the rules of hosts
	hostPriority = 24225
	donePriority = 24226
)

// meshAnchor is an address of the device's: what comes by one that has none is dropped also
// where net.ipv4.conf.all.rp_filter is 2, whoever is reached (__fib_validate_source, no_addr).
// Nothing is sent from it, for its scope is the host, and nobody outside can ask for it.
var meshAnchor = netip.MustParsePrefix("127.24.22.5/32")

// MarkOf is the mark of flows whose other end is at a host, by its number.
func MarkOf(number int, sealed bool) uint32 {
	if sealed {
		number |= sealedBit
	}
	return MeshMark | uint32(number)
}

// MeshDevice is the name of the mesh's device, or of that inside the tunnel of encrypted
// networks.
func MeshDevice(sealed bool) string {
	if sealed {
		return model.SealedMeshDevice
	}
	return model.MeshDevice
}

// MeshWay returns where a host of the mesh is found; the zero address is nowhere.
func MeshWay(h *model.MeshHost, sealed bool) netip.Addr {
	if sealed {
		return h.Inner
	}
	return h.At
}

// Mesh returns one of the two devices, with the ways to the other hosts by it for the
// families that are wanted: IPv4 and IPv6.
func Mesh(m *model.Mesh, sealed bool, families [2]bool, narrow Narrow) []kstate.Object {
	dev := MeshDevice(sealed)
	objs := []kstate.Object{meshLink(m, sealed)}
	if families[0] {
		objs = append(objs, kstate.Addr{Dev: dev, Prefix: meshAnchor})
	}
	for i := range m.Hosts {
		h := &m.Hosts[i]
		at := MeshWay(h, sealed)
		if !at.IsValid() {
			continue
		}
		mac, table := model.MeshMAC(h.ID, sealed), firstTable+int(MarkOf(h.Number, sealed)-MeshMark)
		objs = append(objs, kstate.FDB{Dev: dev, MAC: mac, Dst: at})
		for f, wanted := range families {
			if !wanted {
				continue
			}
			is6 := f == 1
			via := meshAddr(h.Number, is6)
			objs = append(objs, kstate.Neigh{Dev: dev, Addr: via, MAC: mac},
				kstate.Route{Dst: netip.PrefixFrom(anywhere(is6), 0), Via: via, Dev: dev, Onlink: true, Table: table, MTU: narrow.fits(at, is6)},
				kstate.Rule{Is6: is6, Priority: hostPriority, Mark: MarkOf(h.Number, sealed), Mask: 0xffffffff, Table: table})
		}
	}
	return objs
}

// MeshRules returns the policy rules that spare all other packets those of hosts, and what
// leads nowhere in particular: for packets whose backend was just chosen.
func MeshRules(dev string, families [2]bool) []kstate.Object {
	const table = firstTable + ChoiceMark - MeshMark
	var objs []kstate.Object
	for f, wanted := range families {
		if is6 := f == 1; wanted {
			objs = append(objs, kstate.Rule{Is6: is6, Priority: passPriority, Not: true, Mark: MeshMark, Mask: ownMask, Goto: donePriority},
				kstate.Rule{Is6: is6, Priority: hostPriority, Mark: ChoiceMark, Mask: choiceMask, Table: table},
				kstate.Route{Dst: netip.PrefixFrom(anywhere(is6), 0), Dev: dev, Table: table},
				kstate.Rule{Is6: is6, Priority: donePriority})
		}
	}
	return objs
}

// MeshPort is the UDP port that the device's packets go to.
func MeshPort(sealed bool) int {
	if sealed {
		return model.SealedPort
	}
	return model.OverlayPort
}

func meshLink(m *model.Mesh, sealed bool) kstate.Link {
	l := kstate.Link{
		Name: MeshDevice(sealed), Type: kstate.TypeVXLAN, MTU: m.MTU, MAC: model.MeshMAC(m.ID, sealed), Up: true, Detour: true,
		Parent: m.Uplink, VXLAN: kstate.VXLAN{VNI: model.MeshVNI, Port: MeshPort(sealed), Local: m.Local, NoLearning: true}, Alias: "sealane mesh",
	}
	if sealed {
		l.MTU, l.Parent, l.VXLAN.Local = m.MTU-aroundCipher, model.CipherDevice, m.Inner
	}
	l.MTU -= l.VXLAN.Overhead()
	return l
}

// meshAddr is what a host is called on the device, by its number: nobody has it.
func meshAddr(number int, is6 bool) netip.Addr {
	hi, lo := byte(number>>8), byte(number)
	if is6 {
		return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 14: hi, 15: lo})
	}
	return netip.AddrFrom4([4]byte{169, 254, hi, lo})
}

func anywhere(is6 bool) netip.Addr {
	if is6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// MeshThrough returns the ways to the other hosts through the tunnel of encrypted networks.
// Networks have ways to the same hosts in the same words.
func MeshThrough(m *model.Mesh, narrow Narrow) []kstate.Object {
	var objs []kstate.Object
	for i := range m.Hosts {
		if a := m.Hosts[i].Inner; a.IsValid() {
			objs = append(objs, narrow.through(a))
		}
	}
	return objs
}

// MeshOf returns the mesh that some networks share. They say different things for a
// moment when it changes: that of the first of them by ID counts.
func MeshOf(nets []*model.Network) *model.Mesh {
	if len(nets) == 0 {
		return nil
	}
	return slices.MinFunc(nets, func(a, b *model.Network) int { return cmp.Compare(a.ID, b.ID) }).Overlay.Mesh
}
