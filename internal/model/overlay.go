package model

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// DriverOverlay is the driver of networks of which each host of a cluster has a part:
// one subnet, and one link of Ethernet, over all of them, by VXLAN (RFC 7348).
const DriverOverlay = "overlay"

// What an overlay network has unless it is told otherwise.
const (
	MinOverlayVNI = 4096 // the lowest VNI that is chosen, as Docker's
	OverlayPort   = 8473 // UDP: not 4789, which Docker's own overlays, VMware and others have on the same hosts
	SealedPort    = 8474 // UDP, of encrypted ones, inside the tunnel: no other network's
)

// What encrypted overlay networks of a host share: a device of WireGuard's, which the
// vxlan packets of all of them go through.
const (
	CipherDevice = "slw0"
	CipherPort   = 51822 // UDP, at all hosts: 51820 and 51821 are fabrics'
)

// Overlay is what this host knows of such a network beside its own endpoints. It is
// never changed, but replaced.
type Overlay struct {
	Name    string            `json:"name"`              // in the cluster, if this host has to call it otherwise
	Options map[string]string `json:"options,omitempty"` // as it was made

	VNI    int        `json:"vni"`
	Port   int        `json:"port"`             // UDP, at all hosts
	Uplink string     `json:"uplink"`           // the host's device to the others
	Local  netip.Addr `json:"local"`            // where they find this host: if it is encrypted, through the tunnel
	MTU    int        `json:"mtu"`              // of the uplink, bytes
	Served bool       `json:"served,omitempty"` // encrypted: by the daemon, for this kernel has no such device
	Used   bool       `json:"used"`             // somebody on this host is on it: else there are no devices
	Mesh   *Mesh      `json:"mesh,omitempty"`   // if a service is published

	Narrow []NarrowPath `json:"narrow,omitempty"` // to hosts of the network, and of the mesh; by At

	// Its parts, none of which is ever changed; what follows from them: see Derive.
	Far      []*Far       `json:"far,omitempty"`      // endpoints on other hosts, in their order
	Services []*Service   `json:"services,omitempty"` // in their order, which is by name
	Servants []*Servant   `json:"-"`                  // backends of services that have addresses, by endpoint
	Hosts    []netip.Addr `json:"-"`                  // where those of Far that are reached are, in order
}

// Far is an endpoint of an overlay network on another host.
type Far struct {
	ID       ID           `json:"id"`
	Node     string       `json:"node,omitempty"` // its host's ID
	Host     string       `json:"host"`           // that host's name, for people
	At       netip.Addr   `json:"at,omitzero"`    // where the host is found; zero: nowhere that this one reaches
	MAC      string       `json:"mac"`
	Addrs    []netip.Addr `json:"addrs"`
	Sandbox  string       `json:"sandbox,omitempty"` // its name, for people
	Names    []string     `json:"names,omitempty"`   // that it is asked for by
	Stopped  bool         `json:"stopped,omitempty"` // it has its addresses, but no container now
	HostGone bool         `json:"hostGone,omitempty"`
}

// NarrowPath is the way to another host where that takes less than this host's device to
// it, as was measured.
type NarrowPath struct {
	At   netip.Addr `json:"at"`            // where the network finds the host: see Far
	To   netip.Addr `json:"to"`            // the same; encrypted: where the tunnel leads
	MTU  int        `json:"mtu"`           // of the path, bytes
	Full int        `json:"full"`          // of the uplink, bytes
	Dev  string     `json:"dev,omitempty"` // the uplink; "": the host's routes do not lead there by it
	Via  netip.Addr `json:"via,omitzero"`  // the router there; zero: the host is on the link
}

// PathTo returns the narrow path to where a host is found, or false.
func (o *Overlay) PathTo(at netip.Addr) (p NarrowPath, ok bool) {
	n, ok := slices.BinarySearchFunc(o.Narrow, at, func(p NarrowPath, at netip.Addr) int { return p.At.Compare(at) })
	if ok {
		p = o.Narrow[n]
	}
	return p, ok
}

// Reached reports whether packets can be sent to it.
func (f *Far) Reached() bool { return f.At.IsValid() && !f.Stopped }

// Has reports whether an endpoint on another host, or a service, has an address.
func (o *Overlay) Has(a netip.Addr) bool {
	return slices.ContainsFunc(o.Far, func(f *Far) bool { return slices.Contains(f.Addrs, a) }) ||
		slices.ContainsFunc(o.Services, func(s *Service) bool { return slices.Contains(s.VIPs, a) })
}

// Spans reports whether other hosts may have parts of a network.
func (n *Network) Spans() bool { return n.Fabric != nil || n.Overlay != nil }

// Absent reports whether a network is known here, but has nothing on this host: nobody is
// on it.
func (n *Network) Absent() bool { return n.Overlay != nil && !n.Overlay.Used }

// Trunk returns the name of an overlay network's vxlan device, which is a port of its
// bridge.
func (n *Network) Trunk() string { return TrunkPrefix + string(n.ID) }

// TrunkPrefix begins the names of those devices.
const TrunkPrefix = "slx"

// Carrier returns the host's device that an overlay network's vxlan packets leave by.
func (n *Network) Carrier() string {
	if n.Options.Encrypted {
		return CipherDevice
	}
	return n.Overlay.Uplink
}

// parseEncrypted takes the option as Docker does, whose value may be missing.
func parseEncrypted(o *Options, v string) error {
	off, err := not(cmp.Or(v, "true"))
	o.Encrypted = !off && err == nil
	return err
}

// checkOverlay reports what an overlay network cannot have.
func (n *Network) checkOverlay() error {
	switch {
	case n.Driver != DriverOverlay:
		return nil
	case n.Overlay == nil:
		return fmt.Errorf("driver overlay: the part of the cluster is missing")
	case n.Overlay.VNI < 1 || n.Overlay.VNI >= 1<<24:
		return fmt.Errorf("vni %d: want 1 to %d", n.Overlay.VNI, 1<<24-1)
	case n.Options.Encrypted && n.Options.Backend.Port != 0:
		return fmt.Errorf("option port: encrypted networks have UDP port %d", SealedPort)
	case !n.Options.Encrypted && n.Options.Backend.Port == SealedPort:
		return fmt.Errorf("option port: %d is that of encrypted networks", SealedPort)
	case n.Options.Backend.Port == CipherPort:
		return fmt.Errorf("option port: %d is that of their tunnel", CipherPort)
	case n.Options.Backend.VNI == MeshVNI && (n.Options.Encrypted || cmp.Or(n.Options.Backend.Port, OverlayPort) == OverlayPort):
		return fmt.Errorf("option vni: %d is that of published ports", MeshVNI)
	}
	return nil
}
