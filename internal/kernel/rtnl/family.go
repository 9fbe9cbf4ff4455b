package rtnl

import (
	"errors"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/sysctl"
)

// Docker turns IPv6 off in the namespace of a container that has no address of that
// family from it, for the interfaces that come later too (conf.default). One of ours
// that is to have such an address must be let have it (inet6_rtm_newaddr in
// net/ipv6/addrconf.c).

// wake has a new device of ours in somebody else's namespace take IPv6 addresses.
// The device is made first.
func (p *pass) wake(s *space, dev string) error {
	if s.ns.IsHost() || p.c.dir.Ours(s.ns.Path) || s.awake[dev] {
		return nil
	}
	if s.awake == nil {
		s.awake = map[string]bool{}
	}
	s.awake[dev] = true
	asleep := false
	err := s.handle.Do(func() error {
		v, err := sysctl.Read("net.ipv6.conf.default.disable_ipv6")
		asleep = v == "1"
		return err
	})
	if errors.Is(err, kernel.ErrMissing) || err == nil && !asleep {
		return nil
	}
	if err != nil {
		return err
	}
	p.flush()
	return s.handle.Do(func() error { return sysctl.Write("net/ipv6/conf/"+dev+"/disable_ipv6", "0") })
}
