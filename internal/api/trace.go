package api

import (
	"context"
	"net/netip"
)

// TraceRequest asks to send a packet and to follow it: POST /v1/trace.
type TraceRequest struct {
	From    string `json:"from"`              // a sandbox, or "host"
	To      string `json:"to"`                // a sandbox, an address or a service, with a port or without
	Timeout int    `json:"timeout,omitempty"` // milliseconds that an answer may take, 100 to 30000; 0 is 2000
}

// Trace is what became of a packet that was sent, and of the answer to it.
type Trace struct {
	From            string     `json:"from"` // as asked
	To              string     `json:"to"`
	Protocol        string     `json:"protocol"` // tcp, udp or icmp
	Source          netip.Addr `json:"source"`   // as it was sent
	SourcePort      uint16     `json:"sourcePort,omitempty"`
	Destination     netip.Addr `json:"destination"`
	DestinationPort uint16     `json:"destinationPort,omitempty"`
	Fate            string     `json:"fate"`           // answered, refused, dropped, unreachable or silent
	Why             string     `json:"why,omitempty"`  // it was not answered
	Hint            string     `json:"hint,omitempty"` // what to do
	Micros          int64      `json:"micros"`         // until the answer, microseconds; 0: there was none
	There           []Sight    `json:"there"`
	Back            []Sight    `json:"back"`
}

// Sight is one place where the packet was seen.
type Sight struct {
	Where    string `json:"where"`         // "host" or "sandbox NAME"
	In       string `json:"in,omitempty"`  // the device it came by
	Out      string `json:"out,omitempty"` // and that it leaves by
	What     string `json:"what"`
	Table    string `json:"table,omitempty"` // FAMILY NAME, where a chain of nftables had its say
	Chain    string `json:"chain,omitempty"` // that decided
	Hook     string `json:"hook,omitempty"`
	Priority int    `json:"priority,omitempty"`
	Rule     string `json:"rule,omitempty"`   // its comment; one of Sealane's as it is written
	Handle   uint64 `json:"handle,omitempty"` // of the rule that decided; 0: the policy
	Owner    string `json:"owner,omitempty"`  // whose the table is
	Verdict  string `json:"verdict,omitempty"`
	Problem  bool   `json:"problem,omitempty"` // it ends the way
}

// Trace sends a packet and says what became of it. It takes as long as the answer does.
func (c *Client) Trace(ctx context.Context, req TraceRequest) (Trace, error) {
	return ask[Trace](ctx, c, methodPost, "/trace", req)
}
