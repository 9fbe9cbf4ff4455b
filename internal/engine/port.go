package engine

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/ipam"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// skipPorts reports whether a host port was found in use by another program.
type skipPorts func(model.PortMapping) bool

// maxPortTries is how often a port that was chosen for the user may turn out
// to be in use by another program.
const maxPortTries = 64

// retryPorts runs try again while it fails over a port that was ours to choose
// and that another program holds, with that port left out. A port the user
// asked for by number is not retried: try then fails the same way twice.
func (e *Engine) retryPorts(try func(skipPorts) error) error {
	busy := map[kstate.Hold]bool{}
	skip := func(m model.PortMapping) bool {
		for h := range busy {
			if h.Proto == m.Proto && h.First <= m.HostLast() && m.HostPort <= h.Last {
				return true
			}
		}
		return false
	}
	for range maxPortTries {
		err := try(skip)
		held, ok := errors.AsType[*heldError](err)
		if !ok || !errors.Is(err, kernel.ErrInUse) || busy[held.hold] {
			return err
		}
		busy[held.hold] = true
	}
	return try(skip)
}

// unpublished returns the exposed ports that ports does not publish, each once.
func unpublished(exposed, ports []model.PortMapping) []model.PortMapping {
	type port struct {
		proto  string
		number int
	}
	taken := map[port]bool{}
	for _, m := range ports {
		for i := range int(m.Count) {
			taken[port{m.Proto, int(m.Port) + i}] = true
		}
	}
	var out []model.PortMapping
	for _, m := range exposed {
		run := model.PortMapping{Proto: m.Proto}
		for i := range int(m.Count) {
			p := port{m.Proto, int(m.Port) + i}
			if !taken[p] && run.Count == 0 {
				run.Port = uint16(p.number)
			}
			if !taken[p] {
				taken[p] = true
				run.Count++
			} else if run.Count > 0 {
				out, run.Count = append(out, run), 0
			}
		}
		if run.Count > 0 {
			out = append(out, run)
		}
	}
	return out
}

// addPorts allocates host ports for mappings and adds them to sb.
func (d *draft) addPorts(ctx context.Context, sb *model.Sandbox, ports []model.PortMapping, skip skipPorts) error {
	if len(ports) == 0 {
		return nil
	}
	nets := d.allNetworks()
	if compile.Carrier(sb, nets, false) == nil && compile.Carrier(sb, nets, true) == nil {
		for i := range sb.Endpoints {
			if n := nets[sb.Endpoints[i].Network]; n.Wired() {
				return d.errorf(model.Invalid, "ports cannot be published: network %s: its containers are reached at their own addresses", n.Name)
			}
		}
		return d.errorf(model.Invalid, "ports cannot be published: the sandbox is on no network that leads outside")
	}
	for _, m := range ports {
		m.Bound = !m.HostIP.IsValid()
		if err := m.Validate(); err != nil {
			return d.errorf(model.Invalid, "%w", err)
		}
		if err := d.checkHostIP(ctx, m); err != nil {
			return err
		}
		m.Idle = true
		sb.Ports = append(sb.Ports, m)
	}
	return d.settlePorts(ctx, sb, skip)
}

// binding is the host address of ports that name none: that of the network
// that gives the default route.
func (d *draft) binding(sb *model.Sandbox) netip.Addr {
	nets := d.allNetworks()
	for _, is6 := range []bool{false, true} {
		if e := compile.Carrier(sb, nets, is6); e != nil && nets[e.Network].Options.HostBinding.IsValid() {
			return nets[e.Network].Options.HostBinding
		}
	}
	return netip.Addr{}
}

// settlePorts puts the ports of sb where they belong on the networks it is on:
// at the host address of their network if they name none. Only networks whose
// addresses are rewritten take ports of the host; elsewhere they are given up.
// Ports with a number come before those that are chosen.
func (d *draft) settlePorts(ctx context.Context, sb *model.Sandbox, skip skipPorts) error {
	if len(sb.Ports) == 0 {
		return nil
	}
	nat, binding := compile.NATs(sb, d.allNetworks()), d.binding(sb)
	for _, chosen := range []bool{false, true} {
		for i := range sb.Ports {
			m := &sb.Ports[i]
			if open := m.HostPort == 0 || m.HostEnd != 0; open != chosen || kept(sb, *m) {
				continue
			}
			if err := d.settlePort(ctx, m, nat, binding, string(sb.ID), skip); err != nil {
				return err
			}
		}
	}
	return nil
}

// settlePort puts one port where it belongs: at binding, if it names no host
// address, and nowhere on the host if nothing is rewritten.
func (d *draft) settlePort(ctx context.Context, at *model.PortMapping, nat bool, binding netip.Addr, owner string, skip skipPorts) error {
	m := *at
	if m.Idle = !nat; m.Bound {
		m.HostIP = binding
	}
	if m == *at {
		return nil
	}
	if nat {
		if err := d.checkHostIP(ctx, m); err != nil {
			return err
		}
		var err error
		if m, err = d.claimPort(m, *at, owner, skip); err != nil {
			return err
		}
	}
	*at = m
	return nil
}

// claimPort takes the ports of the host for m, which was old: one that has its
// ports keeps their numbers.
func (d *draft) claimPort(m, old model.PortMapping, owner string, skip skipPorts) (model.PortMapping, error) {
	d.e.portsMu.Lock()
	defer d.e.portsMu.Unlock()
	var err error
	if old.Idle {
		m, err = d.e.ports.Allocate(m, owner, skip)
	} else {
		err = d.e.ports.Move(m, old.HostIP, owner)
	}
	taken, conflict := errors.AsType[*ipam.ConflictError](err)
	switch {
	case errors.Is(err, ipam.ErrExhausted):
		return m, d.errorf(model.Exhausted, "%w", err)
	case conflict && taken.Owner == owner && !d.publishes(taken):
		return m, d.errorf(model.Conflict, "port %d/%s: is wanted twice", taken.Port, taken.Proto)
	case conflict:
		if sb := d.sandboxNow(model.ID(taken.Owner)); sb != nil {
			taken.Owner = sb.Name
		}
		return m, d.errorf(model.Conflict, "%w", taken)
	case err != nil:
		return m, d.errorf(model.Conflict, "%w", err)
	}
	return m, nil
}

// publishes reports whether the owner of a port had it before this draft.
func (d *draft) publishes(taken *ipam.ConflictError) bool {
	sb := d.e.intent.Sandboxes[model.ID(taken.Owner)]
	return sb != nil && slices.ContainsFunc(sb.Ports, func(p model.PortMapping) bool {
		return !p.Idle && p.Proto == taken.Proto && p.HostPort <= taken.Port && taken.Port <= p.HostLast()
	})
}

// checkHostIP refuses a host address that the host does not have: nobody could
// ever reach a port there.
func (d *draft) checkHostIP(ctx context.Context, m model.PortMapping) error {
	a := m.HostIP
	if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() {
		return nil
	}
	has, err := d.hostHas(ctx, a)
	if err == nil && !has {
		err = d.errorf(model.Invalid, "port %s: %s is no address of this host", m, a)
	}
	return err
}

// checkSources refuses to have packets leave with addresses that the host does not
// have: no answer would ever come. Those that old had stay.
func (d *draft) checkSources(ctx context.Context, n *model.Network, old model.Options) error {
	for _, is6 := range []bool{false, true} {
		a, is := n.Options.Source(is6)
		if before, _ := old.Source(is6); !is || a == before {
			continue
		}
		if has, err := d.hostHas(ctx, a); err != nil {
			return err
		} else if !has {
			return d.errorf(model.Invalid, "option source-ip: %s is no address of this host", a)
		}
	}
	return nil
}

// hostHas reports whether an address is one of the host's, or of a network's that
// it has there.
func (d *draft) hostHas(ctx context.Context, a netip.Addr) (bool, error) {
	if a.Is6() && a.IsLinkLocalUnicast() {
		return d.e.cfg.LinkLocals == nil || slices.Contains(d.e.cfg.LinkLocals(), a), nil
	}
	view, err := d.host(ctx)
	if err != nil {
		return false, internal(d.ref, d.op, err)
	}
	for _, n := range d.allNetworks() {
		if slices.ContainsFunc(n.Subnets, func(s model.Subnet) bool { return s.Gateway == a }) {
			return true, nil
		}
	}
	return slices.ContainsFunc(view.addrs, func(have kstate.Addr) bool { return have.NS.IsHost() && have.Prefix.Addr() == a }), nil
}

// Publish publishes ports of a running sandbox, for a user, and returns them with the
// host ports that were chosen.
func (e *Engine) Publish(ctx context.Context, ref string, ports []model.PortMapping) (_ []model.PortMapping, err error) {
	defer e.timed("publish")(&err)
	known, err := e.named(ctx, ref, "publish")
	if err != nil {
		return nil, err
	}
	return e.publish(ctx, ref, known, ports, true)
}

// Carry publishes ports of a container, for its engine.
func (e *Engine) Carry(ctx context.Context, id model.ID, ports []model.PortMapping) (err error) {
	defer e.timed("publish")(&err)
	_, err = e.publish(ctx, string(id), string(id), ports, false)
	return err
}

// publish publishes ports of the sandbox that ref means and known is, for a user or for
// the container engine that it is of.
func (e *Engine) publish(ctx context.Context, ref, known string, ports []model.PortMapping, user bool) ([]model.PortMapping, error) {
	var got []model.PortMapping
	err := e.again(ctx, func() error {
		e.work.Lock()
		defer e.work.Unlock()
		return e.retryPorts(func(skip skipPorts) error {
			d := e.draft("sandbox "+ref, "publish")
			old, err := d.existing(known)
			if err != nil {
				return err
			}
			sb := d.edit(old)
			if err = d.connectable(sb); err == nil {
				err = d.addPorts(ctx, sb, ports, skip)
			}
			if err != nil {
				d.discard()
				return err
			}
			got = sb.Ports[len(old.Ports):]
			for i := range got {
				got[i].Added = user && sb.Mode == model.ModeRuntime
			}
			return d.commit(ctx)
		})
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

// Unpublish takes published ports back. Each of ports must mean one of the
// sandbox's mappings: the same protocol and container ports, and the same host
// address and port where they are given.
func (e *Engine) Unpublish(ctx context.Context, ref string, ports []model.PortMapping) (err error) {
	defer e.timed("unpublish")(&err)
	known, err := e.named(ctx, ref, "unpublish")
	if err != nil {
		return err
	}
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("sandbox "+ref, "unpublish")
	old, err := d.existing(known)
	if err != nil {
		return err
	}
	for _, m := range ports {
		if err := d.unpublish(old, m); err != nil {
			d.discard()
			return err
		}
	}
	return d.commit(ctx)
}

// unpublish takes back a port of a sandbox, or of its twin if it has none such.
func (d *draft) unpublish(old *model.Sandbox, m model.PortMapping) error {
	sb := d.edit(old)
	i, err := d.meant(sb, m)
	if twin := d.twin(old); twin != nil && model.KindOf(err) == model.NotFound {
		sb = d.edit(twin)
		i, err = d.meant(sb, m)
	}
	if err == nil {
		sb.Ports = slices.Delete(sb.Ports, i, i+1)
	}
	return err
}

// meant finds the published port that a user means: the one that was published
// so, or the only one that fits.
func (d *draft) meant(sb *model.Sandbox, m model.PortMapping) (int, error) {
	as := func(p model.PortMapping) bool {
		return m.Matches(p) && m.HostPort == p.HostPort && (m.HostIP.IsValid() || p.Bound)
	}
	if i := slices.IndexFunc(sb.Ports, as); i >= 0 {
		return i, nil
	}
	i := slices.IndexFunc(sb.Ports, m.Matches)
	if i < 0 {
		err := d.errorf(model.NotFound, "port %s is not published", m)
		if j := slices.IndexFunc(sb.Ports, m.Among); j >= 0 {
			err = err.WithHint("it is one of %s, which goes as a whole", sb.Ports[j])
		}
		return 0, err
	}
	if j := slices.IndexFunc(sb.Ports[i+1:], m.Matches); j >= 0 {
		return 0, d.errorf(model.Invalid, "port %s: is published as %s and as %s", m, sb.Ports[i], sb.Ports[i+1+j]).WithHint("say which")
	}
	return i, nil
}
