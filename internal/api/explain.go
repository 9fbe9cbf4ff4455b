package api

import (
	"context"
	"net/netip"
	"net/url"
)

// Explanation is the way of a packet, and of the answer to it: GET /v1/explain.
type Explanation struct {
	From  string `json:"from"` // as asked
	To    string `json:"to"`
	There Way    `json:"there"`
	Back  *Way   `json:"back,omitempty"` // if something arrives that is answered through this host
}

// Way is one direction.
type Way struct {
	Source      netip.Addr `json:"source"`        // as it starts; empty: no address
	Destination netip.Addr `json:"destination"`   // a service's, where it was asked for; empty: none was found
	Arrives     bool       `json:"arrives"`       // as far as this host knows
	Why         string     `json:"why,omitempty"` // it does not
	MTU         int        `json:"mtu,omitempty"` // the largest packet that fits all the way, bytes
	Steps       []Step     `json:"steps"`
}

// Step is one decision on the way.
type Step struct {
	Where   string `json:"where"` // "host", "sandbox NAME", or "host ADDRESS", another one
	Device  string `json:"device,omitempty"`
	MTU     int    `json:"mtu,omitempty"` // of the device, bytes
	What    string `json:"what"`
	Problem bool   `json:"problem,omitempty"` // it is not as intended, or ends the way
}

// Explain asks which way a packet goes from a sandbox, "host" or "world:ADDRESS",
// to a sandbox, an address or a service, with a port or without, and why. backend is that of a service
// whose way is told; "": the one of which there is most to say.
func (c *Client) Explain(ctx context.Context, from, to, backend string) (Explanation, error) {
	q := url.Values{"from": {from}, "to": {to}}
	if backend != "" {
		q.Set("backend", backend)
	}
	return ask[Explanation](ctx, c, methodGet, "/explain?"+q.Encode(), nil)
}
