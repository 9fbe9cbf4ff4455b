package api

import (
	"context"
	"net/netip"
	"time"
)

// Uplink is a NIC of the host that is a port of a bridge, which has its addresses
// and routes.
type Uplink struct {
	NIC       string         `json:"nic"`
	Bridge    string         `json:"bridge"` // a device
	Made      bool           `json:"made"`   // the bridge, for the NIC
	Addresses []netip.Prefix `json:"addresses"`
	Created   time.Time      `json:"created"`
	Status    Status         `json:"status"`
}

// UplinkSpec asks that a NIC be attached to a bridge: POST /v1/uplinks.
type UplinkSpec struct {
	NIC     string `json:"nic"`
	Bridge  string `json:"bridge"`            // a device, a network, or the name of a bridge to be made
	Timeout int    `json:"timeout,omitempty"` // milliseconds that gateways may take to answer; 0 is 5000
}

// UplinkDetach asks that a NIC be detached: POST /v1/uplinks/{ref}/detach.
type UplinkDetach struct {
	Timeout int `json:"timeout,omitempty"` // as in [UplinkSpec]
}

// Moved says what went from a NIC to a bridge, or back.
type Moved struct {
	NIC       string         `json:"nic"`
	Bridge    string         `json:"bridge"`
	Made      bool           `json:"made"` // the bridge
	Addresses []netip.Prefix `json:"addresses"`
	Routes    int            `json:"routes"`
	Answering []netip.Addr   `json:"answering"` // gateways, or else neighbours, that answered before and after
	Warnings  []string       `json:"warnings"`
}

// Uplinks lists the attached NICs by name.
func (c *Client) Uplinks(ctx context.Context) ([]Uplink, error) {
	return ask[[]Uplink](ctx, c, methodGet, "/uplinks", nil)
}

// AttachUplink moves a NIC and what it has under a bridge.
func (c *Client) AttachUplink(ctx context.Context, spec UplinkSpec) (Moved, error) {
	return ask[Moved](ctx, c, methodPost, "/uplinks", spec)
}

// DetachUplink moves a NIC and what it brought out of its bridge.
func (c *Client) DetachUplink(ctx context.Context, nic string, req UplinkDetach) (Moved, error) {
	return ask[Moved](ctx, c, methodPost, "/uplinks/"+segment(nic)+"/detach", req)
}
