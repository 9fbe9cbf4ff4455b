package api

// Declaration says what should be there: POST /v1/plan and /v1/apply, as JSON
// or YAML. What it does not mention is left alone, unless it is of a stack. YAML may be of
// Compose's format, see package stack.
type Declaration struct {
	Networks  []NetworkSpec         `json:"networks,omitempty"`
	Endpoints []EndpointDeclaration `json:"endpoints,omitempty"`

	// Stack makes it the whole of a stack of that name: what the stack has besides goes,
	// and what differs changes. A stack has no endpoints.
	Stack    string        `json:"stack,omitempty"`
	External []string      `json:"external,omitempty"` // networks that services are on and that have to be there
	Services []ServiceSpec `json:"services,omitempty"`

	Notes []string `json:"-"` // what the file says besides, that nothing was made of
}

// EndpointDeclaration is an endpoint of a sandbox that runs, or of a container,
// given as RUNTIME:NAME, which need not exist yet; or of pid:N.
type EndpointDeclaration struct {
	Network string `json:"network"`
	Sandbox string `json:"sandbox"`
	EndpointOptions
	Ports []string `json:"ports,omitempty"`
}
