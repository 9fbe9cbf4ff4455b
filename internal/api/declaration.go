package api

// Declaration says what should be there: POST /v1/plan and /v1/apply, as JSON
// or YAML. What it does not mention is left alone.
type Declaration struct {
	Networks  []NetworkSpec         `json:"networks,omitempty"`
	Endpoints []EndpointDeclaration `json:"endpoints,omitempty"`
}

// EndpointDeclaration is an endpoint of a sandbox that runs, or of a namespace
// given as netns:PATH or pid:N.
type EndpointDeclaration struct {
	Network string `json:"network"`
	Sandbox string `json:"sandbox"`
	EndpointOptions
	Ports []string `json:"ports,omitempty"`
}
