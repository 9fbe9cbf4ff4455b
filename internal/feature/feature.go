// Package feature says what this kernel can do, in words for people: what is
// missing, and what would bring it. It tries things; it never looks at version
// numbers, which backports make lie.
//
// Callers try first and ask afterwards: when an operation fails, the feature
// behind it may explain why. The answers have three forms, see Check.
package feature

import (
	"errors"
	"fmt"
	"sync"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/bpf"
	"github.com/sealane/sealane/internal/kernel/probe"
)

// The features. Link types go by their names in ip(8).
const (
	Nftables        = "nftables"     // NAT chains in the inet family, filters on bridges
	Holds           = "holds"        // ports held by programs on the cgroup root
	NSID            = "nsid"         // one socket that hears from all namespaces
	IPv6            = "ipv6"         // IPv6 sockets
	BridgeNetfilter = "br_netfilter" // bridged frames can pass the packet filter of IP
	Limits          = "limits"       // rates that endpoints keep to
	Veth            = "veth"
	Bridge          = "bridge"
	Macvlan         = "macvlan"
	IPvlan          = "ipvlan"
	VLAN            = "vlan"
	Sorting         = "vlan-filtering" // bridges that sort frames by VLAN
	VXLAN           = "vxlan"
	TUN             = "tun" // devices whose packets a program carries
	WireGuard       = "wireguard"
	OpenVSwitch     = "openvswitch" // the kernel's own datapath
)

// Feature is one thing a kernel can do or not.
type Feature struct {
	Name  string
	Needs string // what brings it: a version, a configuration, a module
	Gives string // what there is not without it
	ask   func() error
}

// all lists the features in the order of All. It is a function because a
// package has no variables that could change.
func all() []Feature {
	link := func(name, needs, gives string) Feature {
		return Feature{name, needs, gives, func() error { return probe.Link(name) }}
	}
	return []Feature{
		{Nftables, "Linux 5.2 with CONFIG_NF_TABLES_INET, CONFIG_NFT_NAT (module nft_chain_nat) and CONFIG_NF_TABLES_BRIDGE", "there is no network without it", probe.Nftables},
		{Holds, "Linux 5.14 with CONFIG_CGROUP_BPF, CONFIG_INET_UDP_DIAG and a mounted cgroup v2 hierarchy", "other programs may take published ports of the host", bpf.Supported},
		{NSID, "Linux 4.2", "changes in containers are seen by regular passes only", probe.AllNSID},
		{IPv6, "CONFIG_IPV6 and no ipv6.disable=1 on the kernel's command line", "no network has IPv6", probe.IPv6},
		{BridgeNetfilter, "CONFIG_BRIDGE_NETFILTER (module br_netfilter)", "iptables does not see what is said on one bridge, which nothing needs", probe.BridgeNetfilter},
		{Limits, "the kernel's tbf, ingress, u32, mirred and ifb: CONFIG_NET_SCH_TBF, CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_U32, CONFIG_NET_ACT_MIRRED and CONFIG_IFB (modules sch_tbf, sch_ingress, cls_u32, act_mirred and ifb)", "endpoints keep to no rates", probe.Limits},
		link(Veth, "CONFIG_VETH (module veth)", "there is no network without it"),
		link(Bridge, "CONFIG_BRIDGE (module bridge)", "there is no network without it"),
		link(Macvlan, "CONFIG_MACVLAN (module macvlan)", "no networks of driver macvlan"),
		link(IPvlan, "CONFIG_IPVLAN (module ipvlan)", "no networks of driver ipvlan"),
		link(VLAN, "CONFIG_VLAN_8021Q (module 8021q)", "no VLANs on devices of the host"),
		{Sorting, "CONFIG_BRIDGE_VLAN_FILTERING (of module bridge)", "no VLANs on bridges", probe.Sorting},
		link(VXLAN, "CONFIG_VXLAN (module vxlan)", "no overlay networks, and no fabric with backend vxlan"),
		{TUN, "CONFIG_TUN (module tun) and the device /dev/net/tun", "no fabric with backend udp, and no WireGuard that the kernel has not", probe.TUN},
		link(WireGuard, "Linux 5.6 with CONFIG_WIREGUARD (module wireguard)", "it is carried by the daemon, slower"),
		{OpenVSwitch, "CONFIG_OPENVSWITCH (module openvswitch)", "no networks on bridges of Open vSwitch but in its own process", probe.OpenVSwitch},
	}
}

// Missing is the sure answer no.
type Missing struct {
	Name  string
	Needs string
	Err   error // what the kernel said
}

// Error is "NAME: needs …: cause".
func (e *Missing) Error() string {
	return fmt.Sprintf("%s: needs %s: %v", e.Name, e.Needs, e.Err)
}

// Unwrap returns what the kernel said, which is a kernel.ErrUnsupported.
func (e *Missing) Unwrap() error { return e.Err }

// Answer is what is known of a feature: Err is as from Check.
type Answer struct {
	Feature
	Err error
}

// Cache asks about features and remembers sure answers, for as long as the
// process lives: a kernel does not change, although a module may be loaded
// later, which a restart then finds. The zero value is ready, for several
// goroutines.
type Cache struct {
	mu   sync.Mutex       // protects the following
	sure map[string]error // nil or *Missing
}

// Check asks about one feature: nil when it is there, a *Missing when it is
// surely not, and another error when that could not be found out or no feature
// has the name.
func (c *Cache) Check(name string) error {
	for _, f := range all() {
		if f.Name == name {
			return c.check(f)
		}
	}
	return fmt.Errorf("feature %q: no such feature", name)
}

// All asks about every feature.
func (c *Cache) All() []Answer {
	var out []Answer
	for _, f := range all() {
		out = append(out, Answer{f, c.check(f)})
	}
	return out
}

func (c *Cache) check(f Feature) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err, ok := c.sure[f.Name]; ok {
		return err
	}
	err := f.ask()
	switch {
	case errors.Is(err, kernel.ErrUnsupported):
		err = &Missing{f.Name, f.Needs, err}
	case err != nil:
		return fmt.Errorf("%s: cannot tell whether this kernel has it: %w", f.Name, err)
	}
	if c.sure == nil {
		c.sure = map[string]error{}
	}
	c.sure[f.Name] = err
	return err
}

// Check asks about one feature without remembering, see Cache.Check.
func Check(name string) error { return new(Cache).Check(name) }

// All asks about every feature without remembering.
func All() []Answer { return new(Cache).All() }

// BridgeCalls returns the switches of br_netfilter that are on in the calling
// thread's namespace: frames between the ports of a bridge then pass the
// host's packet filter for IP, and can be dropped by it.
func BridgeCalls() ([]string, error) { return probe.BridgeCalls() }
