package api

import (
	"net/netip"
	"time"
)

// Network is a network as it is. The built-in networks host and none are in
// lists too: their ID is their name, and they have no subnets.
type Network struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Driver    string            `json:"driver"` // "bridge"; "host" and "null" for the built-in two
	Subnets   []Subnet          `json:"subnets"`
	Options   map[string]string `json:"options"` // by their short names
	Internal  bool              `json:"internal"`
	Origin    string            `json:"origin,omitempty"` // who asked for it, and removes it: docker; empty for this API's users
	Labels    map[string]string `json:"labels"`
	Endpoints []NetworkEndpoint `json:"endpoints"`
	Status    Status            `json:"status"`
	// Exceptions are the rules that let the networks of this host pass others'
	// firewalls, as "FAMILY TABLE CHAIN: RULE".
	Exceptions []string  `json:"exceptions,omitempty"`
	Device     string    `json:"device,omitempty"` // of the host
	Created    time.Time `json:"created,omitzero"`

	Backend string  `json:"backend,omitempty"` // how a network of driver fabric reaches its other hosts
	VNI     int     `json:"vni,omitempty"`
	Fabric  *Fabric `json:"fabric,omitempty"`

	Overlay *Overlay `json:"overlay,omitempty"`
}

// Overlay is what this host knows of a network that is one link over several hosts.
// Endpoints of the network are those of this host.
type Overlay struct {
	Port    int             `json:"port"`    // UDP, at all hosts
	Uplink  string          `json:"uplink"`  // the host's device to the others
	Address netip.Addr      `json:"address"` // where the others find this host
	MTU     int             `json:"mtu"`     // of the uplink, bytes
	Tunnel  string          `json:"tunnel"`  // the vxlan device; "" while nobody on this host is on the network
	Members []OverlayMember `json:"members"` // the other hosts with endpoints on it, by name

	PublicKey string `json:"publicKey,omitempty"` // encrypted: this host's, of WireGuard's, in base64

	Services []OverlayService `json:"services"` // by name
}

// OverlayService is a service of such a network in short.
type OverlayService struct {
	Name string       `json:"name"`
	VIPs []netip.Addr `json:"vips"` // none in mode dnsrr
}

// OverlayMember is another host of such a network.
type OverlayMember struct {
	Host      string            `json:"host"`
	Address   netip.Addr        `json:"address,omitzero"` // where its tunnel is; none: it has none of this host's family
	Alive     bool              `json:"alive"`            // it was heard of lately, through the cluster's store
	Endpoints []OverlayEndpoint `json:"endpoints"`
	Paths     []PathMTU         `json:"paths,omitempty"` // the one there, if it does not take the network's full packets
}

// OverlayEndpoint is an endpoint on another host.
type OverlayEndpoint struct {
	ID        string       `json:"id"`
	Sandbox   string       `json:"sandbox"` // name
	MAC       string       `json:"mac"`
	Addresses []netip.Addr `json:"addresses"`
	Names     []string     `json:"names"`             // that it is asked for by
	Stopped   bool         `json:"stopped,omitempty"` // it keeps its addresses
}

// Fabric is what this host knows of a network that spans hosts; the network's subnets
// are this host's.
type Fabric struct {
	Prefixes  []netip.Prefix `json:"prefixes"`         // of the whole network
	Key       string         `json:"key"`              // of it in the cluster's store, as flanneld's --etcd-prefix
	Uplink    string         `json:"uplink"`           // the host's device to the others
	Tunnels   []string       `json:"tunnels"`          // devices
	Bridge    string         `json:"bridge,omitempty"` // another program's, for this host's part: nothing of Sealane's is on it
	Addresses []netip.Addr   `json:"addresses"`        // where the others find this host
	MTU       int            `json:"mtu"`              // of the uplink, bytes
	Peers     []FabricPeer   `json:"peers"`            // the other hosts, by subnet
	InTouch   bool           `json:"inTouch"`          // with the store
	Since     time.Time      `json:"since,omitzero"`   // that it is so
	Error     string         `json:"error,omitempty"`  // what hinders
	Lost      bool           `json:"lost,omitempty"`   // another host has this host's subnet
	// Docker is the beginning of the ID of the network of Docker's on this host that
	// this network is, too.
	Docker    string `json:"docker,omitempty"`
	PublicKey string `json:"publicKey,omitempty"` // of this host, in base64: of backend wireguard
}

// FabricPeer is another host of a fabric.
type FabricPeer struct {
	Subnets   []netip.Prefix `json:"subnets"`
	Addresses []netip.Addr   `json:"addresses"`
	Direct    bool           `json:"direct"`              // without a tunnel
	Unreached string         `json:"unreached,omitempty"` // why it has no way
	PublicKey string         `json:"publicKey,omitempty"` // in base64: of backend wireguard
	Paths     []PathMTU      `json:"paths,omitempty"`     // to its addresses that do not take the network's full packets
}

// PathMTU is how large packets on the way to another host may be, as was measured.
type PathMTU struct {
	To   netip.Addr `json:"to"`
	MTU  int        `json:"mtu"`  // of what carries a container's packets, bytes
	Fits int        `json:"fits"` // of a container's packets, bytes
}

// Subnet is one pool of a network's addresses.
type Subnet struct {
	Prefix  netip.Prefix          `json:"prefix"`
	Gateway netip.Addr            `json:"gateway"`
	Range   netip.Prefix          `json:"range,omitzero"` // where automatic addresses come from
	Aux     map[string]netip.Addr `json:"aux,omitempty"`  // never given to a sandbox
	Usage   Usage                 `json:"usage"`
}

// Usage counts the addresses of a subnet. Counts end at 2^64-1, as Docker's do:
// a number that is larger is that one. Readers that keep numbers as floating
// point round what is above 2^53.
type Usage struct {
	InUse    uint64 `json:"inUse"`    // nobody else can have: reserved, or a sandbox's, ended ones too
	Reserved uint64 `json:"reserved"` // of inUse: the network's, broadcast, gateway and aux addresses
	Free     uint64 `json:"free"`     // of the range, or of the subnet without one: can be given automatically
	Resting  uint64 `json:"resting"`  // of free: freed in the last 30 seconds, given when nothing else is left
}

// NetworkEndpoint is an endpoint, seen from its network.
type NetworkEndpoint struct {
	ID        string         `json:"id"`
	Sandbox   string         `json:"sandbox"` // name
	IfName    string         `json:"ifname"`
	MAC       string         `json:"mac"`
	Addresses []netip.Prefix `json:"addresses"`
	Container string         `json:"container,omitempty"` // what a runtime calls the container that asked for it
}

// Status is how an object fares.
type Status struct {
	State   string    `json:"state"`   // ready, running, away, exited, lost, degraded, conflict
	Message string    `json:"message"` // why, when not as it should be
	Since   time.Time `json:"since,omitzero"`
}

// NetworkSpec is a network to be made: POST /v1/networks, and an entry of a
// Declaration. What is left out is chosen.
type NetworkSpec struct {
	Name     string            `json:"name"`
	Driver   string            `json:"driver,omitempty"` // bridge
	Subnets  []SubnetSpec      `json:"subnets,omitempty"`
	IPv4     *bool             `json:"ipv4,omitempty"` // false: no IPv4 subnet, not even an automatic one
	IPv6     bool              `json:"ipv6,omitempty"` // an automatic IPv6 subnet if none is given
	Internal bool              `json:"internal,omitempty"`
	Options  map[string]string `json:"options,omitempty"` // short names or Docker's, also of ipv4 and ipv6
	Labels   map[string]string `json:"labels,omitempty"`
}

// NetworkUpdate is what changes about a network: PATCH /v1/networks/{ref}. What
// is left out stays as it is.
type NetworkUpdate struct {
	Options      map[string]string `json:"options,omitempty"` // an empty value puts the default back
	Labels       map[string]string `json:"labels,omitempty"`
	RemoveLabels []string          `json:"removeLabels,omitempty"`
}

// SubnetSpec is a subnet as a user writes it.
type SubnetSpec struct {
	Prefix  string            `json:"prefix"` // 10.1.0.0/16
	Gateway string            `json:"gateway,omitempty"`
	Range   string            `json:"range,omitempty"`
	Aux     map[string]string `json:"aux,omitempty"`
}

// Pruned answers POST /v1/networks/prune.
type Pruned struct {
	Removed []string `json:"removed"` // names
}

// Connect asks that a sandbox be put on a network: POST
// /v1/networks/{ref}/connect.
type Connect struct {
	Sandbox string `json:"sandbox"` // REF: a name, an ID, or RUNTIME:NAME as docker:web, netns:PATH or pid:N
	EndpointOptions
	Ports []string `json:"ports,omitempty"` // as -p takes them
	Await bool     `json:"await,omitempty"` // the container, RUNTIME:NAME, need not exist yet
}

// Connection answers Connect: the new endpoint, and all published ports of its
// sandbox.
type Connection struct {
	Sandbox  string   `json:"sandbox"` // ID
	Endpoint Endpoint `json:"endpoint"`
	Ports    []Port   `json:"ports"`
}

// Disconnect asks that a sandbox be taken off a network: POST
// /v1/networks/{ref}/disconnect.
type Disconnect struct {
	Sandbox string `json:"sandbox"` // REF
}
