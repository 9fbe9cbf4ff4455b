package kstate

import (
	"fmt"
	"strconv"
	"strings"
)

// OVSBridge is a bridge of Open vSwitch, a row of its database (Open_vSwitch
// database, ovs-vswitchd.conf.db(5)). Its mark is external_ids:owner=sealane.
type OVSBridge struct {
	Name     string // also that of its own device in the host
	Datapath string // "system" is the kernel's, "netdev" that of ovs-vswitchd itself
	Broken   string // observed only: why it carries nothing
	Other    bool   // there, not ours
}

func (o OVSBridge) foreign() bool { return o.Other }

// Key is the name.
func (o OVSBridge) Key() Key { return ovsBridgeKey(o.Name) }

func ovsBridgeKey(name string) Key { return Key{KindOVSBridge, name} }

// On is empty: the bridge's device comes and goes with it.
func (o OVSBridge) On() []Key { return nil }

// String is "ovs-bridge NAME datapath TYPE".
func (o OVSBridge) String() string {
	return "ovs-bridge " + o.Name + " datapath " + o.Datapath + broken(o.Broken)
}

// OVSPort is a device of the host that is a port of an Open vSwitch bridge. Of
// those that are not ours none is observed.
//
// It does not go with its device: a row of the database stays until somebody
// takes it away, and a new device of the old name is not what it leads to.
type OVSPort struct {
	Bridge string
	Device string
	// Tag is the VLAN whose frames have no tag on the device's side, Trunks are
	// those whose frames have one. Without either no frame has one, and those
	// that do are dropped.
	Tag    int
	Trunks []int
	// All: every VLAN, and frames without a tag, whatever Tag and Trunks say.
	All bool

	// IDs are for people: pairs for external_ids besides the owner, not compared.
	IDs    map[string]string
	Broken string // observed only: why it carries nothing
	// Stale, observed only: it was made for a device that is gone, whether or not
	// there is another. It is taken away before its new device is made: when
	// ovs-vswitchd lets go of the old one it gives the new one of that name the
	// flags of the old, and these may be those of a device that is down.
	Stale bool
}

// Key is the device: a port has its name, and no two bridges have one of it.
func (o OVSPort) Key() Key { return Key{KindOVSPort, o.Device} }

// On is the bridge.
func (o OVSPort) On() []Key { return []Key{ovsBridgeKey(o.Bridge)} }

// String is "ovs-port DEVICE bridge NAME", with " vlan N", " trunks N,N" or " all".
func (o OVSPort) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ovs-port %s bridge %s", o.Device, o.Bridge)
	if o.Stale {
		b.WriteString(" stale")
	}
	if o.All {
		b.WriteString(" all")
		return b.String() + broken(o.Broken)
	}
	if o.Tag != 0 {
		fmt.Fprintf(&b, " vlan %d", o.Tag)
	}
	for i, v := range o.Trunks {
		sep := ","
		if i == 0 {
			sep = " trunks "
		}
		b.WriteString(sep + strconv.Itoa(v))
	}
	return b.String() + broken(o.Broken)
}

func broken(why string) string {
	if why == "" {
		return ""
	}
	return " broken: " + why
}
