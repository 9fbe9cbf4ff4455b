package bridge

import (
	"github.com/sealane/sealane/internal/driver"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// shards returns what a network has besides its first bridge:
//
//	bridge slb<network> ── s1u<network> ──veth── s1d<network> ── bridge s1b<network>
//	  10.0.0.1/24    │                                               │
//	  fe80::1/64     ├── s2u<network> ──veth── …                     ├─ slv<endpoint>
//	                 ├─ slv<endpoint>                                ├─ slv<endpoint>
//
// A shard only forwards: it has no address, answers no ARP for those of the
// host, and the firewall drops what is sent to it. Isolated endpoints meet
// nobody beyond their shard, as uplinks are isolated where they meet.
//
// Where bridged packets pass the IP firewall, the first bridge sends some back
// to the shard that they came from, with their sender's hardware address (see
// br_nf_pre_routing_finish_bridge in net/bridge/br_netfilter_hooks.c). That
// takes hairpin of the uplink, and endpoints that are pinned to their ports.
func shards(n *model.Network, f driver.Facts) []kstate.Object {
	var objs []kstate.Object
	for i := 1; i <= n.Shards; i++ {
		first, last := n.Uplink(i)
		alias := "sealane " + n.Name
		objs = append(objs, kstate.Link{
			Name: n.Bridge(i), Type: kstate.TypeBridge, MTU: n.Options.MTU, MAC: deviceMAC(model.MACBridge, n.Bridge(i)),
			Up: true, NoARP: true, Alias: alias,
		}, kstate.Link{
			Name: first, Type: kstate.TypeVeth, MTU: n.Options.MTU, MAC: deviceMAC(model.MACVeth, first),
			Up: true, Master: n.Device(), Isolated: n.Options.NoICC, Hairpin: f.BridgeNetfilter, Alias: alias,
			Peer: kstate.Peer{Name: last, MAC: deviceMAC(model.MACVeth, last), Master: n.Bridge(i)},
		})
	}
	return objs
}

func deviceMAC(kind byte, name string) string { return model.MACForID(kind, model.ID(name)) }
