package udptun

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/sealane/sealane/internal/serve/udptun/shortcut"
)

// setShortcut has the shortcut, if there is one, know of the peers.
func (t *Tunnel) setShortcut(peers []Peer) error {
	s := t.short.Load()
	if s == nil {
		return nil
	}
	all := make(map[netip.Prefix]netip.Addr, len(peers))
	for _, p := range peers {
		all[p.Prefix.Masked()] = p.Addr.Unmap()
	}
	return s.SetPeers(all)
}

// vouch has the shortcut know that a socket has sent to a host, or heard from it. What
// comes of that, comes of the next datagram too.
func (t *Tunnel) vouch(h *host, w shortcut.Way) {
	s := t.short.Load()
	if s == nil {
		return
	}
	if round := s.Round(); h.vouched[w].Load() != round {
		h.vouched[w].Store(round)
		_ = s.Prove(h.addr, w)
	}
}

// shortcutOf is the shortcut of a tunnel's IPv4.
func shortcutOf(device string, c Config) shortcut.Config {
	s := shortcut.Config{Device: device, Port: cmp.Or(c.Port, Port)}
	for _, a := range c.Local {
		if a.Unmap().Is4() {
			s.Local = a.Unmap()
		}
	}
	for _, p := range c.Subnets {
		if p.Addr().Is4() {
			s.Subnet = p.Masked()
		}
	}
	return s
}

// short is the shortcut of an open tunnel, if there is one.
type short struct {
	*shortcut.Shortcut
	log  *slog.Logger
	ends func() bool // the process does, and it stays
	last string      // why there is none
}

// shorten makes a shortcut for a tunnel, which goes without it where that cannot be.
func (k *Keeper) shorten(device string, c Config, t *Tunnel) *short {
	s := &short{log: k.log.With("device", device), ends: k.ends.Load}
	if s.ends() { // with one that knows something of the hosts
		return s
	}
	made, err := k.cut(shortcutOf(device, c))
	if err == nil {
		s.Shortcut = made
		t.short.Store(made)
		err = t.setShortcut(c.Peers)
	}
	s.note(err)
	s.keep()
	return s
}

// keep has it be in the kernel as it should.
func (s *short) keep() {
	if s.Shortcut != nil {
		s.note(s.Keep())
	}
}

// note tells once why packets do not take it.
func (s *short) note(err error) {
	text := fmt.Sprint(err)
	if err != nil && text != s.last {
		s.log.Info("udp tunnel: all packets go by this process", "why", err)
	}
	s.last = text
}

// remove takes it away, unless the next process is to find it.
func (s *short) remove() {
	if s.Shortcut == nil || s.ends() {
		return
	}
	if err := s.Remove(); err != nil {
		s.log.Warn("udp tunnel: remove shortcut", "err", err)
	}
}

// end ends this process's part, after the tunnel's end.
func (s *short) end() {
	if s.Shortcut != nil {
		_ = s.Close() // descriptors that nobody uses any more
	}
}
