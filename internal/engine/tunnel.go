package engine

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sealane/sealane/internal/driver/fabric"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/udptun"
)

// Tunnels carries what is routed to tunnel devices that the kernel leaves to a
// program. *udptun.Keeper is one. It is told after each change of a network, and after
// each pass, which tunnels are to be open: those passes may have made devices anew.
type Tunnels interface {
	Want([]udptun.Want)
	Trouble(device string) error
}

// wantTunnels says which tunnels are to be open. The caller holds work.
func (e *Engine) wantTunnels() {
	e.wantEncrypted()
	e.wantPaths()
	e.wantCommands()
	if e.cfg.Tunnels == nil {
		return
	}
	var list []udptun.Want
	for _, n := range e.intent.Networks {
		if carried(n) {
			list = append(list, tunnelOf(n))
		}
	}
	e.cfg.Tunnels.Want(list)
}

// carried reports whether it takes a program to carry a network's packets to other hosts.
func carried(n *model.Network) bool {
	return n.Fabric != nil && n.Fabric.Backend.Type == model.BackendUDP
}

// tunnelOf is a network's tunnel as it is to be open: between addresses of one family
// goes what is of that family.
func tunnelOf(n *model.Network) udptun.Want {
	f := n.Fabric
	w := udptun.Want{Device: n.Tunnel(false), Config: udptun.Config{Port: uint16(f.Backend.Port)}}
	for _, is6 := range []bool{false, true} {
		own, ok := n.Subnet(is6)
		if !ok || !f.Public(is6).IsValid() {
			continue
		}
		w.Local, w.Subnets = append(w.Local, f.Public(is6)), append(w.Subnets, own.Prefix)
		for i := range f.Peers {
			p := &f.Peers[i]
			if s, has := p.Subnet(is6); has && fabric.Unreached(f, p, is6) == "" {
				w.Peers = append(w.Peers, udptun.Peer{Prefix: s, Addr: p.Public(is6)})
			}
		}
	}
	return w
}

// checkTunnel refuses a network whose tunnels would be at a UDP port of another's, or be
// another's device: those of backend vxlan that share a port have numbers.
func (d *draft) checkTunnel(n *model.Network, view *hostView) error {
	b := &n.Fabric.Backend
	if b.Type == model.BackendVXLAN && b.MTU > n.Fabric.MTU {
		return fmt.Errorf("Backend: MTU: %d: uplink %s has %d", b.MTU, n.Fabric.Uplink, n.Fabric.MTU)
	}
	for _, o := range d.allNetworks() {
		if o.ID == n.ID || o.Fabric == nil || b.Type != model.BackendVXLAN || o.Fabric.Backend.Type != b.Type {
			continue
		}
		if o.Fabric.Backend.Port == b.Port && o.Fabric.Backend.VNI == b.VNI {
			return fmt.Errorf("backend %s: vni %d at port %d: is %s's", b.Type, b.VNI, b.Port, o.Name)
		}
	}
	if b.Type == model.BackendVXLAN {
		for _, is6 := range []bool{false, true} {
			_, in := n.Fabric.Of(is6)
			_, ours := view.own[n.Tunnel(is6)]
			if taken := view.vniTaken(b.VNI, b.Port, is6); in && !ours && taken != "" {
				return fmt.Errorf("backend %s: %s: remove that, or choose another VNI", b.Type, taken)
			}
		}
	}
	for _, port := range ownPorts(n) {
		for _, o := range d.allNetworks() {
			if o.ID != n.ID && slices.Contains(ownPorts(o), port) {
				return fmt.Errorf("backend %s: port %d: is %s's", b.Type, port, o.Name)
			}
		}
	}
	return nil
}

// ownPorts are the UDP ports that a network's tunnels need for themselves. Those of
// backend vxlan share one.
func ownPorts(n *model.Network) []int {
	switch {
	case carried(n):
		return []int{n.Fabric.Backend.Port}
	case n.Overlay != nil && n.Options.Encrypted: // they share it
		return []int{model.CipherPort}
	case n.Fabric == nil || n.Fabric.Backend.Type != model.BackendWireGuard:
		return nil
	}
	b := &n.Fabric.Backend
	if _, six := n.Fabric.Of(true); six && b.Separate() {
		return []int{b.Port, b.Port6}
	}
	return []int{b.Port}
}

// tunnelTrouble says why nothing is carried for a network, or nil.
func (e *Engine) tunnelTrouble(n *model.Network) error {
	if n.Fabric.Backend.Type == model.BackendExtension {
		return e.commandTrouble(n)
	}
	if e.cfg.WireGuard != nil && n.Fabric.Backend.Type == model.BackendWireGuard {
		return cmp.Or(e.cfg.WireGuard.Trouble(n.Tunnel(false)), e.cfg.WireGuard.Trouble(n.Tunnel(true)))
	}
	if e.cfg.Tunnels == nil || !carried(n) {
		return nil
	}
	return e.cfg.Tunnels.Trouble(n.Tunnel(false))
}
