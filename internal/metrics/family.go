package metrics

import "github.com/prometheus/client_golang/prometheus"

// kind is what a family's values are.
type kind string

const (
	counter   kind = "counter"
	gauge     kind = "gauge"
	histogram kind = "histogram"
)

// family is a metric with all its labels.
type family struct {
	name   string
	kind   kind
	labels []string
	help   string
}

// families are all of ours. docs/metrics.md lists them.
func families() []family {
	network, device := []string{"network"}, []string{"network", "device"}
	const (
		received = " the host's device of a network received: a bridge, what containers sent to the host or through it; the parent of a macvlan or ipvlan network, what came in for all that are on it."
		sent     = " the host's device of a network sent: a bridge, what went to containers from the host or through it; the parent of a macvlan or ipvlan network, what went out from all that are on it."
	)
	return []family{
		{"sealane_build_info", gauge, []string{"version", "goversion"}, "Always 1: the labels are the version of the daemon, and of Go that it was built with."},

		{"sealane_networks", gauge, []string{"driver", "state"}, "Networks by driver and state: ready, degraded or conflict."},
		{"sealane_network_ready", gauge, network, "1 if the network is as intended, 0 if it is degraded or in conflict: sealane network inspect says why."},
		{"sealane_network_endpoints", gauge, network, "Endpoints of this host on the network, with those of sandboxes that have ended."},
		{"sealane_network_addresses", gauge, []string{"network", "family", "state"}, "Addresses of the network's subnet of a family (ipv4, ipv6), each in one state: used; reserved for nobody's sandbox; quarantined, freed lately and given when none is free; free."},
		{"sealane_network_peers", gauge, network, "Other hosts that are on a network over hosts: of driver fabric, those with a subnet of it; of overlay, those with endpoints."},
		{"sealane_sandboxes", gauge, []string{"state"}, "Sandboxes by state: running, away, exited, lost, degraded or conflict."},
		{"sealane_published_ports", gauge, []string{"protocol"}, "Published ports, each of a range counted, of sandboxes that run."},
		{"sealane_dhcp_leases", gauge, []string{"state"}, "Addresses that endpoints want of DHCP servers: bound, waiting for the first answer, or failing, which the log explains."},

		{"sealane_network_device_receive_bytes_total", counter, device, "Bytes that" + received},
		{"sealane_network_device_receive_packets_total", counter, device, "Packets that" + received},
		{"sealane_network_device_receive_errors_total", counter, device, "Packets with errors among those that" + received},
		{"sealane_network_device_receive_dropped_total", counter, device, "Packets dropped by the device, not by the firewall, among those that" + received},
		{"sealane_network_device_transmit_bytes_total", counter, device, "Bytes that" + sent},
		{"sealane_network_device_transmit_packets_total", counter, device, "Packets that" + sent},
		{"sealane_network_device_transmit_errors_total", counter, device, "Packets with errors among those that" + sent},
		{"sealane_network_device_transmit_dropped_total", counter, device, "Packets dropped by the device, not by the firewall, among those that" + sent},

		{"sealane_network_action_duration_seconds", histogram, []string{"action", "result"}, "How long changes took that somebody asked for, with the wait for others: ok; refused, what cannot be; or failed, what the host could not do."},
		{"sealane_pass_duration_seconds", histogram, []string{"reason", "result"}, "How long it took to compare the host with what is intended and to repair it, by reason: start, regular, change (a look after one of ours) or hint (something happened); ok or failed."},
		{"sealane_pass_last_success_timestamp_seconds", gauge, nil, "When the last pass without an error ended, in Unix time. There is one at least every 30 seconds."},
		{"sealane_repairs_total", counter, []string{"kind", "result"}, "Objects in the kernel that a pass did not find as intended, by kind of object, and whether they were set right: ok or failed. At the first start after a boot that is all there is."},

		{"sealane_resolver_sandboxes", gauge, nil, "Sandboxes that the resolver serves."},
		{"sealane_resolver_queries_total", counter, []string{"answer"}, "Questions of sandboxes by where the answer came from: local (names of networks, also that there is no such), cache, upstream (a server was asked), limit (refused: asks too much), nobody (there is no server to ask), malformed."},
		{"sealane_resolver_upstream_duration_seconds", histogram, []string{"result"}, "How long the servers took that other names are asked of: answered (also that there is none), error, or silence. Who asks the same at once waits for one."},

		{"sealane_proxy_connections", gauge, []string{"protocol"}, "Connections that the proxy carries now."},
		{"sealane_proxy_connections_limit", gauge, []string{"protocol"}, "Connections that it carries at most."},
		{"sealane_proxy_connections_total", counter, []string{"protocol"}, "Connections that it began to carry."},
		{"sealane_proxy_refused_total", counter, []string{"protocol", "reason"}, "Connections that it refused: unserved (nobody has that port for this client) or full (as many as can be are open)."},
		{"sealane_proxy_ousted_total", counter, []string{"protocol"}, "Connections that it ended before their time, for others to have room."},

		{"sealane_cluster_store_up", gauge, nil, "1 if this host is in touch with the store of its cluster. Missing on a host in no cluster."},
		{"sealane_cluster_store_changed_timestamp_seconds", gauge, nil, "Since when sealane_cluster_store_up is what it is, in Unix time."},
		{"sealane_services", gauge, []string{"state"}, "Services of overlay networks by state: ready or degraded."},
		{"sealane_service_backends", gauge, []string{"network", "service", "state"}, "Backends of a service, of all hosts: ready, draining, stopped, away, starting or unhealthy."},
	}
}

// descs are the families by name, as Prometheus has them.
func descs() map[string]*described {
	out := map[string]*described{}
	for _, f := range families() {
		out[f.name] = &described{f.kind, prometheus.NewDesc(f.name, f.help, f.labels, nil)}
	}
	return out
}

type described struct {
	kind kind
	desc *prometheus.Desc
}
