package api

// Declaration says what should be there: POST /v1/plan and /v1/apply, as JSON
// or YAML. What it does not mention is left alone.
type Declaration struct {
	Networks  []NetworkSpec         `json:"networks,omitempty"`
	Endpoints []EndpointDeclaration `json:"endpoints,omitempty"`
}

// EndpointDeclaration is an endpoint of a sandbox that runs, or of a container,
// given as RUNTIME:NAME, which need not exist yet; or of pid:N.
type EndpointDeclaration struct {
	Network string `json:"network"`
	Sandbox string `json:"sandbox"`
	EndpointOptions
	Ports []string `json:"ports,omitempty"`
}
