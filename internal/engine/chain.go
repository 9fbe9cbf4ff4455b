package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// A runtime has a chain of plugins work on a container. What those after ours
// change is meant, but they do it inside the namespace, as the container's own
// program may. Addresses and routes that they add are left alone, and the guard
// judges what comes from there. A hardware address is taken over, for nothing
// works with one that the guard does not know: once for each endpoint, soon after
// the runtime asked for it, and none by which somebody could be impersonated.

const (
	// chainTime is for how long after an endpoint was asked for its hardware
	// address may be changed. Runtimes run the chain before the container's program.
	chainTime = 10 * time.Second
	// chainLook is the time between looks meanwhile, in case a hint was lost:
	// that would cost the address.
	chainLook = 3 * time.Second
)

// observe returns what there is, after taking over what is meant.
func (e *Engine) observe(ctx context.Context) (kstate.Set, error) {
	scope := kernel.Scope{NS: e.namespaces()}
	have, err := e.cfg.Kernel.Observe(ctx, scope)
	young := e.young()
	if len(young) > 0 {
		e.lookAgain()
	}
	if err != nil || !e.takeOver(ctx, young, have) {
		return have, err
	}
	return e.cfg.Kernel.Observe(ctx, scope)
}

// lookAgain asks for a pass some time from now, unless one is coming. The caller
// holds work.
func (e *Engine) lookAgain() {
	if e.chains {
		return
	}
	e.chains = true
	time.AfterFunc(max(chainLook, share*e.took), func() {
		e.work.Lock()
		defer e.work.Unlock()
		if e.chains = false; e.ctx.Err() == nil {
			e.Kick("after an attachment")
		}
	})
}

// young is an endpoint whose chain of plugins may still be at work.
type young struct {
	sandbox  *model.Sandbox
	endpoint *model.Endpoint
}

func (e *Engine) young() []young {
	var list []young
	now := e.cfg.Now()
	for _, sb := range e.intent.Sandboxes {
		for i := range sb.Endpoints {
			ep := &sb.Endpoints[i]
			if !ep.Since.IsZero() && now.Sub(ep.Since) <= chainTime && sb.Exit == nil {
				list = append(list, young{sb, ep})
			}
		}
	}
	return list
}

// mac is the hardware address that an endpoint's interface has; "" is none, or one
// that a repair will bring.
func (y young) mac(have kstate.Set) string {
	inner, _ := have[kstate.Link{NS: compile.NS(y.sandbox), Name: y.endpoint.IfName}.Key()].(kstate.Link)
	if inner.Type.OnParent() && !inner.Other && y.endpoint.MAC != "" {
		return inner.MAC
	}
	near, _ := have[kstate.Link{Name: y.endpoint.Device()}.Key()].(kstate.Link)
	if near.Other || near.Peer.NS != compile.NS(y.sandbox) || near.Peer.Name != y.endpoint.IfName {
		return ""
	}
	return near.Peer.MAC
}

// takeOver makes hardware addresses that later plugins set the endpoints' own,
// and reports whether it made any.
func (e *Engine) takeOver(ctx context.Context, list []young, have kstate.Set) (done bool) {
	for _, y := range list {
		mac := y.mac(have)
		if mac == "" || mac == y.endpoint.MAC {
			continue
		}
		log := e.cfg.Log.With("sandbox", y.sandbox.Name, "interface", y.endpoint.IfName, "mac", mac, "was", y.endpoint.MAC)
		if err := e.takeMAC(ctx, y, mac, have); err != nil {
			log.Warn("hardware address not taken over", "err", err)
			continue
		}
		log.Info("hardware address taken over")
		done = true
	}
	return done
}

// takeMAC makes a hardware address an endpoint's own.
func (e *Engine) takeMAC(ctx context.Context, y young, mac string, have kstate.Set) error {
	d := e.draft(y.sandbox.Ref(), "take over "+mac)
	sb := d.edit(e.intent.Sandboxes[y.sandbox.ID]) // another of its endpoints may have been first
	ep := endpointByID(sb, y.endpoint.ID)
	n := e.intent.Networks[ep.Network]
	mac, err := d.hardwareAddress(n, mac)
	if err != nil {
		return err
	}
	if why := forbidden(n, ep, mac, have); why != "" {
		return d.errorf(model.Denied, "network %s: %s", n.Name, why)
	}
	ep.MAC, ep.Since = mac, time.Time{}
	return d.commit(ctx)
}

// forbidden says why an endpoint may not have a hardware address that no other
// endpoint of its network has, or "".
func forbidden(n *model.Network, ep *model.Endpoint, mac string, have kstate.Set) string {
	if mac != ep.DerivedMAC() && model.MayBeDerived(mac, n.Subnets) {
		return "is that of another address"
	}
	for i := range n.Waiting {
		if w := &n.Waiting[i]; w.MAC == mac {
			return "is that of " + w.Ref()
		}
	}
	for _, o := range have {
		l, ok := o.(kstate.Link)
		switch {
		case !ok || !l.NS.IsHost():
		case l.MAC == mac:
			return fmt.Sprintf("is that of the host's device %s", l.Name)
		case l.Other && !n.Options.NoAntispoof && n.HasBridge(l.Master):
			return fmt.Sprintf("may be that of a machine behind %s, which is on the bridge too", l.Name)
		}
	}
	return ""
}
