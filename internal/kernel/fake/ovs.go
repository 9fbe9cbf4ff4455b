package fake

import (
	"fmt"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// ovs is Open vSwitch: a database, which is on disk, and two programs.
type ovs struct {
	server, switching bool
	db                kstate.Set
	opened            map[string]int // by port: the device that it leads to
}

func newOVS() ovs { return ovs{db: kstate.Set{}, opened: map[string]int{}} }

func isOVS(o kstate.Object) bool {
	k := o.Key().Kind
	return k == kstate.KindOVSBridge || k == kstate.KindOVSPort
}

// OpenVSwitch starts and ends the programs of Open vSwitch. At boot neither runs.
func (k *Kernel) OpenVSwitch(server, switching bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.world.ovs.server, k.world.ovs.switching = server, switching
	k.world.switchOn()
	k.hint("Open vSwitch")
}

// switchOn has ovs-vswitchd, if it starts, do what the database says: it opens
// what devices there are.
func (w *world) switchOn() {
	if !w.ovs.switching {
		return
	}
	for _, o := range w.ovs.db {
		switch o := o.(type) {
		case kstate.OVSBridge:
			w.bridgeDevice(o.Name)
		case kstate.OVSPort:
			if d, ok := w.device(kstate.NS{}, o.Device); ok {
				w.ovs.opened[o.Device] = d.Index
			}
		}
	}
}

// bridgeDevice makes a bridge's own device, which is not ours.
func (w *world) bridgeDevice(name string) {
	if _, ok := w.device(kstate.NS{}, name); !ok {
		w.set(kstate.Link{Name: name, Type: "tun", MTU: 1500, Other: true, Index: w.next()})
	}
}

// putOVS makes or changes a bridge or a port.
func (w *world) putOVS(o kstate.Object) error {
	if !w.ovs.server {
		return fmt.Errorf("Open vSwitch: %w: no socket", kernel.ErrNotRunning)
	}
	if b, ok := o.(kstate.OVSBridge); ok {
		return w.putOVSBridge(b)
	}
	return w.putOVSPort(o.(kstate.OVSPort))
}

// switches refuses what needs ovs-vswitchd.
func (w *world) switches() error {
	if !w.ovs.switching {
		return fmt.Errorf("Open vSwitch: %w: no ovs-vswitchd", kernel.ErrNotRunning)
	}
	return nil
}

func (w *world) putOVSBridge(o kstate.OVSBridge) error {
	have, ok := w.ovs.db[o.Key()].(kstate.OVSBridge)
	_, device := w.device(kstate.NS{}, o.Name)
	switch {
	case ok && have.Other, !ok && device:
		return fmt.Errorf("bridge %s: %w", o.Name, kernel.ErrInUse)
	case !ok && checkName(o.Name) != nil:
		return checkName(o.Name)
	}
	if err := w.switches(); err != nil {
		return err
	}
	w.ovs.db[o.Key()] = o
	w.bridgeDevice(o.Name)
	return nil
}

func (w *world) putOVSPort(o kstate.OVSPort) error {
	d, there := w.device(kstate.NS{}, o.Device)
	_, bridged := w.ovs.db[kstate.OVSBridge{Name: o.Bridge}.Key()]
	switch {
	case !there:
		return fmt.Errorf("device %s %w", o.Device, kernel.ErrMissing)
	case !bridged:
		return fmt.Errorf("bridge %s %w", o.Bridge, kernel.ErrMissing)
	}
	if err := w.switches(); err != nil {
		return err
	}
	o.Broken, o.Stale = "", false
	w.ovs.db[o.Key()] = o
	w.ovs.opened[o.Device] = d.Index
	return nil
}

// removeOVS takes a bridge with its ports away, or a port.
func (w *world) removeOVS(o kstate.Object) error {
	if !w.ovs.server {
		return fmt.Errorf("Open vSwitch: %w: no socket", kernel.ErrNotRunning)
	}
	if have, ok := w.ovs.db[o.Key()]; ok && kstate.Foreign(have) {
		return fmt.Errorf("%s is not ours: %w", have, kernel.ErrInUse)
	}
	w.dropOVS(o.Key())
	return nil
}

func (w *world) dropOVS(key kstate.Key) {
	if _, ok := w.ovs.db[key]; !ok {
		return
	}
	delete(w.ovs.db, key)
	if key.Kind != kstate.KindOVSBridge {
		return
	}
	w.drop(kstate.Link{Name: key.ID}.Key())
	for k, o := range w.ovs.db {
		if p, ok := o.(kstate.OVSPort); ok && p.Bridge == key.ID {
			delete(w.ovs.db, k)
		}
	}
}

// observeOVS adds what the database has, and why it carries nothing.
func (w *world) observeOVS(out kstate.Set) {
	if !w.ovs.server {
		return
	}
	for k, o := range w.ovs.db {
		why := ""
		if !w.ovs.switching {
			why = "no ovs-vswitchd"
		}
		switch v := o.(type) {
		case kstate.OVSBridge:
			if !v.Other {
				v.Broken = why
			}
			o = v
		case kstate.OVSPort:
			d, ok := w.device(kstate.NS{}, v.Device)
			v.Broken, v.Stale = why, why == "" && (!ok || d.Index != w.ovs.opened[v.Device])
			o = v
		}
		out[k] = o
	}
}
