package rtnl

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kstate"
)

// ntfSticky is NTF_STICKY of linux/neighbour.h, which x/sys lacks. Kernels
// before 4.20 ignore it: what is pinned then moves with the frames.
const ntfSticky = 1 << 6

// pin is a message that keeps frames to a hardware address on one port of its
// bridge, and unpin one that lets the bridge learn again.
func pin(index int, mac net.HardwareAddr) *message {
	return newMessage(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE).
		neigh(unix.AF_BRIDGE, index, unix.NUD_NOARP, unix.NTF_MASTER|ntfSticky).attr(unix.NDA_LLADDR, mac)
}

func unpin(index int, mac net.HardwareAddr) *message {
	return newMessage(unix.RTM_DELNEIGH, 0).neigh(unix.AF_BRIDGE, index, 0, unix.NTF_MASTER).attr(unix.NDA_LLADDR, mac)
}

var errNothingToPin = errors.New("pinned: the far end's hardware address is not given")

// neigh appends struct ndmsg.
func (m *message) neigh(family uint8, index int, state uint16, flags uint8) *message {
	m.buf = append(m.buf, family, 0, 0, 0)
	m.buf = native.AppendUint32(m.buf, uint32(index))
	m.buf = native.AppendUint16(m.buf, state)
	m.buf = append(m.buf, flags, 0)
	return m
}

// repin queues what a change of a port or its far end's address does to where
// frames to it go. A bridge forgets what was pinned to a port that leaves it.
func (p *pass) repin(op int, old, l kstate.Link, d device) error {
	if !l.Pinned || l.Master == "" || old.Pinned && l.Peer.MAC == old.Peer.MAC && l.Master == old.Master {
		return nil
	}
	before, errBefore := parseMAC(old.Peer.MAC)
	after, err := parseMAC(l.Peer.MAC)
	if err != nil {
		return err
	}
	if errBefore == nil && len(before) > 0 && l.Master == old.Master && old.Peer.MAC != l.Peer.MAC {
		p.host().addForgiving(op, unpin(d.index, before), unix.ENOENT)
	}
	if len(after) == 0 {
		return errNothingToPin
	}
	p.host().add(op, pin(d.index, after))
	return nil
}
