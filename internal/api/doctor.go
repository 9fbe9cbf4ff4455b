package api

import "context"

// Doctor says whether this host and its daemon are well: GET /v1/doctor.
type Doctor struct {
	State  string  `json:"state"` // the worst of them
	Checks []Check `json:"checks"`
}

// Check is one thing that was looked at.
type Check struct {
	State string `json:"state"` // ok, warn or fail
	What  string `json:"what"`
	Why   string `json:"why"`             // it is so
	Right string `json:"right,omitempty"` // what would be right
}

// Doctor asks it. It takes some seconds where somebody does not answer.
func (c *Client) Doctor(ctx context.Context) (Doctor, error) {
	return ask[Doctor](ctx, c, methodGet, "/doctor", nil)
}
