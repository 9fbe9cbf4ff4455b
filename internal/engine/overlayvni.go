package engine

import (
	"cmp"
	"context"
	"fmt"

	"github.com/sealane/sealane/internal/compile"
	driver "github.com/sealane/sealane/internal/driver/overlay"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Two vxlan devices of a host cannot have one VNI at one UDP port, and somebody else's, as a
// Flannel's or a hypervisor's, may have that of a network which was made on another host.

// checkTrunk refuses a VNI for a new network that a device of somebody else's has on this
// host.
func (d *draft) checkTrunk(n *model.Network, view *hostView) error {
	vni, port := n.Options.Backend.VNI, cmp.Or(n.Options.Backend.Port, model.OverlayPort)
	if n.Options.Encrypted {
		port = model.SealedPort
	}
	for _, is6 := range []bool{false, true} {
		if text := view.vniTaken(vni, port, is6); text != "" && vni != 0 {
			return d.errorf(model.Conflict, "%s", text).WithHint("choose another with -o vni=, or leave it out")
		}
	}
	return nil
}

// checkTunnels refuses a network its first endpoint on this host, or its first published
// port, if a device of somebody else's has the VNI that this takes.
func (d *draft) checkTunnels(ctx context.Context) error {
	for id, n := range d.networks {
		if n == nil || n.Overlay == nil {
			continue
		}
		old := d.e.intent.Networks[id]
		trunk, mesh := !n.Absent() && (old == nil || old.Absent()), compile.Published(n) && (old == nil || !compile.Published(old))
		if !trunk && !mesh {
			continue
		}
		view, err := d.host(ctx)
		if err != nil {
			return internal(d.ref, d.op, err)
		}
		if text := view.tunnelTaken(n, trunk, mesh); text != "" {
			hint := "remove that device"
			if trunk {
				hint += ", or make the network anew with another -o vni="
			}
			if d.ref != n.Ref() {
				text = n.Ref() + ": " + text
			}
			return d.errorf(model.Conflict, "%s", text).WithHint("%s", hint)
		}
	}
	return nil
}

// tunnelTaken says which device of somebody else's has the VNI of an overlay network's
// trunk, or of the mesh that its published ports need, and is in their way; or "".
func (v *hostView) tunnelTaken(n *model.Network, trunk, mesh bool) string {
	o, sealed := n.Overlay, n.Options.Encrypted
	text := ""
	if _, there := v.own[n.Trunk()]; trunk && !there {
		text = v.vniTaken(o.VNI, o.Port, o.Local.Is6())
	}
	if _, there := v.own[driver.MeshDevice(sealed)]; mesh && !there && text == "" {
		if text = v.vniTaken(model.MeshVNI, driver.MeshPort(sealed), o.Local.Is6()); text != "" {
			text = "published ports: " + text
		}
	}
	return text
}

// vniTaken says which device of others has a VNI at a UDP port, in the packets of a family;
// or "".
func (v *hostView) vniTaken(vni, port int, is6 bool) string {
	for name, l := range v.links {
		if l.Type == kstate.TypeVXLAN && l.VXLAN.VNI == vni && l.VXLAN.Port == port && l.VXLAN.Local.Is6() == is6 {
			return fmt.Sprintf("vni %d: device %s of this host has it on UDP port %d", vni, name, port)
		}
	}
	return ""
}
