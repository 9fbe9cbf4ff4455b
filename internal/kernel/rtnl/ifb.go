package rtnl

import (
	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kstate"
)

// addIFB makes a device that gives back what is sent by it, see kstate.Redirect.
// One queue is enough for what goes no faster than a rate.
func (p *pass) addIFB(op int, l kstate.Link, near device, m *message) {
	host := p.host()
	near.far = 0
	m.mtu(l.MTU).u32(unix.IFLA_NUM_TX_QUEUES, 1).u32(unix.IFLA_NUM_RX_QUEUES, 1)
	m.nest(unix.IFLA_LINKINFO, func() { m.str(unix.IFLA_INFO_KIND, string(kstate.TypeIFB)) })
	host.add(op, m)
	host.quiet(op, near.index, l)
	m = change(near.index, l.Up, l.Up).noARP(l.NoARP)
	if l.Alias != "" {
		m.alias(l.Alias)
	}
	host.add(op, m)
	host.devs[l.Name] = near
	p.c.recent.touch(near.index)
}
