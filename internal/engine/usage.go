package engine

import (
	"github.com/sealane/sealane/internal/ipam"
	"github.com/sealane/sealane/internal/model"
)

// Usage says how full the subnets of a network are, in their order. A sandbox
// that ended still has its addresses, and one that is just being made has them
// already.
func (e *Engine) Usage(n *model.Network) []ipam.Usage {
	e.poolsMu.RLock()
	defer e.poolsMu.RUnlock()
	now := e.cfg.Now()
	list := make([]ipam.Usage, 0, len(n.Subnets))
	for _, s := range n.Subnets {
		pool := e.pools[poolKey{n.ID, s.Prefix.Addr().Is6()}].Of(s.Prefix)
		if pool == nil { // the network went meanwhile, so nobody was on it
			pool = ipam.NewPool(s)
		}
		list = append(list, pool.Usage(now))
	}
	return list
}
