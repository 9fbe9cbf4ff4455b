package ovsdb

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// Apply carries out ops about bridges and ports: what is to go in one
// transaction, then what is to be there in another. It returns when
// ovs-vswitchd has done it, but for ports that only go: these it may have until
// LetGo. Its errors are *kernel.OpError, joined in the order of ops.
func (c *Conn) Apply(ops []kstate.Op) error {
	var errs []error
	for i, err := range c.apply(ops, true) {
		if err != nil {
			errs = append(errs, &kernel.OpError{Op: ops[i], Err: err})
		}
	}
	return errors.Join(errs...)
}

// alone carries out one op.
func (c *Conn) alone(op kstate.Op, mark bool) error { return c.apply([]kstate.Op{op}, mark)[0] }

// apply returns an error per op. Without mark, what is made has none, and ports
// of others are removed too.
func (c *Conn) apply(ops []kstate.Op, mark bool) []error {
	c.busy.Add(1)
	defer c.busy.Add(-1)
	errs := make([]error, len(ops))
	err := c.with(func(s *session) error {
		clear(errs)
		p := &plan{c: c, s: s, ops: ops, errs: errs, mark: mark}
		return p.run()
	})
	for i := range errs {
		if err != nil {
			errs[i] = err
		}
		if ops[i].New != nil && (err != nil || errors.Is(errs[i], kernel.ErrNotRunning)) {
			c.await()
		}
	}
	return errs
}

// plan is one Apply.
type plan struct {
	c    *Conn
	s    *session
	ops  []kstate.Op
	errs []error
	mark bool

	there   table
	running bool // ovs-vswitchd
}

// step is what the database is told for one op.
type step struct {
	op  int
	ops []operation
}

// run returns an error if the server does not do its part; what it refuses is in
// errs.
func (p *plan) run() (err error) {
	if p.running, err = p.c.switching(p.s); err != nil {
		return err
	}
	drops := slices.ContainsFunc(p.ops, func(op kstate.Op) bool {
		_, is := op.Old.(kstate.OVSBridge)
		return is && op.New == nil
	})
	if p.there, err = p.s.look(drops, p.names()...); err != nil {
		return err
	}
	var first, second []step
	for i, op := range p.ops {
		away, here, err := p.steps(i, op)
		if err == nil && op.New != nil && !p.running {
			err = notSwitching()
		}
		if p.errs[i] = err; err != nil {
			continue
		}
		if len(away) > 0 {
			first = append(first, step{i, away})
		}
		if len(here) > 0 {
			second = append(second, step{i, here})
		}
	}
	if err := p.commit(first, !p.patient(first, second)); err != nil {
		return err
	}
	if len(second) > 0 {
		p.c.LetGo(p.names()...)
	}
	if err := p.commit(second, true); err != nil {
		return err
	}
	return p.check()
}

// patient reports whether nobody waits for what goes: our ports alone do. In the
// user-space datapath each is a packet socket that is closed, for which the
// kernel takes some 15 ms (synchronize_net in packet_release), one after the other.
func (p *plan) patient(first, second []step) bool {
	return p.mark && len(second) == 0 && !slices.ContainsFunc(first, func(st step) bool {
		_, is := p.ops[st.op].Object().(kstate.OVSPort)
		return !is
	})
}

// names are the ports that ops are about, and those of the bridges that have their names.
func (p *plan) names() []string {
	var out []string
	for _, op := range p.ops {
		switch o := op.Object().(type) {
		case kstate.OVSPort:
			out = append(out, o.Device, o.Bridge)
		case kstate.OVSBridge:
			out = append(out, o.Name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// steps returns what takes something away and what brings something.
func (p *plan) steps(i int, op kstate.Op) (away, here []operation, err error) {
	switch o := op.Object().(type) {
	case kstate.OVSBridge:
		if op.New == nil {
			away, err = p.dropBridge(o)
		} else {
			here, err = p.putBridge(i, o)
		}
	case kstate.OVSPort:
		if op.New == nil {
			away, err = p.dropPort(o)
		} else {
			away, here, err = p.putPort(i, o)
		}
	default:
		err = fmt.Errorf("not of Open vSwitch: %w", kernel.ErrUnsupported)
	}
	return away, here, err
}

func (p *plan) dropBridge(o kstate.OVSBridge) ([]operation, error) {
	b, ok := p.there.bridges[o.Name]
	switch {
	case !ok:
		return nil, nil
	case !b.ours:
		return nil, fmt.Errorf("bridge %s is not ours: %w", o.Name, kernel.ErrInUse)
	}
	if p.shared(b) {
		return p.handOver(b), nil
	}
	return []operation{mutate("Open_vSwitch", nil, "bridges", "delete", setOf(uuid(b.uuid)))}, nil
}

// shared reports whether others have ports on a bridge: the host's NIC may be one.
func (p *plan) shared(b bridge) bool {
	return slices.ContainsFunc(b.ports, func(id string) bool {
		for name, have := range p.there.ports {
			if have.uuid == id {
				return name != b.name && !have.ours()
			}
		}
		return true
	})
}

// handOver leaves a bridge to the others: our ports go, and our mark.
func (p *plan) handOver(b bridge) []operation {
	ops := []operation{
		mutate("Bridge", []any{is("_uuid", uuid(b.uuid))}, "external_ids", "delete", setOf(ownerKey)),
		mutate("Interface", []any{is("name", b.name)}, "external_ids", "delete", setOf(ownerKey)),
	}
	for _, have := range p.there.ports {
		if have.bridge == b.name && have.ours() {
			ops = append(ops, leave(have)...)
		}
	}
	return ops
}

func (p *plan) putBridge(i int, o kstate.OVSBridge) ([]operation, error) {
	b, ok := p.there.bridges[o.Name]
	switch {
	case ok && !b.ours:
		return nil, fmt.Errorf("bridge %s is not ours: %w", o.Name, kernel.ErrInUse)
	case ok && b.datapath == o.Datapath:
		return nil, nil
	case ok:
		return []operation{update("Bridge", []any{is("_uuid", uuid(b.uuid))}, map[string]any{"datapath_type": o.Datapath})}, nil
	}
	if _, err := p.c.index(o.Name); err == nil && !p.leftover(o.Name) && !p.c.takesUp(o) {
		return nil, fmt.Errorf("device %s: %w", o.Name, kernel.ErrInUse)
	}
	at, ids := strconv.Itoa(i), p.ids(nil)
	return []operation{
		insert("Interface", "i"+at, map[string]any{"name": o.Name, "type": "internal", "external_ids": mapOf(ids)}),
		insert("Port", "p"+at, map[string]any{"name": o.Name, "interfaces": named("i" + at)}),
		insert("Bridge", "b"+at, map[string]any{"name": o.Name, "datapath_type": o.Datapath, "ports": named("p" + at), "external_ids": mapOf(ids)}),
		mutate("Open_vSwitch", nil, "bridges", "insert", setOf(named("b"+at))),
	}, nil
}

// leftover reports whether this Apply takes a bridge of the name away first, whose
// device is there until then.
func (p *plan) leftover(name string) bool {
	return slices.ContainsFunc(p.ops, func(op kstate.Op) bool {
		o, ok := op.Object().(kstate.OVSBridge)
		return ok && op.New == nil && o.Name == name
	})
}

// takesUp reports whether a device is one that ovs-vswitchd left when it ended: it
// knows it again by its name, also after its database was lost.
func (c *Conn) takesUp(o kstate.OVSBridge) bool {
	return o.Datapath == "netdev" && c.Tap != nil && c.Tap(o.Name)
}

func (p *plan) dropPort(o kstate.OVSPort) ([]operation, error) {
	have, ok := p.there.ports[o.Device]
	switch {
	case !ok:
		return nil, nil
	case !have.ours() && p.mark:
		return nil, fmt.Errorf("port %s is not ours: %w", o.Device, kernel.ErrInUse)
	}
	return leave(have), nil
}

func leave(have port) []operation {
	return []operation{mutate("Bridge", []any{is("name", have.bridge)}, "ports", "delete", setOf(uuid(have.uuid)))}
}

// putPort changes a port of ours in place where that can be, and else makes it
// anew.
func (p *plan) putPort(i int, o kstate.OVSPort) (away, here []operation, err error) {
	index, err := p.index(o)
	if err != nil {
		return nil, nil, err
	}
	have, ok := p.there.ports[o.Device]
	same := ok && have.configured().String() == o.String()
	switch {
	case ok && !p.mark && same:
		return nil, nil, nil
	case ok && have.ours() != p.mark, ok && !p.mark:
		return nil, nil, fmt.Errorf("device %s: %w as a port of bridge %s", o.Device, kernel.ErrInUse, have.bridge)
	}
	if b, there := p.there.bridges[o.Bridge]; (!there || p.removes(b)) && !p.adds(o.Bridge) {
		return nil, nil, fmt.Errorf("bridge %s %w", o.Bridge, kernel.ErrMissing)
	}
	if ok && have.bridge == o.Bridge && have.broken == "" && !p.c.stale(have) {
		if !same {
			here = []operation{update("Port", []any{is("_uuid", uuid(have.uuid))}, vlans(o))}
		}
		return nil, here, nil
	}
	if ok {
		away = leave(have)
	}
	return away, p.join(i, o, index), nil
}

// index is the number of a port's device.
func (p *plan) index(o kstate.OVSPort) (int, error) {
	index, err := p.c.index(o.Device)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("device %s %w", o.Device, kernel.ErrMissing)
	}
	return index, err
}

// join makes a device a port.
func (p *plan) join(i int, o kstate.OVSPort, index int) []operation {
	at, ids := strconv.Itoa(i), p.ids(o.IDs)
	r := vlans(o)
	r["name"], r["interfaces"] = o.Device, named("i"+at)
	if p.mark {
		ids[indexKey] = strconv.Itoa(index)
	}
	r["external_ids"] = mapOf(ids)
	return []operation{
		insert("Interface", "i"+at, map[string]any{"name": o.Device, "external_ids": mapOf(p.ids(o.IDs))}),
		insert("Port", "p"+at, r),
		mutate("Bridge", []any{is("name", o.Bridge)}, "ports", "insert", setOf(named("p"+at))),
	}
}

// adds and removes report whether this Apply makes a bridge, or takes one away.
func (p *plan) adds(name string) bool {
	return slices.ContainsFunc(p.ops, func(op kstate.Op) bool {
		o, ok := op.New.(kstate.OVSBridge)
		return ok && o.Name == name
	})
}

func (p *plan) removes(b bridge) bool { return b.ours && p.leftover(b.name) }

// ids are the external_ids of a row.
func (p *plan) ids(more map[string]string) map[string]string {
	out := maps.Clone(more)
	if out == nil {
		out = map[string]string{}
	}
	if p.mark {
		out[ownerKey] = owner
	}
	return out
}

// vlans are the columns that say which frames a port carries. A port without a
// VLAN has VLAN 0, which is that of frames without a tag: otherwise it would be
// one of all VLANs.
func vlans(o kstate.OVSPort) map[string]any {
	tag, trunks, mode := setOf[int](), setOf[int](), setOf[string]()
	switch {
	case o.All:
	case len(o.Trunks) == 0:
		tag, mode = setOf(o.Tag), setOf("access")
	case o.Tag == 0:
		trunks, mode = setOf(o.Trunks...), setOf("trunk")
	default:
		tag, trunks, mode = setOf(o.Tag), setOf(o.Trunks...), setOf("native-untagged")
	}
	return map[string]any{"tag": tag, "trunks": trunks, "vlan_mode": mode}
}

// commit carries out steps, in one transaction or, if that is refused, each by
// itself. It waits until ovs-vswitchd has done it, or notes what that may still
// have.
func (p *plan) commit(steps []step, wait bool) error {
	if len(steps) == 0 {
		return nil
	}
	var all []operation
	for _, st := range steps {
		all = append(all, st.ops...)
	}
	config, done, err := p.s.commit(all)
	refused, ok := errors.AsType[*refusal](err)
	switch {
	case ok && len(steps) > 1:
		for i := range steps {
			if err := p.commit(steps[i:i+1], wait); err != nil {
				return err
			}
		}
		return nil
	case ok:
		p.errs[steps[0].op] = refused
		return nil
	case err != nil || !p.running:
		return err
	case !wait:
		p.c.left(p.devices(steps), config, done)
		return nil
	}
	if err := p.s.settle(config, len(steps)+p.c.leavers()); err != nil {
		alive, lost := p.c.switching(p.s)
		switch {
		case hungUp(err):
			return err
		case lost != nil:
			return lost
		case !alive:
			err = notSwitching()
		}
		for _, st := range steps {
			p.errs[st.op] = err
		}
	}
	return nil
}

// devices are those that steps are about.
func (p *plan) devices(steps []step) []string {
	var out []string
	for _, st := range steps {
		if o, ok := p.ops[st.op].Object().(kstate.OVSPort); ok {
			out = append(out, o.Device)
		}
	}
	return out
}

// check says what came of the additions.
func (p *plan) check() error {
	if !slices.ContainsFunc(p.ops, func(op kstate.Op) bool { return op.New != nil }) || !p.running {
		return nil
	}
	t, err := p.s.look(false, p.names()...)
	if err != nil {
		return err
	}
	for i, op := range p.ops {
		if p.errs[i] != nil || op.New == nil {
			continue
		}
		why := ""
		switch o := op.New.(type) {
		case kstate.OVSBridge:
			why = t.bridges[o.Name].broken
		case kstate.OVSPort:
			have, ok := t.ports[o.Device]
			if !ok { // a port of no bridge is no row
				p.errs[i] = fmt.Errorf("bridge %s %w", o.Bridge, kernel.ErrMissing)
				continue
			}
			why = have.broken
			if _, gone := p.index(o); why != "" && gone != nil { // meanwhile
				p.errs[i] = gone
				continue
			}
			if all := t.ports[o.Bridge].broken; why != "" && all != "" {
				why = "bridge " + o.Bridge + ": " + all + ", as its log says"
			}
		}
		if why != "" {
			p.errs[i] = fmt.Errorf("Open vSwitch: %s", why)
		}
	}
	p.c.noteOurs()
	return nil
}

// noteOurs notes that there is something of ours, which will be missed.
func (c *Conn) noteOurs() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ours = true
}
