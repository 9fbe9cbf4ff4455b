package metrics

import (
	"cmp"

	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/ipam"
	"github.com/sealane/sealane/internal/kernel/facts"
	"github.com/sealane/sealane/internal/model"
)

// networks adds what there is of networks, with the traffic of their devices.
func (c *collector) networks(s scrape) {
	endpoints := map[model.ID]int{}
	for _, sb := range c.Engine.Sandboxes() {
		for i := range sb.Endpoints {
			endpoints[sb.Endpoints[i].Network]++
		}
	}
	devices, err := c.Devices()
	if err != nil {
		c.Log.Warn("metrics: traffic of devices", "err", err)
	}
	type group struct{ driver, state string }
	groups := map[group]int{}
	for _, n := range c.Engine.Networks() {
		if n.Driver == model.DriverPool {
			continue // no network yet
		}
		state := c.Engine.NetworkStatus(n).State
		groups[group{n.Driver, state}]++
		s.put("sealane_network_ready", yes(state == engine.StateReady), n.Name)
		s.put("sealane_network_endpoints", float64(endpoints[n.ID]), n.Name)
		if n.Spans() {
			s.put("sealane_network_peers", float64(peers(n)), n.Name)
		}
		of := map[bool]ipam.Usage{}
		for i, u := range c.Engine.Usage(n) {
			is6 := n.Subnets[i].Prefix.Addr().Is6()
			of[is6] = of[is6].Plus(u)
		}
		for is6, u := range of {
			addresses(s, n, is6, u)
		}
		for _, dev := range devicesOf(n) {
			if t, there := devices[dev]; there {
				traffic(s, n.Name, dev, t)
			}
		}
	}
	for g, count := range groups {
		s.put("sealane_networks", float64(count), g.driver, g.state)
	}
}

// peers is how many other hosts are on a network.
func peers(n *model.Network) int {
	if n.Fabric != nil {
		return len(n.Fabric.Peers)
	}
	hosts := map[string]bool{}
	for i := range n.Overlay.Far {
		hosts[cmp.Or(n.Overlay.Far[i].Node, n.Overlay.Far[i].Host)] = true
	}
	return len(hosts)
}

func addresses(s scrape, n *model.Network, is6 bool, u ipam.Usage) {
	family := "ipv4"
	if is6 {
		family = "ipv6"
	}
	for state, count := range map[string]uint64{
		"used": u.InUse - u.Reserved, "reserved": u.Reserved, "quarantined": u.Resting, "free": u.Free - u.Resting,
	} {
		s.put("sealane_network_addresses", float64(count), n.Name, family, state)
	}
}

// devicesOf are the host's devices by which it reaches the containers of a network. What
// goes through a shard to the host passes the first bridge.
func devicesOf(n *model.Network) []string {
	switch {
	case n.OnParent():
		return []string{n.Lower()}
	case n.Driver == model.DriverPhys:
		return nil // it is in a container, if anywhere
	}
	devs := []string{n.Device()}
	for _, l := range n.Ways() {
		if l.Bridge != n.Device() {
			devs = append(devs, l.Bridge)
		}
	}
	return devs
}

func traffic(s scrape, network, device string, t facts.Traffic) {
	for way, p := range map[string]facts.Passed{"receive": t.Received, "transmit": t.Sent} {
		for what, n := range map[string]uint64{"bytes": p.Bytes, "packets": p.Packets, "errors": p.Errors, "dropped": p.Dropped} {
			s.put("sealane_network_device_"+way+"_"+what+"_total", float64(n), network, device)
		}
	}
}
