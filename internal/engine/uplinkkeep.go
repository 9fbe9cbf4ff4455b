package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	nics "github.com/sealane/sealane/internal/kernel/uplink"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// recoverUplinks takes back what was begun by processes that are gone, and looks
// again later while one is at work. The caller holds work.
func (e *Engine) recoverUplinks() error {
	done, err := e.cfg.Uplinks.Recover()
	for _, r := range done {
		if r.What != "" {
			e.cfg.Log.Warn("uplink: a move was cut off", "nic", r.NIC, "bridge", r.Bridge, "what", r.What)
		}
		if r.Waits {
			e.recoverLater()
		}
	}
	if errors.Is(err, nics.ErrBusy) {
		time.AfterFunc(time.Second, func() { e.Kick("an uplink is moved") })
		return nil
	}
	return err
}

// recoverLater has a look whether Open vSwitch runs, which takes the host's NIC when it
// does: no event tells us. The caller holds work.
func (e *Engine) recoverLater() {
	if e.uplinks.waits {
		return
	}
	e.uplinks.waits = true
	time.AfterFunc(time.Second, func() {
		e.work.Lock()
		defer e.work.Unlock()
		if e.uplinks.waits = false; e.ctx.Err() != nil {
			return
		}
		if err := e.recoverUplinks(); err != nil {
			e.cfg.Log.Error("uplink: take back", "err", err)
		}
	})
}

// sweepUplinks removes bridges that were made for uplinks and stayed for others, who are
// gone too. The caller holds work.
func (e *Engine) sweepUplinks() error {
	var keep []string
	for _, n := range e.intent.Networks {
		keep = append(keep, n.Base())
	}
	gone, err := e.cfg.Uplinks.Sweep(keep)
	for _, name := range gone {
		e.cfg.Log.Info("removed a bridge that was made for an uplink", "bridge", name)
	}
	return err
}

// uplinkOps says what is not as intended of the uplinks. With settle, what is
// attached and was confirmed after its daemon had died becomes intent. The caller
// holds work.
func (e *Engine) uplinkOps(settle bool) ([]kstate.Op, error) {
	if e.cfg.Uplinks == nil || e.uplinks.moving != "" {
		return nil, nil
	}
	if settle {
		if err := errors.Join(e.recoverUplinks(), e.sweepUplinks()); err != nil {
			return nil, err
		}
	}
	ports, err := e.cfg.Uplinks.Ports()
	if err != nil {
		return nil, fmt.Errorf("observe uplinks: %w", err)
	}
	if settle {
		if err := e.adoptUplinks(ports); err != nil {
			return nil, err
		}
	}
	var ops []kstate.Op
	for _, u := range e.uplinks.list {
		e.uplinkStatus(u, ports)
		if e.cfg.Heed != nil {
			e.cfg.Heed(u.NIC) // which may be unplugged, and come again
		}
		want := kstate.Uplink{NIC: u.NIC, Bridge: u.Bridge}
		i := slices.IndexFunc(ports, func(p nics.Port) bool { return p.NIC == u.NIC })
		if i < 0 {
			ops = append(ops, kstate.Op{New: want})
			continue
		}
		have := kstate.Uplink{NIC: u.NIC, Bridge: ports[i].Bridge, Stray: strings.Join(ports[i].Stray, " ")}
		if ports[i].Out {
			have.Bridge = ""
		}
		if ports[i].Missing != u.NIC && have != want { // a NIC that is not there is waited for
			ops = append(ops, kstate.Op{Old: have, New: want})
		}
	}
	return ops, nil
}

// adoptUplinks makes intent of what is attached and is none: its daemon died between
// the gateways' answers and the store.
func (e *Engine) adoptUplinks(ports []nics.Port) error {
	list := slices.Clone(e.uplinks.list)
	for _, p := range ports {
		if !slices.ContainsFunc(list, func(u model.Uplink) bool { return u.NIC == p.NIC }) {
			list = append(list, model.Uplink{NIC: p.NIC, Bridge: p.Bridge, Made: p.Made, Created: e.cfg.Now().UTC()})
			e.cfg.Log.Info("attached while no daemon ran", "nic", p.NIC, "bridge", p.Bridge)
		}
	}
	if len(list) == len(e.uplinks.list) {
		return nil
	}
	return e.setUplinks(list)
}

// keepUplinks attaches again what is not as intended. Nobody is asked: the network
// was there when it was attached. The caller holds work.
func (e *Engine) keepUplinks(ctx context.Context, ops []kstate.Op, reason string) error {
	var errs []error
	e.uplinks.warned = map[string]string{}
	for _, op := range ops {
		want := op.New.(kstate.Uplink)
		e.cfg.Log.Info("repair", "op", op.String(), "reason", reason)
		i := slices.IndexFunc(e.uplinks.list, func(u model.Uplink) bool { return u.NIC == want.NIC })
		mv := nics.Move{NIC: want.NIC, Bridge: want.Bridge, Make: e.uplinks.list[i].Made, Known: true, Used: e.draft("", "").uplinkNetwork(want.Bridge) != nil, Keep: e.gateways(want.Bridge), KeepMTU: e.ownBridge(want.Bridge)}
		if _, err := e.cfg.Uplinks.Attach(ctx, mv); err != nil {
			e.uplinks.warned[want.NIC] = err.Error()
			errs = append(errs, err, e.bringHome(ctx, mv))
		}
	}
	return errors.Join(errs...)
}

// bringHome gives a NIC back what went with its bridge, which was somebody's: the
// host is cut off without it. The NIC is attached again once there is a bridge.
func (e *Engine) bringHome(ctx context.Context, mv nics.Move) error {
	ports, err := e.cfg.Uplinks.Ports()
	if !slices.ContainsFunc(ports, func(p nics.Port) bool { return p.NIC == mv.NIC && p.Missing == mv.Bridge }) {
		return err
	}
	rep, err := e.cfg.Uplinks.Detach(ctx, nics.Move{NIC: mv.NIC, Keep: mv.Keep})
	if err == nil {
		e.cfg.Log.Warn("uplink: its bridge is gone, everything is on the NIC again", "nic", mv.NIC, "bridge", mv.Bridge, "addresses", fmt.Sprint(rep.Addresses), "routes", rep.Routes)
	}
	return err
}

// ownBridge reports whether a bridge was made for a network, with an MTU of its own.
func (e *Engine) ownBridge(bridge string) bool {
	for _, n := range e.intent.Networks {
		if n.Base() == bridge && !n.Options.Adopted {
			return true
		}
	}
	return false
}
