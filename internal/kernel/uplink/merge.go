package uplink

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// mergers are the features by which a NIC, or the kernel for it, makes one large frame
// of several that came in. The kernel cuts such a frame again where it goes out, also by
// the datapath that Open vSwitch has there. The one in user space takes it as it is, and drops
// it if it is larger than the MTU.
var mergers = []string{"rx-gro", "rx-lro", "rx-gro-hw"}

// merging returns which of the mergers that a NIC can change are on, nil if they may
// stay so under the bridge.
func (m *mover) merging(nic, br device) (map[string]bool, error) {
	if br.index == 0 || br.kind == kindBridge {
		return nil, nil
	}
	if whole, err := m.switches.TakesWhole(br.name); err != nil || !whole {
		return nil, err
	}
	all, err := featuresOf(nic.name)
	if err != nil {
		return nil, fmt.Errorf("features of %s: %w", nic.name, err)
	}
	out := map[string]bool{}
	for _, name := range mergers {
		if f := all[name]; f.free {
			out[name] = f.wanted
		}
	}
	return out, nil
}

func featuresOf(dev string) (map[string]featureState, error) {
	f, err := openFeatures()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.of(dev)
}

// separate has the NIC hand on frames as they came.
func (m *mover) separate(nic device) error {
	off := maps.Clone(m.rec.Port.Merging)
	for name := range off {
		off[name] = false
	}
	return m.setFeatures(nic, off)
}

// mergeAgain has the NIC merge what it merged, if it is the one that was recorded.
func (m *mover) mergeAgain(nic device) error {
	if nic.index != m.rec.Port.Index {
		return nil
	}
	return m.setFeatures(nic, m.rec.Port.Merging)
}

// setFeatures changes those of a device that are not as wanted: some drivers set the
// device down and up for it.
func (m *mover) setFeatures(d device, want map[string]bool) error {
	if len(want) == 0 {
		return nil
	}
	f, err := openFeatures()
	if err != nil {
		return err
	}
	defer f.Close()
	have, err := f.of(d.name)
	if err != nil {
		return err
	}
	other := maps.Clone(want)
	maps.DeleteFunc(other, func(name string, on bool) bool { return have[name].wanted == on })
	if len(other) == 0 {
		return nil
	}
	m.before()
	return gone(f.set(d.name, other))
}

// mergesSince returns what somebody had the NIC merge since it was attached.
func (r *record) mergesSince(all map[string]device) []string {
	if r.Port.Merging == nil || all[r.NIC].index != r.Port.Index {
		return nil
	}
	have, err := featuresOf(r.NIC)
	if err != nil {
		return nil // it went
	}
	var out []string
	for _, name := range mergers {
		if f := have[name]; f.free && f.wanted {
			out = append(out, "feature "+name)
		}
	}
	return out
}

// mergeWarnings name what goes on merging: the NIC, if its driver does not let that be
// turned off, and what it is made of.
func (m *mover) mergeWarnings(all map[string]device) []string {
	if m.rec.Port.Merging == nil {
		return nil
	}
	nic := all[m.rec.NIC]
	var out []string
	for _, dev := range append([]string{nic.name}, below(all, nic)...) {
		have, err := featuresOf(dev)
		if err != nil {
			continue // it went
		}
		on := slices.DeleteFunc(slices.Clone(mergers), func(name string) bool { return !have[name].active })
		if len(on) > 0 {
			out = append(out, fmt.Sprintf("%s goes on merging frames that come in (%s), and %s drops what is larger than its MTU: TCP may stall", dev, strings.Join(on, ", "), m.rec.Bridge))
		}
	}
	return out
}

// below returns the devices that receive for another: the ports of a bond or a team, and
// what a VLAN is on.
func below(all map[string]device, d device) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if x := all[name]; x.master == d.index || d.kind == "vlan" && x.index == d.lower {
			out = append(out, name)
		}
	}
	return out
}
