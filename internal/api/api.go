// Package api holds the words of the HTTP API, as Go types whose JSON is the
// API's JSON, and a client for it. The daemon's side is package server.
//
// The API is JSON over a unix socket, below /v1. Everything a user can do, the
// command line does through it and nothing else. This package is linked into
// the client, which is executed once per container: it holds no logic and
// needs the standard library only.
package api

import "net/netip"

// Version is the version of the API: the first segment of every path.
const Version = "v1"

// DefaultSocket is where a daemon with the default run directory listens.
const DefaultSocket = "/run/sealane/sealane.sock"

// MaxBody is the longest request body in bytes that the daemon reads.
const MaxBody = 8 << 20

// VersionInfo answers GET /v1/version.
type VersionInfo struct {
	Version string `json:"version"` // of the daemon
	API     string `json:"api"`     // "v1"
}

// Drift is how what there is differs from what one sandbox needs: operations as
// in [Ops], the addresses that others gave its interfaces, which stay, and whether the
// rules that lead its questions to the resolver were missing, which are back then.
type Drift struct {
	Ops   []string       `json:"ops"`
	Added []AddedAddress `json:"added"`
	Deaf  bool           `json:"deaf,omitzero"`
}

// AddedAddress is an address that somebody else gave an interface.
type AddedAddress struct {
	IfName  string       `json:"ifname"`
	Address netip.Prefix `json:"address"`
}

// Ops are kernel operations in the order they are carried out, one line each:
// "+ " adds, "~ " changes, "- " removes. It answers plan, apply and diff, where
// "+ command web: ip rule …" is one that is due in a container; of a stack they are
// networks and services, as "+ network app: driver overlay".
type Ops struct {
	Ops   []string `json:"ops"`
	Notes []string `json:"notes,omitempty"` // what a file says that nothing is made of, and where
}
