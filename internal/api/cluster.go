package api

import (
	"context"
	"encoding/json"
	"net/netip"
	"time"
)

// Cluster is how the cluster of this host is, seen from it. Where the host is in none,
// all but In is empty.
type Cluster struct {
	In          bool            `json:"in"`
	Name        string          `json:"name"`    // of this host
	Address     string          `json:"address"` // where the others find it
	Role        string          `json:"role"`    // voter, learner or client; "" if it cannot be told
	Quorum      bool            `json:"quorum"`  // something can be changed
	Problem     string          `json:"problem"`
	Hosts       int             `json:"hosts"` // with quorum
	Members     []ClusterMember `json:"members"`
	Token       *time.Time      `json:"tokenExpires,omitempty"`
	Certificate *time.Time      `json:"certificateExpires,omitempty"` // this host's; it is renewed before
}

// ClusterMember is a host that keeps the cluster's data.
type ClusterMember struct {
	Name    string `json:"name"`
	URL     string `json:"url"`
	Voting  bool   `json:"voting"`
	Leader  bool   `json:"leader"`
	Healthy bool   `json:"healthy"` // it answers
}

// ClusterInit asks that a cluster begin: POST /v1/cluster/init.
type ClusterInit struct {
	Address string `json:"address,omitempty"` // where others find this host; else that of its uplink
}

// ClusterJoin asks that this host join one: POST /v1/cluster/join.
type ClusterJoin struct {
	Token   string `json:"token"`
	Member  string `json:"member"`            // HOST[:PORT] of a member's join port
	Address string `json:"address,omitempty"` // where others find this host; else that by which it reaches the member
}

// ClusterLeave asks that this host leave: POST /v1/cluster/leave.
type ClusterLeave struct {
	Force bool `json:"force"` // whether or not the others can be told
}

// ClusterToken asks for the token: POST /v1/cluster/token.
type ClusterToken struct {
	Rotate bool `json:"rotate"` // make another
}

// Invitation is what a host needs to join.
type Invitation struct {
	Token   string    `json:"token"` // a secret
	Member  string    `json:"member"`
	Expires time.Time `json:"expires"`
}

// Node is a host of the cluster.
type Node struct {
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses"`
	Member    bool         `json:"member"` // it keeps the cluster's data
	Joined    time.Time    `json:"joined"`
	Number    int          `json:"number,omitempty"` // by which other hosts mark what is for it, from 1; none: it has none yet
}

// NodeDetail is all that the cluster knows of one of its hosts.
type NodeDetail struct {
	Node
	ID          string       `json:"id"`                           // by which its leases name it
	Role        string       `json:"role"`                         // voter, learner or client; "" if it cannot be told
	Answers     bool         `json:"answers"`                      // of a voter or learner: it does
	Certificate *time.Time   `json:"certificateExpires,omitempty"` // it is renewed before
	Seen        *time.Time   `json:"leaseRenewed,omitempty"`       // when it last renewed a lease, as it does once a day
	Subnets     []NodeSubnet `json:"subnets"`
}

// NodeSubnet is a host's part of a network over hosts.
type NodeSubnet struct {
	Network       string          `json:"network"` // its name, on the host that is asked; "" if it has none
	Key           string          `json:"key"`     // where the network is in the cluster's store
	Prefixes      []netip.Prefix  `json:"prefixes"`
	Public        []netip.Addr    `json:"publicAddresses"` // where other hosts find it
	Backend       string          `json:"backend"`         // as its lease says; "" of udp and alloc
	BackendData   json.RawMessage `json:"backendData,omitempty"`
	BackendV6Data json.RawMessage `json:"backendV6Data,omitempty"`
	Renewed       *time.Time      `json:"renewed,omitempty"`
	Ends          *time.Time      `json:"expires,omitempty"` // it is renewed before; none: it is a reservation
}

// ClusterNetwork is a network over hosts, as one that this host could be on.
type ClusterNetwork struct {
	Name    string `json:"name"`
	Problem string `json:"problem"` // why it could not, yet; "" if it could, or is
}

// Cluster says how the cluster is.
func (c *Client) Cluster(ctx context.Context) (Cluster, error) {
	return ask[Cluster](ctx, c, methodGet, "/cluster", nil)
}

// InitCluster begins a cluster with this host.
func (c *Client) InitCluster(ctx context.Context, req ClusterInit) (Invitation, error) {
	return ask[Invitation](ctx, c, methodPost, "/cluster/init", req)
}

// JoinCluster makes this host one of a cluster.
func (c *Client) JoinCluster(ctx context.Context, req ClusterJoin) (Cluster, error) {
	return ask[Cluster](ctx, c, methodPost, "/cluster/join", req)
}

// LeaveCluster takes this host out of its cluster.
func (c *Client) LeaveCluster(ctx context.Context, req ClusterLeave) error {
	return c.call(ctx, methodPost, "/cluster/leave", req, nil)
}

// InviteToCluster returns the token that lets hosts in, or makes another.
func (c *Client) InviteToCluster(ctx context.Context, req ClusterToken) (Invitation, error) {
	return ask[Invitation](ctx, c, methodPost, "/cluster/token", req)
}

// ClusterNetwork says of a network over hosts, which need not be there, what hinders
// this host to be on it.
func (c *Client) ClusterNetwork(ctx context.Context, name string) (ClusterNetwork, error) {
	return ask[ClusterNetwork](ctx, c, methodGet, "/cluster/networks/"+segment(name), nil)
}

// Nodes lists the hosts of the cluster by name.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	return ask[[]Node](ctx, c, methodGet, "/nodes", nil)
}

// Node tells of a host of the cluster.
func (c *Client) Node(ctx context.Context, name string) (NodeDetail, error) {
	return ask[NodeDetail](ctx, c, methodGet, "/nodes/"+segment(name), nil)
}

// RemoveNode removes another host from the cluster.
func (c *Client) RemoveNode(ctx context.Context, name string) error {
	return c.call(ctx, methodDelete, "/nodes/"+segment(name), nil, nil)
}
