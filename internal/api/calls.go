package api

import (
	"context"
)

// Version asks the daemon for its version.
func (c *Client) Version(ctx context.Context) (VersionInfo, error) {
	return ask[VersionInfo](ctx, c, methodGet, "/version", nil)
}

// Networks lists the networks that pass filters KEY=VALUE, by name.
func (c *Client) Networks(ctx context.Context, filters ...string) ([]Network, error) {
	return ask[[]Network](ctx, c, methodGet, "/networks"+query("filter", filters), nil)
}

// Network returns one network.
func (c *Client) Network(ctx context.Context, ref string) (Network, error) {
	return ask[Network](ctx, c, methodGet, "/networks/"+segment(ref), nil)
}

// CreateNetwork makes a network.
func (c *Client) CreateNetwork(ctx context.Context, spec NetworkSpec) (Network, error) {
	return ask[Network](ctx, c, methodPost, "/networks", spec)
}

// UpdateNetwork changes a network in place.
func (c *Client) UpdateNetwork(ctx context.Context, ref string, up NetworkUpdate) (Network, error) {
	return ask[Network](ctx, c, methodPatch, "/networks/"+segment(ref), up)
}

// RemoveNetwork removes a network that nobody uses.
func (c *Client) RemoveNetwork(ctx context.Context, ref string) error {
	return c.call(ctx, methodDelete, "/networks/"+segment(ref), nil, nil)
}

// PruneNetworks removes all networks that nobody uses and that pass filters
// KEY=VALUE, but the built-in ones.
func (c *Client) PruneNetworks(ctx context.Context, filters ...string) (Pruned, error) {
	return ask[Pruned](ctx, c, methodPost, "/networks/prune"+query("filter", filters), nil)
}

// Connect puts a sandbox on a network.
func (c *Client) Connect(ctx context.Context, network string, req Connect) (Connection, error) {
	return ask[Connection](ctx, c, methodPost, "/networks/"+segment(network)+"/connect", req)
}

// Disconnect takes a sandbox off a network.
func (c *Client) Disconnect(ctx context.Context, network string, req Disconnect) error {
	return c.call(ctx, methodPost, "/networks/"+segment(network)+"/disconnect", req, nil)
}

// Attach puts the container of a runtime on a network.
func (c *Client) Attach(ctx context.Context, network string, req Attach) (Connection, error) {
	return ask[Connection](ctx, c, methodPost, "/networks/"+segment(network)+"/attach", req)
}

// Detach takes the container of a runtime off a network.
func (c *Client) Detach(ctx context.Context, network string, req Detach) error {
	return c.call(ctx, methodPost, "/networks/"+segment(network)+"/detach", req, nil)
}

// Services lists the services of overlay networks, by name.
func (c *Client) Services(ctx context.Context) ([]Service, error) {
	return ask[[]Service](ctx, c, methodGet, "/services", nil)
}

// Service returns one service, by its ID, its name or NETWORK/NAME.
func (c *Client) Service(ctx context.Context, ref string) (Service, error) {
	return ask[Service](ctx, c, methodGet, "/services/"+segment(ref), nil)
}

// CreateService makes a service.
func (c *Client) CreateService(ctx context.Context, spec ServiceSpec) (Service, error) {
	return ask[Service](ctx, c, methodPost, "/services", spec)
}

// UpdateService changes a service in place.
func (c *Client) UpdateService(ctx context.Context, ref string, up ServiceUpdate) (Service, error) {
	return ask[Service](ctx, c, methodPatch, "/services/"+segment(ref), up)
}

// RemoveService removes a service; its backends stay.
func (c *Client) RemoveService(ctx context.Context, ref string) error {
	return c.call(ctx, methodDelete, "/services/"+segment(ref), nil, nil)
}

// Sandboxes lists sandboxes that pass filters KEY=VALUE, oldest first: those
// that have not ended, or all.
func (c *Client) Sandboxes(ctx context.Context, all bool, filters ...string) ([]Sandbox, error) {
	path := "/sandboxes" + query("filter", filters)
	switch {
	case all && len(filters) > 0:
		path += "&all=true"
	case all:
		path += "?all=true"
	}
	return ask[[]Sandbox](ctx, c, methodGet, path, nil)
}

// Sandbox returns one sandbox.
func (c *Client) Sandbox(ctx context.Context, ref string) (Sandbox, error) {
	return ask[Sandbox](ctx, c, methodGet, "/sandboxes/"+segment(ref), nil)
}

// SandboxDiff returns what is not as intended now of what one sandbox needs.
func (c *Client) SandboxDiff(ctx context.Context, ref string) (Drift, error) {
	return ask[Drift](ctx, c, methodGet, "/sandboxes/"+segment(ref)+"/diff", nil)
}

// CreateSandbox makes a sandbox.
func (c *Client) CreateSandbox(ctx context.Context, spec SandboxSpec) (Sandbox, error) {
	return ask[Sandbox](ctx, c, methodPost, "/sandboxes", spec)
}

// RemoveSandbox removes a sandbox; with force also one whose command runs.
func (c *Client) RemoveSandbox(ctx context.Context, ref string, force bool) error {
	path := "/sandboxes/" + segment(ref)
	if force {
		path += "?force=true"
	}
	return c.call(ctx, methodDelete, path, nil, nil)
}

// SetProcess says which process runs a sandbox's command.
func (c *Client) SetProcess(ctx context.Context, ref string, p Process) error {
	return c.call(ctx, methodPut, "/sandboxes/"+segment(ref)+"/process", p, nil)
}

// SetExit says how a sandbox's command ended.
func (c *Client) SetExit(ctx context.Context, ref string, e Ended) error {
	return c.call(ctx, methodPut, "/sandboxes/"+segment(ref)+"/exit", e, nil)
}

// Publish publishes ports and returns them with the host ports chosen.
func (c *Client) Publish(ctx context.Context, ref string, p Ports) ([]Port, error) {
	return ask[[]Port](ctx, c, methodPost, "/sandboxes/"+segment(ref)+"/ports", p)
}

// Unpublish takes published ports back.
func (c *Client) Unpublish(ctx context.Context, ref string, p Ports) error {
	return c.call(ctx, methodDelete, "/sandboxes/"+segment(ref)+"/ports", p, nil)
}

// Diff returns what is not as intended now.
func (c *Client) Diff(ctx context.Context) (Ops, error) {
	return ask[Ops](ctx, c, methodGet, "/diff", nil)
}
