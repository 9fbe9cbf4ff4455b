package api

import (
	"context"
)

// Plug asks that a running container be connected to a device of the host, by the
// network of that device, which is made if there is none: POST /v1/pipework.
type Plug struct {
	Device    string `json:"device"`           // name, or mac:ADDRESS
	Driver    string `json:"driver,omitempty"` // else what the device is, or its name says
	VLAN      int    `json:"vlan,omitempty"`
	Container string `json:"container"` // REF
	EndpointOptions
	Command string `json:"command"` // in one form for all ways to write it: the same one again changes nothing
}

// Plugged is one of the answers to GET /v1/pipework: an interface that a Plug
// made, or a Chore that is run in each namespace of a container.
type Plugged struct {
	Container string `json:"container"` // name of its sandbox
	IfName    string `json:"ifname,omitempty"`
	Command   string `json:"command"` // as a shell reads it, without the first word
}

// Unplug takes away what Plugs connected a container to a device with: DELETE
// /v1/pipework.
type Unplug struct {
	Device    string `json:"device"`
	Container string `json:"container"`
	IfName    string `json:"ifname,omitempty"`  // else all
	Command   string `json:"command,omitempty"` // else whatever command it was
}

// Chore is a command of ip or tc to run in a container's namespace, and in each
// that it gets later if it changes something: POST /v1/pipework/run.
type Chore struct {
	Container string   `json:"container"`
	Args      []string `json:"args"`           // ip or tc, and its arguments
	Undo      bool     `json:"undo,omitempty"` // take it back, and run it no more
}

// Ran is how it went.
type Ran struct {
	Code   int    `json:"code"` // exit status
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
}

// Plug connects a container to a device of the host. What it got is in the answer, which is
// not decoded: the client is executed for each container, and has no use for it.
func (c *Client) Plug(ctx context.Context, req Plug) error {
	body, err := fields(req)
	if err != nil {
		return err
	}
	return c.send(ctx, methodPost, "/pipework", "application/json", body, nil)
}

// Unplug takes that back.
func (c *Client) Unplug(ctx context.Context, req Unplug) error {
	return c.call(ctx, methodDelete, "/pipework", req, nil)
}

// Plugged lists what Plug and Run did and is still so.
func (c *Client) Plugged(ctx context.Context) ([]Plugged, error) {
	return ask[[]Plugged](ctx, c, methodGet, "/pipework", nil)
}

// Run runs a command of ip or tc in a container.
func (c *Client) Run(ctx context.Context, req Chore) (Ran, error) {
	return ask[Ran](ctx, c, methodPost, "/pipework/run", req)
}
