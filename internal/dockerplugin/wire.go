package dockerplugin

// What goes over the wire: libnetwork/drivers/remote/api/api.go and
// libnetwork/ipams/remote/api/api.go in moby. Fields that we do not use are left
// out.

type capabilities struct {
	Scope             string
	ConnectivityScope string
}

type addressSpaces struct {
	Local  string `json:"LocalDefaultAddressSpace"`
	Global string `json:"GlobalDefaultAddressSpace"`
}

// ipamData is one subnet of a network.
type ipamData struct {
	Pool         string            // 10.8.0.0/24
	Gateway      string            // 10.8.0.1/24, or ""
	AuxAddresses map[string]string // name → 10.8.0.9/24
}

type networkRequest struct {
	NetworkID string
	Options   map[string]any
	IPv4Data  []ipamData
	IPv6Data  []ipamData
}

// endpointInterface is what is known of an interface: Docker fills in what it
// has, and we the rest.
type endpointInterface struct {
	Address     string `json:",omitempty"`
	AddressIPv6 string `json:",omitempty"`
	MacAddress  string `json:",omitempty"`
}

type endpointRequest struct {
	NetworkID  string
	EndpointID string
	Interface  *endpointInterface
	SandboxKey string // Join: the path that the namespace has, or will have
	Options    map[string]any
}

type endpointAnswer struct{ Interface endpointInterface }

type infoAnswer struct{ Value map[string]any }

// interfaceName says which device becomes the container's interface, and how the
// names of such interfaces begin.
type interfaceName struct{ SrcName, DstPrefix string }

type joinAnswer struct {
	InterfaceName interfaceName
	Gateway       string        `json:",omitempty"`
	GatewayIPv6   string        `json:",omitempty"`
	StaticRoutes  []staticRoute `json:",omitempty"`
	// DisableGatewayService keeps Docker from giving a container without a
	// gateway a way out by a network of its own, docker_gwbridge.
	DisableGatewayService bool
}

// staticRoute is one more route of the container's. Of type routeConnected it is by
// the interface, without a router (libnetwork/types/types.go in moby).
type staticRoute struct {
	Destination string
	RouteType   int
	NextHop     string `json:",omitempty"`
}

// Types of route.
const (
	routeNextHop   = 0
	routeConnected = 1
)

// portBinding is one published port, as in the option com.docker.network.portmap.
type portBinding struct {
	Proto       uint8 // of IP
	Port        uint16
	HostIP      string
	HostPort    uint16
	HostPortEnd uint16
}

type poolRequest struct {
	Pool    string // the subnet; "" is any
	SubPool string // where automatic addresses come from
	Options map[string]string
	V6      bool
}

type poolAnswer struct{ PoolID, Pool string }

type addressRequest struct {
	PoolID  string
	Address string // "" is any
}

type addressAnswer struct{ Address string }

// The keys of Docker's options (libnetwork/netlabel/labels.go in moby).
const (
	optionGeneric  = "com.docker.network.generic"
	optionInternal = "com.docker.network.internal"
	optionPorts    = "com.docker.network.portmap"
)
