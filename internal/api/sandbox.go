package api

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Sandbox is a network namespace with its endpoints, and the command in it.
type Sandbox struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Mode      string     `json:"mode"`             // own, host, shared, other, runtime
	PID       int        `json:"pid"`              // of its command or container while that runs, else 0
	NetNS     string     `json:"netns"`            // path; empty for the host's, and for a container that does not run
	Guest     *Guest     `json:"guest,omitempty"`  // mode other: the container whose namespace it is
	Inode     uint64     `json:"inode,omitempty"`  // mode other: which namespace the path means
	Donor     string     `json:"donor,omitempty"`  // mode shared: ID of the sandbox whose namespace it is
	Origin    string     `json:"origin,omitempty"` // who asked for it: cni, docker; empty for this API's users
	Hostname  string     `json:"hostname"`
	Domain    string     `json:"domainname,omitempty"`
	Command   []string   `json:"command"`
	Endpoints []Endpoint `json:"endpoints"`
	Ports     []Port     `json:"ports"`
	Expose    []string   `json:"expose"` // PORT[-END]/PROTOCOL
	Links     []string   `json:"links"`  // NAME:ALIAS
	Status    Status     `json:"status"`
	Exit      *Exit      `json:"exit,omitempty"` // once it has ended
	Dir       string     `json:"dir"`            // holds hosts, hostname, resolv.conf and output
	Created   time.Time  `json:"created"`
}

// Guest is the container of a runtime that a sandbox stands for.
type Guest struct {
	Runtime string `json:"runtime"` // docker, podman, containerd, lxc, machine, pid or netns
	Name    string `json:"name"`
	ID      string `json:"id,omitempty"`      // what the runtime calls it as long as it exists
	Awaited bool   `json:"awaited,omitempty"` // it need not exist
}

// String is the reference, "docker:web".
func (g Guest) String() string { return g.Runtime + ":" + g.Name }

// Endpoint is one interface of a sandbox, seen from the sandbox.
type Endpoint struct {
	ID        string         `json:"id"`
	Network   string         `json:"network"` // name
	IfName    string         `json:"ifname"`
	MAC       string         `json:"mac"`
	Addresses []netip.Prefix `json:"addresses"`
	Gateway   netip.Addr     `json:"gateway"` // of the first address's family; empty on an internal network
	Aliases   []string       `json:"aliases"`

	LinkLocal  []netip.Prefix `json:"linkLocal,omitempty"` // more addresses
	Sysctls    []string       `json:"sysctls,omitempty"`
	GwPriority int            `json:"gwPriority,omitempty"`

	EndpointLimits

	Services []Membership `json:"services,omitempty"` // that it is a backend of

	Container string       `json:"container,omitempty"` // what a runtime calls the container that asked for it
	Device    string       `json:"device,omitempty"`    // the host's end
	DeviceMAC string       `json:"deviceMAC,omitempty"` // of the host's end
	MTU       int          `json:"mtu,omitempty"`       // bytes
	Gateways  []netip.Addr `json:"gateways,omitempty"`  // of its subnets; none on an internal network
	Routes    []Route      `json:"routes,omitempty"`    // the default routes that it gives its sandbox
	// MoreRoutes are those that were asked for.
	MoreRoutes []Route `json:"moreRoutes,omitempty"`
	Leases     []Lease `json:"leases,omitempty"` // of those that are asked of DHCP servers
}

// Route leads to a destination by a router.
type Route struct {
	Dst netip.Prefix `json:"dst"`
	Via netip.Addr   `json:"via"` // empty: on the link
}

// Port is a published port: host port HostPort+i leads to Port+i in the
// sandbox, for i below Count. A port that takes none of the host's has no
// HostPort: on routed networks it is reached at the sandbox's own Addresses.
type Port struct {
	Protocol  string       `json:"protocol"` // tcp, udp or sctp
	HostIP    netip.Addr   `json:"hostIP"`   // empty: every address of the host
	HostPort  uint16       `json:"hostPort"`
	Port      uint16       `json:"port"`
	Count     uint16       `json:"count"`
	From      string       `json:"from,omitempty"`      // who may use it, "CIDR;CIDR"; everyone
	Idle      bool         `json:"idle,omitempty"`      // takes no port of the host
	Addresses []netip.Addr `json:"addresses,omitempty"` // of the sandbox, where it is reached itself
}

// String is the port as docker ps writes it: 0.0.0.0:8080->80/tcp, without an
// address when the port answers on all of them, 10.1.0.2:80/tcp where it is
// reached at the sandbox itself, and 80/tcp where it is not reached at all.
func (p Port) String() string {
	inside := span(p.Port, p.Count) + "/" + p.Protocol
	var forms []string
	if !p.Idle {
		forms = append(forms, at(p.HostIP, span(p.HostPort, p.Count))+"->"+inside)
	}
	for _, a := range p.Addresses {
		forms = append(forms, at(a, inside))
	}
	if len(forms) == 0 {
		forms = []string{inside}
	}
	if p.From != "" {
		forms[len(forms)-1] += " from " + p.From
	}
	return strings.Join(forms, ", ")
}

// at puts an address before a port, unless there is none.
func at(a netip.Addr, port string) string {
	switch {
	case !a.IsValid():
		return port
	case a.Is6():
		return "[" + a.String() + "]:" + port
	}
	return a.String() + ":" + port
}

func span(first, count uint16) string {
	if count > 1 {
		return fmt.Sprintf("%d-%d", first, int(first)+int(count)-1)
	}
	return strconv.Itoa(int(first))
}

// Exit is how a command ended.
type Exit struct {
	Code   int       `json:"code"`             // 128+signal when killed by one
	Signal string    `json:"signal,omitempty"` // "killed"
	Lost   bool      `json:"lost,omitempty"`   // nobody saw it end
	At     time.Time `json:"at"`
}

// SandboxSpec is a sandbox to be made: POST /v1/sandboxes.
type SandboxSpec struct {
	Name       string            `json:"name,omitempty"`   // else its ID
	Mode       string            `json:"mode,omitempty"`   // own, host, shared, other; own
	Donor      string            `json:"donor,omitempty"`  // REF of the sandbox or container whose namespace is shared
	NetNS      string            `json:"netns,omitempty"`  // path of another's namespace
	Origin     string            `json:"origin,omitempty"` // cni, where that asks for it
	Networks   []EndpointSpec    `json:"networks,omitempty"`
	Ports      []string          `json:"ports,omitempty"` // as -p takes them
	PublishAll bool              `json:"publishAll,omitempty"`
	Expose     []string          `json:"expose,omitempty"` // PORT[-END][/tcp|udp|sctp]
	Links      []string          `json:"links,omitempty"`  // NAME[:ALIAS]
	Hostname   string            `json:"hostname,omitempty"`
	Domain     string            `json:"domainname,omitempty"`
	DNS        DNS               `json:"dns,omitzero"`
	Hosts      []HostEntry       `json:"hosts,omitempty"`
	Sysctls    map[string]string `json:"sysctls,omitempty"`
	Command    []string          `json:"command,omitempty"`
	AutoRemove bool              `json:"autoRemove,omitempty"`
	Process    *Process          `json:"process,omitempty"` // who will start the command
}

// EndpointSpec is an endpoint to be made on a network.
type EndpointSpec struct {
	Network string `json:"network"` // name or ID
	EndpointOptions
}

// EndpointOptions are what may be asked of an endpoint. What is left out is
// chosen.
type EndpointOptions struct {
	IP         string   `json:"ip,omitempty"`  // several with commas; those with a length, A/24, are of no subnet of the network's; or dhcp
	IP6        string   `json:"ip6,omitempty"` // as IP
	MAC        string   `json:"mac,omitempty"`
	IfName     string   `json:"ifname,omitempty"`
	Aliases    []string `json:"aliases,omitempty"`
	GwPriority int      `json:"gwPriority,omitempty"` // the highest gives the default route
	// LinkLocalIPs are more addresses of the interface.
	LinkLocalIPs []string `json:"linkLocalIPs,omitempty"`
	// Sysctls are settings of the interface, net.ipv4.conf.IFNAME.KEY=VALUE.
	Sysctls []string `json:"sysctls,omitempty"`
	// Links are NAME[:ALIAS], and go with the endpoint.
	Links []string `json:"links,omitempty"`
	EndpointLimits
	// Options are ifname, sysctls, gateway (of each family one), route
	// (DESTINATION=ROUTER,…), mtu, or Docker's names for them, and ingress-rate,
	// ingress-burst, egress-rate and egress-burst, as numbers or as 10mbit; dad=off,
	// which asks no neighbour who has an address; service, NAME[:PORT][*WEIGHT] with
	// commas between several; and those that begin with dhcp.
	Options map[string]string `json:"options,omitempty"`
}

// EndpointLimits are the rates that an endpoint keeps to, in bits a second of
// whole Ethernet frames, and how many bits may go at once after a pause; ingress
// is towards the sandbox. Rates are 1 kbit/s to 1 Pbit/s, and 0 is none. Bursts
// are at most 34359738360, and 0 leaves them to Sealane.
type EndpointLimits struct {
	IngressRate  uint64 `json:"ingressRate,omitempty"`
	IngressBurst uint64 `json:"ingressBurst,omitempty"`
	EgressRate   uint64 `json:"egressRate,omitempty"`
	EgressBurst  uint64 `json:"egressBurst,omitempty"`
}

// DNS is what goes into resolv.conf instead of the host's.
type DNS struct {
	Servers []string `json:"servers,omitempty"`
	Search  []string `json:"search,omitempty"`
	Options []string `json:"options,omitempty"`
}

// HostEntry is one extra line of /etc/hosts.
type HostEntry struct {
	Name    string `json:"name"`
	Address string `json:"address"` // or host-gateway
}

// HostGateway stands for the host's address, as a sandbox reaches it.
const HostGateway = "host-gateway"

// Process names a process for good: PUT /v1/sandboxes/{ref}/process. Start is
// field 22 of /proc/PID/stat, so that a reused PID is noticed.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
}

// Ended reports how a command ended: PUT /v1/sandboxes/{ref}/exit.
type Ended struct {
	Code   int    `json:"code"`
	Signal string `json:"signal,omitempty"`
}

// Ports names ports as -p takes them: to publish, or to take back.
type Ports struct {
	Ports []string `json:"ports"`
}
