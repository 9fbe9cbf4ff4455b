package wireguard

import (
	"net"
	"net/netip"
	"os"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// native is a device of the kernel's. Its keys and peers outlast this process.
type native struct {
	name string
	ctl  *wgctrl.Client
}

// openNative finds a device of the process' network namespace.
func openNative(name string) (*native, error) {
	ctl, err := wgctrl.New()
	if err != nil {
		return nil, err
	}
	n := &native{name, ctl}
	if _, err := n.read(); err != nil {
		_ = ctl.Close()
		return nil, err
	}
	return n, nil
}

// read implements keeping. A device that is gone is os.ErrNotExist.
func (n *native) read() (state, error) {
	d, err := n.ctl.Device(n.name)
	if err != nil {
		return state{}, err
	}
	if d.Type != wgtypes.LinuxKernel {
		return state{}, os.ErrNotExist
	}
	s := state{Private: Secret(d.PrivateKey), port: uint16(d.ListenPort), peers: make(map[Public]peerState, len(d.Peers))}
	for _, p := range d.Peers {
		one := peerState{Shared: Secret(p.PresharedKey), keepalive: p.PersistentKeepaliveInterval, shook: p.LastHandshakeTime}
		if p.LastHandshakeTime.Unix() <= 0 {
			one.shook = time.Time{}
		}
		if p.Endpoint != nil {
			a := p.Endpoint.AddrPort()
			one.endpoint = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		}
		for _, a := range p.AllowedIPs {
			if prefix, ok := fromNet(a); ok {
				one.allowed = append(one.allowed, prefix)
			}
		}
		s.peers[Public(p.PublicKey)] = one
	}
	return s, nil
}

// change implements keeping.
func (n *native) change(c change) error {
	var conf wgtypes.Config
	if c.Private != nil {
		key := wgtypes.Key(*c.Private)
		conf.PrivateKey = &key
	}
	if c.port != nil {
		port := int(*c.port)
		conf.ListenPort = &port
	}
	for _, p := range c.peers {
		conf.Peers = append(conf.Peers, p.config())
	}
	return n.ctl.ConfigureDevice(n.name, conf)
}

// config is a change of a peer in the words of wgctrl.
func (p peerChange) config() wgtypes.PeerConfig {
	c := wgtypes.PeerConfig{PublicKey: wgtypes.Key(p.key), Remove: p.remove, PersistentKeepaliveInterval: p.keepalive}
	if p.Shared != nil {
		key := wgtypes.Key(*p.Shared)
		c.PresharedKey = &key
	}
	if p.endpoint.IsValid() {
		c.Endpoint = net.UDPAddrFromAddrPort(p.endpoint)
	}
	if p.allowed != nil {
		c.ReplaceAllowedIPs = true
		for _, a := range *p.allowed {
			c.AllowedIPs = append(c.AllowedIPs, net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())})
		}
	}
	return c
}

func fromNet(n net.IPNet) (netip.Prefix, bool) {
	a, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits), ok
}

// ended implements keeping: by reading it is found out.
func (n *native) ended() <-chan struct{} { return nil }

// watched implements keeping: everybody who may administer the network can change it.
func (n *native) watched() bool { return true }

// close implements keeping. The device goes on.
func (n *native) close() { _ = n.ctl.Close() }
