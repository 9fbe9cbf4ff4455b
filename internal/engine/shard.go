package engine

import (
	"cmp"

	"github.com/sealane/sealane/internal/model"
)

// bridgeKey names one bridge of a network, see model.Network.Bridge.
type bridgeKey struct {
	network model.ID
	shard   int
}

// settleShard puts an endpoint on the first bridge of its network with room,
// a new one if need be. A shard that was made stays as long as the network.
func (d *draft) settleShard(ep *model.Endpoint, n *model.Network) error {
	if !n.Bridged() {
		return nil
	}
	for i := range model.MaxShards + 1 {
		key := bridgeKey{n.ID, i}
		if d.e.crowd[key]+d.crowd[key] >= cmp.Or(d.e.cfg.ShardPorts, n.Room(i)) {
			continue
		}
		d.crowd[key]++
		if ep.Shard = i; i > n.Shards {
			grown := *n
			grown.Shards = i
			d.networks[n.ID] = &grown
		}
		return nil
	}
	return d.errorf(model.Exhausted, "network %s: all %d endpoints are taken", n.Name, d.e.endpoints[n.ID])
}

// crowdBy counts one endpoint more, or less, on its bridge.
func (e *Engine) crowdBy(ep *model.Endpoint, by int) {
	key := bridgeKey{ep.Network, ep.Shard}
	if e.crowd[key] += by; e.crowd[key] == 0 {
		delete(e.crowd, key)
	}
}
