package model

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// DriverFabric is the driver of networks that span hosts: each host has a subnet of
// the network's, its lease, and a bridge for it, and reaches the others' by a backend.
const DriverFabric = "fabric"

// BackendType is how hosts reach each other's subnets, in Flannel's words.
type BackendType string

// The backends.
const (
	BackendVXLAN     BackendType = "vxlan"     // frames in UDP, by the kernel (RFC 7348)
	BackendHostGW    BackendType = "host-gw"   // routes by the hosts, which are on one link
	BackendUDP       BackendType = "udp"       // packets in UDP, by the daemon
	BackendWireGuard BackendType = "wireguard" // encrypted
	BackendExtension BackendType = "extension" // by commands of the config's
	BackendAlloc     BackendType = "alloc"     // subnets alone: somebody else routes them
)

func parseBackend(v string) (BackendType, error) {
	all := []BackendType{BackendVXLAN, BackendHostGW, BackendUDP, BackendWireGuard, BackendAlloc}
	if !slices.Contains(all, BackendType(v)) {
		return "", fmt.Errorf("%q: want one of %v", v, all)
	}
	return BackendType(v), nil
}

// Backend is a fabric's backend with its settings; 0 is Flannel's choice.
type Backend struct {
	Type          BackendType `json:"type"`
	VNI           int         `json:"vni,omitempty"`
	Port          int         `json:"port,omitempty"` // UDP
	GBP           bool        `json:"gbp,omitempty"`  // vxlan: marks go along (group based policy)
	DirectRouting bool        `json:"directRouting,omitempty"`
	MTU           int         `json:"mtu,omitempty"` // of what carries it, bytes; 0: as the host's device has it

	// Of wireguard.
	Mode      WireGuardMode `json:"mode,omitempty"`
	Port6     int           `json:"port6,omitempty"`     // of the tunnel for IPv6 of mode separate
	Keepalive int           `json:"keepalive,omitempty"` // seconds between packets to silent peers; 0: none
	KeyLife   time.Duration `json:"keyLife,omitempty"`   // of a private key, as it was asked for; 0 is KeyLife, KeyForever as long as the network is there
}

// Fabric is what this host knows of such a network beside its own part, whose subnets
// are the lease.
type Fabric struct {
	Key     string         `json:"key"`      // of the network in the cluster's store
	Whole   []netip.Prefix `json:"prefixes"` // which the leases are of: IPv4, IPv6 or both
	Backend Backend        `json:"backend"`
	Uplink  string         `json:"uplink"`           // the host's device to the others
	Public4 netip.Addr     `json:"public4,omitzero"` // where they find this host
	Public6 netip.Addr     `json:"public6,omitzero"`
	MAC     string         `json:"mac,omitempty"` // vxlan: of this host's devices
	MTU     int            `json:"mtu"`           // of the uplink, bytes
	Peers   []Peer         `json:"peers,omitempty"`
	Since   time.Time      `json:"since,omitzero"` // when this host took its subnets

	Commands Commands `json:"commands,omitzero"` // of backend extension

	PublicKey string `json:"publicKey,omitempty"` // wireguard: of this host's devices, in base64
	Served    bool   `json:"served,omitempty"`    // wireguard: by the daemon, for this kernel has no such device
}

// Commands are what backend extension has sh run, in Flannel's words; "" is nothing.
type Commands struct {
	PreStartup   string `json:"preStartup,omitempty"`  // before this host has a subnet: what it prints goes to its peers
	PostStartup  string `json:"postStartup,omitempty"` // when it has
	Shutdown     string `json:"shutdown,omitempty"`    // when it has none any more
	SubnetAdd    string `json:"subnetAdd,omitempty"`   // of each peer
	SubnetRemove string `json:"subnetRemove,omitempty"`
}

// Peer is another host's lease.
type Peer struct {
	Name    string         `json:"name,omitempty"` // of a host that runs Sealane, for people
	Subnets []netip.Prefix `json:"subnets"`        // IPv4, IPv6 or both
	Public4 netip.Addr     `json:"public4,omitzero"`
	Public6 netip.Addr     `json:"public6,omitzero"`
	MAC4    string         `json:"mac4,omitempty"` // vxlan: of its device for IPv4
	MAC6    string         `json:"mac6,omitempty"`
	OnLink  bool           `json:"onLink,omitempty"` // its addresses are on a link of this host's uplink
	Taken   []netip.Prefix `json:"taken,omitempty"`  // of its subnets: another program's bridge, which this host's part is on, has them too

	Key4  string `json:"key4,omitempty"` // wireguard: the public key for packets of IPv4, in base64
	Key6  string `json:"key6,omitempty"`
	Port4 int    `json:"port4,omitempty"` // wireguard: UDP, at its IPv4 address
	Port6 int    `json:"port6,omitempty"`

	// PathMTU4 is the largest packet that gets to it by IPv4, in bytes, as was measured;
	// 0: what a way of the network needs does, or it is not known.
	PathMTU4 int `json:"pathMTU4,omitempty"`
	PathMTU6 int `json:"pathMTU6,omitempty"`

	Data string `json:"data,omitempty"` // extension: what its PreStartupCommand printed
	Dev4 string `json:"dev4,omitempty"` // extension: where the route to its IPv4 subnet leads that commands made
	Dev6 string `json:"dev6,omitempty"`
}

// Of returns the prefix of the whole network of a family, or false.
func (f *Fabric) Of(is6 bool) (netip.Prefix, bool) { return ofFamily(f.Whole, is6) }

// Public returns where others find this host in a family; the zero Addr is nowhere.
func (f *Fabric) Public(is6 bool) netip.Addr {
	if is6 {
		return f.Public6
	}
	return f.Public4
}

// Subnet returns a peer's subnet of a family, or false.
func (p *Peer) Subnet(is6 bool) (netip.Prefix, bool) { return ofFamily(p.Subnets, is6) }

// Public returns where a peer is found in a family; the zero Addr is nowhere.
func (p *Peer) Public(is6 bool) netip.Addr {
	if is6 {
		return p.Public6
	}
	return p.Public4
}

// MAC returns the hardware address of a peer's tunnel device of a family.
func (p *Peer) MAC(is6 bool) string {
	if is6 {
		return p.MAC6
	}
	return p.MAC4
}

// PathMTU returns the largest packet that gets to a peer's address of a family, in
// bytes; 0: what is needed does, or it is not known.
func (p *Peer) PathMTU(is6 bool) int {
	if is6 {
		return p.PathMTU6
	}
	return p.PathMTU4
}

// Dev returns the device that commands of backend extension let the route to a peer's
// subnet of a family lead to, or "".
func (p *Peer) Dev(is6 bool) string {
	if is6 {
		return p.Dev6
	}
	return p.Dev4
}

// ByOthers reports whether this host's part of a network over hosts is on a bridge of
// another program's, which makes it and gives containers there their addresses.
func (n *Network) ByOthers() bool { return n.Fabric != nil && n.Options.Adopted }

func ofFamily(list []netip.Prefix, is6 bool) (netip.Prefix, bool) {
	i := slices.IndexFunc(list, func(p netip.Prefix) bool { return p.Addr().Is6() == is6 })
	if i < 0 {
		return netip.Prefix{}, false
	}
	return list[i], true
}

// Tunnel is the name of a network's tunnel device of a family, "" if its backend has
// none.
func (n *Network) Tunnel(is6 bool) string {
	if n.Fabric == nil {
		return ""
	}
	switch t := n.Fabric.Backend.Type; {
	case t == BackendVXLAN && is6, is6 && n.Fabric.Backend.Separate(): // sends by one family
		return "slu" + string(n.ID)
	case t == BackendVXLAN, t == BackendUDP, t == BackendWireGuard:
		return "slt" + string(n.ID)
	}
	return ""
}
