package api

import (
	"context"
	"net/url"
	"strconv"
	"time"
)

// Event says that something was made, changed or removed, in Docker's words where
// it has them (docker events).
type Event struct {
	Time       time.Time         `json:"time"`
	Type       string            `json:"type"`   // network or sandbox
	Action     string            `json:"action"` // create, update, destroy; connect and disconnect of a network, die of a sandbox
	ID         string            `json:"id"`
	Attributes map[string]string `json:"attributes"` // name; driver, sandbox, endpoint, exitCode
}

// Events are those of a time, in order: GET /v1/events.
type Events struct {
	Events []Event `json:"events"`
	Next   int     `json:"next"` // the number to ask from for those after
	Done   bool    `json:"done"` // there are no more before the end that was asked for
}

// EventQuery says which events are wanted.
type EventQuery struct {
	From    int    // the number of the first; Since counts if it is negative
	Since   string // a time, or how long ago; "" is now
	Until   string // the same; "" is for ever
	Filters []string
}

// Events returns what happened, or waits for it for some seconds: none may be returned
// before the end. The daemon remembers the last 1,024.
func (c *Client) Events(ctx context.Context, q EventQuery) (Events, error) {
	v := url.Values{}
	if q.From >= 0 {
		v.Set("from", strconv.Itoa(q.From))
	} else if q.Since != "" {
		v.Set("since", q.Since)
	}
	if q.Until != "" {
		v.Set("until", q.Until)
	}
	if len(q.Filters) > 0 {
		v["filter"] = q.Filters
	}
	return ask[Events](ctx, c, methodGet, "/events?"+v.Encode(), nil)
}
