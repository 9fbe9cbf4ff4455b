package api

// ContainerRef begins a REF that means the sandbox of a runtime's container, by
// the runtime's own name for it: cni:ID.
const ContainerRef = "cni:"

// Resolver is where a sandbox finds the daemon's resolver.
const Resolver = "127.0.0.11"

// Attach asks that the container of a runtime be put on a network, for whose
// namespace no sandbox has to exist: POST /v1/networks/{ref}/attach.
type Attach struct {
	Container string `json:"container"`      // the runtime's name for it
	Name      string `json:"name,omitempty"` // how its users call it
	NetNS     string `json:"netns"`          // absolute path
	// Resolver: the daemon's resolver is to answer in the namespace, at Resolver.
	Resolver bool `json:"resolver,omitempty"`
	EndpointOptions
	Ports []string `json:"ports,omitempty"` // as -p takes them; they go with the endpoint
}

// Detach asks that the container of a runtime be taken off a network: POST
// /v1/networks/{ref}/detach. Its namespace may be gone.
type Detach struct {
	Container string `json:"container"`
	IfName    string `json:"ifname,omitempty"` // only where its interface is called so
}
