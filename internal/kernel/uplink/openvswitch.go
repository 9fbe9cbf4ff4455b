package uplink

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/ovsdb"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// openvswitch are the bridges of Open vSwitch, where that runs.
type openvswitch struct{}

// dial returns a door to the database, or nil where there is none.
func (openvswitch) dial() *ovsdb.Conn {
	if _, err := os.Stat(ovsdb.Socket); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return nil
	}
	return ovsdb.New(ovsdb.Socket, st.Ino, deviceIndex)
}

func deviceIndex(name string) (int, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0, fs.ErrNotExist
	}
	return i.Index, nil
}

// Has reports whether a device is an Open vSwitch bridge's. Without Open vSwitch
// nothing is.
func (o openvswitch) Has(bridge string) (bool, error) {
	c := o.dial()
	if c == nil {
		return false, nil
	}
	defer c.Close()
	_, ok, err := c.Bridge(bridge)
	return ok, err
}

// TakesWhole reports whether a bridge has its frames from user space: ovs-vswitchd reads
// them from the device as they are (lib/netdev-linux.c).
func (o openvswitch) TakesWhole(bridge string) (bool, error) {
	c := o.dial()
	if c == nil {
		return false, nil
	}
	defer c.Close()
	b, ok, err := c.Bridge(bridge)
	return ok && b.Datapath == model.DatapathNetdev, err
}

// errAway is what is said of ports where there is no door to the database.
var errAway = fmt.Errorf("Open vSwitch: %w: no socket %s", kernel.ErrNotRunning, ovsdb.Socket)

// PortOf returns the bridge that a device is a port of, or "".
func (o openvswitch) PortOf(device string) (string, error) {
	c := o.dial()
	if c == nil {
		return "", errAway
	}
	defer c.Close()
	return c.PortOf(device)
}

// Addr returns the hardware address that a bridge is told to have by somebody else, or nil.
func (o openvswitch) Addr(bridge string) (net.HardwareAddr, error) {
	c := o.dial()
	if c == nil {
		return nil, nil
	}
	defer c.Close()
	text, ours, err := c.HardwareAddr(bridge)
	if err != nil || ours {
		return nil, err
	}
	mac, _ := net.ParseMAC(text) // what is none, Open vSwitch passes over
	return mac, nil
}

// HoldAddr tells a bridge to keep a hardware address, nil for none, unless somebody else did.
func (o openvswitch) HoldAddr(bridge string, mac net.HardwareAddr) error {
	c := o.dial()
	if c == nil {
		return nil
	}
	defer c.Close()
	return c.HoldAddr(bridge, mac.String())
}

// AddPort makes a device a port.
func (o openvswitch) AddPort(bridge, port string) error {
	c := o.dial()
	if c == nil {
		return errAway
	}
	defer c.Close()
	return c.AddPort(kstate.OVSPort{Bridge: bridge, Device: port, All: true})
}

// DelPort takes a port out.
func (o openvswitch) DelPort(_, port string) error {
	c := o.dial()
	if c == nil {
		return errAway
	}
	defer c.Close()
	return c.DelPort(port)
}
