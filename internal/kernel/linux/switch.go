package linux

import (
	"errors"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/netns"
	"github.com/sealane/sealane/internal/kstate"
)

// SwitchOf returns the bridge of Open vSwitch that a device of the host is a port
// of, also where the kernel does not tell; "" is none, or no database that answers.
func (l *Linux) SwitchOf(device string) string {
	bridge, err := l.ovs.PortOf(device)
	if err != nil {
		return ""
	}
	return bridge
}

// WaysFrom returns the devices of the host by which what is in a VLAN leaves a bridge of
// Open vSwitch, but for ports of ours, with the tag that it has there. There are none
// where the device is no such bridge.
func (l *Linux) WaysFrom(device string, vlan int) map[string]int {
	tags, err := l.ovs.Ways(device, vlan)
	if err != nil {
		return nil
	}
	return tags
}

// orphaned says of ports whose devices were made and went with the namespace of their far
// ends that it was this that went.
func orphaned(err error, ops []kstate.Op) error {
	many, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	for _, one := range many.Unwrap() {
		failed, ok := errors.AsType[*kernel.OpError](one)
		if !ok || !errors.Is(failed.Err, kernel.ErrMissing) {
			continue
		}
		port, ok := failed.Op.New.(kstate.OVSPort)
		if !ok {
			continue
		}
		for _, op := range ops {
			l, is := op.New.(kstate.Link)
			if !is || l.Name != port.Device || l.Peer.NS.IsHost() {
				continue
			}
			if h, gone := netns.Open(l.Peer.NS); gone != nil {
				failed.Err = gone
			} else {
				h.Close()
			}
		}
	}
	return err
}
