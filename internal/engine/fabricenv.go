package engine

import "github.com/sealane/sealane/internal/cluster/flannel"

// formerSubnet is what a flanneld had here before the first lease of a fabric.
func (e *Engine) formerSubnet(key string) (s flannel.Subnet) {
	if key == e.cfg.Cluster.Prefix {
		s = e.cfg.Cluster.Former
	}
	return s
}

// tellSubnet says to others on this host which subnet of the fabric under the
// cluster's own prefix its containers live in. What they were told and lost is told
// again by the next pass. The caller holds work.
func (e *Engine) tellSubnet() {
	c, f := &e.cfg.Cluster, &e.fabrics
	if c.Store == nil || c.Subnet == nil {
		return
	}
	env := e.subnetEnv()
	if env == nil && !f.told {
		return // what is there was not said by us
	}
	err := c.Subnet(env)
	if err == nil {
		f.told, f.untold = env != nil, ""
		return
	}
	if text := err.Error(); text != f.untold { // and not in each pass
		f.untold = text
		e.cfg.Log.Error("fabric: tell this host's subnet", "err", err)
	}
}

// subnetEnv is what a subnet.env says of this host, or nil if it is not in that
// fabric. The caller holds work or mu.
func (e *Engine) subnetEnv() *flannel.Env {
	n := e.fabricNetwork(e.cfg.Cluster.Prefix)
	if n == nil {
		return nil
	}
	env := flannel.Env{MTU: n.Options.MTU, IPMasq: !n.Options.NoMasq}
	if sub, ok := n.Subnet(false); ok {
		env.Network4, _ = n.Fabric.Of(false)
		env.Subnet.V4 = sub.Prefix
	}
	if sub, ok := n.Subnet(true); ok {
		env.Network6, _ = n.Fabric.Of(true)
		env.Subnet.V6 = sub.Prefix
	}
	return &env
}
