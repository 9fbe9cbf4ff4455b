package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	nics "github.com/sealane/sealane/internal/kernel/uplink"
	"github.com/sealane/sealane/internal/model"
)

// Uplinks moves NICs of the host under bridges and back. nics.Dir is one.
type Uplinks interface {
	// Attach and Detach leave everything as it was if they fail.
	Attach(context.Context, nics.Move) (nics.Report, error)
	Detach(context.Context, nics.Move) (nics.Report, error)
	// Recover takes back what was begun by processes that are gone.
	Recover() ([]nics.Recovered, error)
	// Sweep removes bridges that were made for NICs and are nobody's any more, but for
	// those to keep.
	Sweep(keep []string) ([]string, error)
	// Ports are the attached NICs as they are.
	Ports() ([]nics.Port, error)
}

// metaUplinks is where the list of uplinks is kept: what was attached, and answered.
const metaUplinks = "uplinks"

// UplinkSpec asks for a NIC to be attached.
type UplinkSpec struct {
	NIC     string
	Bridge  string        // a device, a network, or the name of a bridge to be made
	Timeout time.Duration // how long gateways may take to answer; 0 is nics.DefaultTimeout
}

// UplinkStatus is an uplink and how it fares.
type UplinkStatus struct {
	model.Uplink
	Status    Status
	Addresses []netip.Prefix // of the bridge, in order
}

// loadUplinks reads the list from what the store had.
func (e *Engine) loadUplinks() error {
	text := e.meta[metaUplinks]
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), &e.uplinks.list); err != nil {
		return fmt.Errorf("store: uplinks: %w", err)
	}
	return nil
}

// attachments is what the engine knows of them. list and moving are protected by mu.
type attachments struct {
	list   []model.Uplink
	moving string // the bridge that something is moved to or from at the moment; "" is none
	warned map[string]string
	waits  bool // recoverUplinks comes again by itself; work protects it
}

// uplinked lists the bridges that have a NIC's addresses. The caller holds work or mu.
func (e *Engine) uplinked() []string {
	var out []string
	for _, u := range e.uplinks.list {
		out = append(out, u.Bridge)
	}
	if e.uplinks.moving != "" {
		out = append(out, e.uplinks.moving)
	}
	return out
}

// AttachUplink moves a NIC under a bridge with all that the host has on it. It
// returns when the gateways have answered, and fails with everything as it was. It
// does not keep others from changing something else meanwhile.
func (e *Engine) AttachUplink(ctx context.Context, spec UplinkSpec) (model.Uplink, nics.Report, error) {
	ctx = context.WithoutCancel(ctx) // who hangs up must not leave half a change
	fail := func(err error) (model.Uplink, nics.Report, error) { return model.Uplink{}, nics.Report{}, err }
	mv, err := e.beginAttach(ctx, spec)
	if err != nil {
		return fail(err)
	}
	defer e.endMove()
	rep, err := e.cfg.Uplinks.Attach(ctx, mv)
	if err != nil {
		return fail(e.moveFailed("uplink "+spec.NIC, "attach", err))
	}
	u := model.Uplink{NIC: mv.NIC, Bridge: mv.Bridge, Made: rep.Made, Created: e.cfg.Now().UTC()}
	e.work.Lock()
	defer e.work.Unlock()
	if err := e.setUplinks(append(slices.Clone(e.uplinks.list), u)); err != nil {
		_, back := e.cfg.Uplinks.Detach(ctx, nics.Move{NIC: mv.NIC, Keep: e.gateways(mv.Bridge)})
		return fail(internal(u.Ref(), "attach", errors.Join(err, back)))
	}
	e.cfg.Log.Info("attached", "nic", u.NIC, "bridge", u.Bridge, "addresses", fmt.Sprint(rep.Addresses), "routes", rep.Routes, "answering", fmt.Sprint(rep.Answering))
	e.Kick("an uplink was attached") // forwarding of advertisements may be due on the bridge
	return u, rep, nil
}

// beginAttach checks what only the engine knows, and claims the bridge.
func (e *Engine) beginAttach(ctx context.Context, spec UplinkSpec) (mv nics.Move, err error) {
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("uplink "+spec.NIC, "attach")
	if e.cfg.Uplinks == nil {
		return mv, d.errorf(model.Unsupported, "this daemon moves no NICs")
	}
	for _, name := range []string{spec.NIC, spec.Bridge} {
		if err := model.CheckIfName(name); err != nil {
			return mv, d.errorf(model.Invalid, "%w", err)
		}
	}
	if e.uplinks.moving != "" {
		return mv, d.errorf(model.Conflict, "another attach or detach is under way")
	}
	view, err := d.host(ctx)
	if err != nil {
		return mv, internal(d.ref, d.op, err)
	}
	mv = nics.Move{NIC: spec.NIC, Bridge: spec.Bridge, Timeout: spec.Timeout}
	if mv.Timeout == 0 {
		mv.Timeout = nics.DefaultTimeout
	}
	if err := d.aimUplink(view, &mv); err != nil {
		return mv, err
	}
	for _, u := range e.uplinks.list {
		switch {
		case u.NIC == mv.NIC:
			return mv, d.errorf(model.Conflict, "is attached to %s already", u.Bridge)
		case u.Bridge == mv.Bridge:
			return mv, d.errorf(model.Conflict, "%s is attached to bridge %s already: two of them would be a loop", u.NIC, u.Bridge)
		}
	}
	if err := d.unoccupied(mv.NIC); err != nil {
		return mv, err
	}
	mv.Keep, mv.Used = e.gateways(mv.Bridge), d.uplinkNetwork(mv.Bridge) != nil
	e.setMoving(mv.Bridge)
	return mv, nil
}

// unoccupied refuses a NIC on which containers have macvlans or ipvlans: the host does
// not see those in other namespaces.
func (d *draft) unoccupied(nic string) error {
	for _, n := range d.e.intent.Networks {
		if n.Driver != model.DriverMacvlan && n.Driver != model.DriverIPvlan || n.Lower() != nic {
			continue
		}
		var who []string
		for sb := range d.allSandboxes() {
			for range sb.On(n.ID) {
				who = append(who, sb.Name)
			}
		}
		if slices.Sort(who); len(who) > 0 {
			return d.errorf(model.InUse, "network %s: has a %s on it for %s, which takes what comes in before a bridge could", n.Name, n.Driver, strings.Join(slices.Compact(who), ", "))
		}
	}
	return nil
}

// aimUplink finds the bridge that is meant: a device of that name, or else the
// device of the network of that name, or else one to be made.
func (d *draft) aimUplink(view *hostView, mv *nics.Move) error {
	n := d.uplinkNetwork(mv.Bridge)
	if n == nil {
		_, other := view.links[mv.Bridge]
		_, own := view.own[mv.Bridge]
		_, ovs := view.switches[mv.Bridge]
		mv.Make = !other && !own && !ovs
		if nic := d.lenderOf(mv.Bridge); nic != nil && mv.Make {
			return d.isNICOf(nic, "bridge")
		}
		return nil
	}
	switch {
	case n.Driver != model.DriverBridge && n.Driver != model.DriverOVS:
		return d.errorf(model.Invalid, "network %s: driver %s has no bridge", n.Name, n.Driver)
	case n.Mode(false) == model.GatewayIsolated || n.Mode(true) == model.GatewayIsolated:
		return d.errorf(model.Invalid, "network %s: gateway-mode isolated: the host is no part of it", n.Name)
	case n.Internal:
		return d.errorf(model.Invalid, "network %s: is internal: nothing leads out of it", n.Name)
	}
	mv.Bridge = n.Base()
	if mv.KeepMTU = !n.Options.Adopted; !mv.KeepMTU {
		return nil
	}
	if nic, has := view.links[mv.NIC]; has && n.Options.MTU > nic.MTU {
		return d.errorf(model.Conflict, "network %s: mtu %d: that of %s is %d", n.Name, n.Options.MTU, mv.NIC, nic.MTU)
	}
	return nil
}

// uplinkNetwork returns the network whose device or name it is, or nil.
func (d *draft) uplinkNetwork(name string) *model.Network {
	var named *model.Network
	for _, n := range d.e.intent.Networks {
		if n.Driver == model.DriverPool {
			continue
		}
		if (n.Driver == model.DriverBridge || n.Driver == model.DriverOVS) && n.Base() == name {
			return n
		}
		if n.Name == name || string(n.ID) == name {
			named = n
		}
	}
	return named
}

// DetachUplink moves a NIC and what it brought out of its bridge, which it names. It returns when
// the gateways have answered, and fails with everything as it was.
func (e *Engine) DetachUplink(ctx context.Context, nic string, timeout time.Duration) (bridge string, rep nics.Report, err error) {
	ctx = context.WithoutCancel(ctx)
	mv, err := e.beginDetach(nic, timeout)
	if err != nil {
		return "", rep, err
	}
	defer e.endMove()
	rep, err = e.cfg.Uplinks.Detach(ctx, mv)
	if err != nil && model.KindOf(err) != model.NotFound { // after a teardown there is nothing to move
		return "", rep, e.moveFailed("uplink "+nic, "detach", err)
	}
	e.work.Lock()
	defer e.work.Unlock()
	left := slices.DeleteFunc(slices.Clone(e.uplinks.list), func(u model.Uplink) bool { return u.NIC == nic })
	if err := e.setUplinks(left); err != nil {
		return "", rep, internal("uplink "+nic, "detach", err)
	}
	if err := e.dropIdleWires(ctx, mv.Bridge); err != nil {
		e.cfg.Log.Warn("uplink: the network of a bridge stays", "bridge", mv.Bridge, "err", err)
	}
	e.cfg.Log.Info("detached", "nic", nic, "bridge", mv.Bridge, "addresses", fmt.Sprint(rep.Addresses), "routes", rep.Routes)
	e.Kick("an uplink was detached")
	return mv.Bridge, rep, nil
}

func (e *Engine) beginDetach(nic string, timeout time.Duration) (mv nics.Move, err error) {
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("uplink "+nic, "detach")
	i := slices.IndexFunc(e.uplinks.list, func(u model.Uplink) bool { return u.NIC == nic })
	switch {
	case i < 0:
		return mv, d.errorf(model.NotFound, "is attached to no bridge")
	case e.uplinks.moving != "":
		return mv, d.errorf(model.Conflict, "another attach or detach is under way")
	}
	u := e.uplinks.list[i]
	if timeout == 0 {
		timeout = nics.DefaultTimeout
	}
	if err := d.keepsUplink(u); err != nil {
		return mv, err
	}
	e.setMoving(u.Bridge)
	return nics.Move{NIC: nic, Bridge: u.Bridge, Keep: e.gateways(u.Bridge), Used: d.uplinkNetwork(u.Bridge) != nil, Timeout: timeout}, nil
}

// keepsUplink refuses to take an address from a network that is its gateway.
func (d *draft) keepsUplink(u model.Uplink) error {
	ports, err := d.e.cfg.Uplinks.Ports()
	if err != nil {
		return internal(d.ref, d.op, err)
	}
	for _, p := range ports {
		for _, n := range d.e.intent.Networks {
			if p.NIC != u.NIC || n.Device() != u.Bridge {
				continue
			}
			for _, s := range n.Subnets {
				if slices.Contains(p.Moved, netip.PrefixFrom(s.Gateway, s.Prefix.Bits())) {
					return d.errorf(model.InUse, "%s is the gateway of network %s", s.Gateway, n.Name).WithHint("remove the network first")
				}
			}
		}
	}
	return nil
}

// gateways are the addresses that networks have on a bridge. The caller holds work.
func (e *Engine) gateways(bridge string) []netip.Prefix {
	var out []netip.Prefix
	for _, n := range e.intent.Networks {
		if n.Device() != bridge {
			continue
		}
		for _, s := range n.Subnets {
			if n.OnBridge(s.Prefix.Addr().Is6()) {
				out = append(out, netip.PrefixFrom(s.Gateway, s.Prefix.Bits()))
			}
		}
	}
	return out
}

func (e *Engine) setMoving(bridge string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.uplinks.moving = bridge
	e.facts.Uplinked = e.uplinked()
}

func (e *Engine) endMove() { e.setMoving("") }

// moveFailed has what a killed process began taken back at once.
func (e *Engine) moveFailed(ref, op string, err error) error {
	if errors.Is(err, nics.ErrKilled) {
		e.work.Lock()
		err = errors.Join(err, e.recoverUplinks())
		e.work.Unlock()
		return &model.Error{Kind: model.Internal, Ref: ref, Op: op, Err: fmt.Errorf("%w; everything is as it was", err)}
	}
	return internal(ref, op, err)
}

// setUplinks stores the list. The caller holds work.
func (e *Engine) setUplinks(list []model.Uplink) error {
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	d := e.draft("uplinks", "note")
	d.meta[metaUplinks] = string(text)
	if err := d.commit(context.Background()); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.uplinks.list = list
	e.facts.Uplinked = e.uplinked()
	return nil
}

// Uplinks lists them by NIC.
func (e *Engine) Uplinks(ctx context.Context) ([]UplinkStatus, error) {
	e.work.Lock()
	defer e.work.Unlock()
	if e.cfg.Uplinks == nil {
		return nil, nil
	}
	ports, err := e.cfg.Uplinks.Ports()
	if err != nil {
		return nil, internal("uplinks", "list", err)
	}
	d := e.draft("uplinks", "list")
	view, err := d.host(ctx)
	if err != nil {
		return nil, internal("uplinks", "list", err)
	}
	var out []UplinkStatus
	for _, u := range e.uplinks.list {
		s := UplinkStatus{Uplink: u, Status: e.uplinkStatus(u, ports)}
		for _, a := range view.addrs {
			if a.Dev == u.Bridge && !slices.Contains(e.gateways(u.Bridge), a.Prefix) {
				s.Addresses = append(s.Addresses, a.Prefix)
			}
		}
		slices.SortFunc(s.Addresses, netip.Prefix.Compare)
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b UplinkStatus) int { return strings.Compare(a.NIC, b.NIC) })
	return out, nil
}

func (e *Engine) uplinkState(u model.Uplink, ports []nics.Port) Status {
	since := u.Created // if it was never otherwise
	if text := e.uplinks.warned[u.NIC]; text != "" {
		return Status{StateDegraded, text, since}
	}
	i := slices.IndexFunc(ports, func(p nics.Port) bool { return p.NIC == u.NIC })
	switch {
	case i < 0:
		return Status{StateDegraded, "is not attached yet", since}
	case ports[i].Missing != "":
		return Status{StateDegraded, "device " + ports[i].Missing + " is not there", since}
	case ports[i].Out:
		return Status{StateDegraded, "is no port of " + u.Bridge, since}
	case len(ports[i].Stray) > 0:
		return Status{StateDegraded, "somebody put " + strings.Join(ports[i].Stray, ", ") + " on it", since}
	}
	return Status{StateReady, "", since}
}

// uplinkOf returns the NIC that is attached to a bridge, or "".
func (e *Engine) uplinkOf(bridge string) string {
	for _, u := range e.uplinks.list {
		if u.Bridge == bridge {
			return u.NIC
		}
	}
	return ""
}

// detachAll moves all NICs back, for a host whose daemon has stopped.
func (e *Engine) detachAll(ctx context.Context) error {
	if e.cfg.Uplinks == nil {
		return nil
	}
	if err := e.recoverUplinks(); err != nil {
		return err
	}
	ports, err := e.cfg.Uplinks.Ports()
	errs := []error{err}
	for _, p := range ports {
		rep, err := e.cfg.Uplinks.Detach(ctx, nics.Move{NIC: p.NIC, Keep: e.gateways(p.Bridge)})
		for _, w := range rep.Warnings {
			e.cfg.Log.Warn("uplink: " + w)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
