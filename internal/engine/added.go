package engine

import (
	"context"
	"slices"

	"github.com/sealane/sealane/internal/model"
)

// Ports that users published of a container engine's container outlive its sandbox,
// which goes with each namespace: the guest that stands for the container keeps them
// meanwhile, and goes with it.

// kept reports whether a port is one that a guest keeps for its twin.
func kept(sb *model.Sandbox, m model.PortMapping) bool { return m.Added && sb.Guest != nil }

func keptPorts(sb *model.Sandbox) (out []model.PortMapping) {
	for _, m := range sb.Ports {
		if kept(sb, m) {
			out = append(out, m)
		}
	}
	return out
}

// keepAdded has the guest of a sandbox's container keep what users published of it,
// in the draft that drops the sandbox. It returns the guest, nil if there is nothing.
func (d *draft) keepAdded(sb *model.Sandbox) (guest *model.Sandbox, err error) {
	var added []model.PortMapping
	for _, m := range sb.Ports {
		if m.Added {
			m.Idle = true
			added = append(added, m)
		}
	}
	if len(added) == 0 || sb.Container == "" || d.e.cfg.Guests == nil {
		return nil, nil
	}
	g := model.Guest{Runtime: model.RuntimeDocker, Name: sb.Name, ID: sb.Container}
	if guest = d.guest(g); guest != nil {
		guest = d.edit(guest)
	} else if guest, err = d.addGuest(g, false); err != nil {
		return nil, err
	}
	guest.Ports = append(guest.Ports, added...)
	return guest, nil
}

// keeper returns the guest that keeps ports of a container, or nil.
func (e *Engine) keeper(as ContainerNames) *model.Sandbox {
	d := &draft{e: e}
	guest := d.guest(model.Guest{Runtime: model.RuntimeDocker, Name: as.Name, ID: as.ID})
	if guest == nil || len(keptPorts(guest)) == 0 {
		return nil
	}
	return guest
}

// regain gives a sandbox the ports that a guest keeps for it, in the draft.
func (d *draft) regain(ctx context.Context, sb, keeper *model.Sandbox) error {
	guest := d.edit(keeper)
	sb.Ports = append(sb.Ports, keptPorts(guest)...)
	guest.Ports = slices.DeleteFunc(guest.Ports, func(m model.PortMapping) bool { return kept(guest, m) })
	if d.idle(guest) {
		d.sandboxes[guest.ID] = nil
	}
	return d.settlePorts(ctx, sb, nil)
}
