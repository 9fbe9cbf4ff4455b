package server

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/cluster/member"
	"github.com/sealane/sealane/internal/model"
)

// Cluster is this host's part in a cluster of Sealane's own.
type Cluster interface {
	Init(ctx context.Context, addr netip.Addr) (member.Invitation, error)
	Join(ctx context.Context, token, to string, addr netip.Addr) error
	Leave(ctx context.Context, force bool) error
	Invite(ctx context.Context, rotate bool) (member.Invitation, error)
	Status(ctx context.Context) member.Status
	Hosts(ctx context.Context) ([]member.Record, error)
	Node(ctx context.Context, name string) (member.Node, error)
	Remove(ctx context.Context, name string) error
}

// ownCluster returns it, if the daemon has one.
func (s *service) ownCluster() (Cluster, error) {
	if s.info.Cluster == nil {
		return nil, model.Errorf(model.Unsupported, "cluster", "", "this daemon was started with --etcd, whose hosts are no cluster of Sealane's own").WithHint("sealane doctor says how it is with that etcd")
	}
	return s.info.Cluster, nil
}

func (s *service) cluster(r *http.Request, _ none) (api.Cluster, error) {
	c, err := s.ownCluster()
	if err != nil {
		return api.Cluster{}, err
	}
	return clusterOf(c.Status(r.Context())), nil
}

func clusterOf(s member.Status) api.Cluster {
	out := api.Cluster{
		In: s.In, Name: s.Name, Role: string(s.Role), Quorum: s.Quorum, Problem: s.Problem, Hosts: s.Hosts, Members: []api.ClusterMember{},
		Token: moment(s.Token), Certificate: moment(s.Certificate),
	}
	if s.Addr.IsValid() {
		out.Address = s.Addr.String()
	}
	for _, m := range s.Members {
		out.Members = append(out.Members, api.ClusterMember(m))
	}
	return out
}

// moment is a time, or nil.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (s *service) initCluster(r *http.Request, req api.ClusterInit) (api.Invitation, error) {
	c, err := s.ownCluster()
	if err != nil {
		return api.Invitation{}, err
	}
	addr, err := hostAddr("init", req.Address)
	if err != nil {
		return api.Invitation{}, err
	}
	inv, err := c.Init(r.Context(), addr)
	return invitationOf(inv), err
}

// hostAddr reads where others find a host; "" is the zero address.
func hostAddr(op, text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return a, invalid("cluster", op, "address %q: want an IP address", text)
	}
	return a, nil
}

func invitationOf(i member.Invitation) api.Invitation {
	return api.Invitation{Token: i.Token, Member: i.Addr, Expires: i.Expires}
}

func (s *service) joinCluster(r *http.Request, req api.ClusterJoin) (api.Cluster, error) {
	c, err := s.ownCluster()
	if err != nil {
		return api.Cluster{}, err
	}
	addr, err := hostAddr("join", req.Address)
	if err == nil {
		err = c.Join(r.Context(), req.Token, req.Member, addr)
	}
	if err != nil {
		return api.Cluster{}, err
	}
	return clusterOf(c.Status(r.Context())), nil
}

func (s *service) leaveCluster(r *http.Request, req api.ClusterLeave) (none, error) {
	c, err := s.ownCluster()
	if err == nil {
		err = c.Leave(r.Context(), req.Force)
	}
	return none{}, err
}

func (s *service) inviteToCluster(r *http.Request, req api.ClusterToken) (api.Invitation, error) {
	c, err := s.ownCluster()
	if err != nil {
		return api.Invitation{}, err
	}
	inv, err := c.Invite(r.Context(), req.Rotate)
	return invitationOf(inv), err
}

func (s *service) nodes(r *http.Request, _ none) ([]api.Node, error) {
	c, err := s.ownCluster()
	if err != nil {
		return nil, err
	}
	hosts, err := c.Hosts(r.Context())
	if err != nil {
		return nil, err
	}
	list := []api.Node{}
	for _, h := range hosts {
		list = append(list, s.nodeOf(h))
	}
	return list, nil
}

func (s *service) nodeOf(h member.Record) api.Node {
	return api.Node{Name: h.Name, Addresses: present(h.Addrs), Member: h.Member, Joined: h.Joined, Number: s.engine.HostNumber(h.ID)}
}

func (s *service) node(r *http.Request, _ none) (api.NodeDetail, error) {
	c, err := s.ownCluster()
	if err != nil {
		return api.NodeDetail{}, err
	}
	n, err := c.Node(r.Context(), r.PathValue("ref"))
	if err != nil {
		return api.NodeDetail{}, err
	}
	d := api.NodeDetail{
		Node: s.nodeOf(n.Record), ID: n.ID, Role: string(n.Role), Answers: n.Answers, Certificate: moment(n.Certificate), Subnets: []api.NodeSubnet{},
	}
	seen := time.Time{}
	for _, l := range n.Leases {
		d.Subnets = append(d.Subnets, s.nodeSubnetOf(l))
		if l.Renewed.After(seen) {
			seen = l.Renewed
		}
	}
	d.Seen = moment(seen)
	return d, nil
}

func (s *service) nodeSubnetOf(l member.NodeLease) api.NodeSubnet {
	out := api.NodeSubnet{
		Key: l.Fabric, Prefixes: present(l.Subnet.Prefixes()), Public: present(l.Public), Backend: l.Backend,
		BackendData: l.Data, BackendV6Data: l.DataV6, Renewed: moment(l.Renewed), Ends: moment(l.Ends),
	}
	for _, n := range s.engine.Networks() {
		if n.Fabric != nil && n.Fabric.Key == l.Fabric {
			out.Network = n.Name
		}
	}
	return out
}

func (s *service) removeNode(r *http.Request, _ none) (none, error) {
	c, err := s.ownCluster()
	if err == nil {
		err = c.Remove(r.Context(), r.PathValue("ref"))
	}
	return none{}, err
}
