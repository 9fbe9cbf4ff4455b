package member

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/model"
)

// Role is what a host does for the cluster.
type Role string

// The roles. A learner has all data and will vote when that makes the number odd.
const (
	RoleVoter   Role = "voter"
	RoleLearner Role = "learner"
	RoleClient  Role = "client"
)

// Status is how a cluster is, as seen from this host.
type Status struct {
	In          bool // this host is in one; else all the rest is zero
	Name        string
	Addr        netip.Addr
	Role        Role // "" if it cannot be told
	Quorum      bool // the members that vote agree, so that anything can be changed
	Problem     string
	Members     []Member
	Hosts       int       // known while there is Quorum
	Token       time.Time // when the token ends; zero if there is none
	Certificate time.Time // when this host's ends
}

// Member is a host that runs an etcd.
type Member struct {
	Name    string
	URL     string // for hosts; "" if it has not started yet
	Voting  bool
	Leader  bool
	Healthy bool // it answers this host
}

var errRemoved = errors.New("this host was removed from the cluster")

// Status asks all members.
func (h *Host) Status(ctx context.Context) Status {
	r, err := h.running("status")
	switch {
	case err != nil && h.dir.used():
		return Status{In: true, Name: h.cfg.Name, Problem: err.Error()}
	case err != nil:
		return Status{}
	}
	s := Status{In: true, Name: r.host.Name, Addr: r.host.Addr}
	if c, err := r.dir.certificateNow(); err == nil {
		s.Certificate = c.NotAfter
	}
	if _, err := r.state(); err != nil {
		s.Problem = err.Error()
	}
	if r.host.Member && !here(r.host.Addr) {
		s.Problem = fmt.Sprintf("this host no longer has %s, where the others find its etcd: give it that address again; or remove it, sealane node rm %s on another member, and sealane cluster leave --force and join here", s.Addr, s.Name)
	}
	if r.copied(ctx) {
		s.Problem = fmt.Sprintf("this host is a copy of another, which is member %s at %s: sealane cluster leave --force here, by which that one stays", s.Name, s.Addr)
	}
	ended := !s.Certificate.IsZero() && !r.cfg.Now().Before(s.Certificate)
	if ended && !r.host.Member {
		s.Problem = "this host's certificate has ended: sealane node rm " + s.Name + " on a member, then sealane cluster leave --force and join here"
	}
	refused := r.askRefused(ctx)
	members, err := r.members(ctx)
	if s.Quorum = err == nil; err != nil {
		members = r.membersHere()
		switch {
		case !ended && <-refused:
			s.Problem = errRemoved.Error()
		case s.Problem == "" && errors.Is(err, cluster.ErrAway):
			s.Problem = fmt.Sprintf("the cluster does not answer within %v", askTime)
		case s.Problem == "":
			s.Problem = "the cluster does not answer: " + strings.TrimPrefix(err.Error(), "etcdserver: ")
		}
	}
	s.Members = r.probe(ctx, members)
	s.Role = r.role(members)
	if s.Quorum {
		r.addRoster(ctx, &s)
	}
	return s
}

// copied reports whether this host has another's state: a member has that address, which
// nobody gets a certificate for while there is who joined with it.
func (r *running) copied(ctx context.Context) bool {
	if !r.host.Member || here(r.host.Addr) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	_, err := r.client.Status(ctx, at(r.host.Addr, r.cfg.Ports.Client))
	return err == nil
}

// here reports whether this host has an address.
func here(a netip.Addr) bool {
	l, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err != nil {
		return !errors.Is(err, syscall.EADDRNOTAVAIL)
	}
	_ = l.Close() // nothing was said
	return true
}

// askRefused asks whether members refuse this host, also before they hear what it asks.
func (r *running) askRefused(ctx context.Context) <-chan bool {
	told := make(chan bool, 1)
	go func() {
		_, err := r.store.List(ctx, keyTurn)
		told <- errors.Is(err, cluster.ErrRefused)
	}()
	return told
}

func (r *running) addRoster(ctx context.Context, s *Status) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	ros, err := readRoster(ctx, r.store)
	if err != nil {
		s.Problem = err.Error()
		return
	}
	s.Hosts, s.Token = len(ros.hosts), ros.token.Expires
	if _, ok := ros.hosts[s.Name]; !ok { // the members have not all heard yet, or would refuse this
		s.Quorum, s.Hosts, s.Problem = false, 0, errRemoved.Error()
	}
}

// role is this host's among members.
func (r *running) role(members []*pb.Member) Role {
	return roleOf(members, Record{Addrs: []netip.Addr{r.host.Addr}, Member: r.host.Member})
}

func roleOf(members []*pb.Member, rec Record) Role {
	m := memberAt(members, rec.Addrs[0])
	switch {
	case !rec.Member:
		return RoleClient
	case m == nil:
		return ""
	case m.IsLearner:
		return RoleLearner
	}
	return RoleVoter
}

// membersHere is what this host itself knows of the members.
func (r *running) membersHere() []*pb.Member {
	var out []*pb.Member
	e, _ := r.state()
	if e == nil {
		for _, v := range r.votersNow() {
			out = append(out, &pb.Member{ClientURLs: []string{v}})
		}
		return out
	}
	for _, m := range e.Server.Cluster().Members() {
		out = append(out, &pb.Member{ID: uint64(m.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner})
	}
	return out
}

// probe asks each member how it is.
func (r *running) probe(ctx context.Context, members []*pb.Member) []Member {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	out := make([]Member, len(members))
	leaders := make([]uint64, len(members))
	var all sync.WaitGroup
	for i, m := range members {
		out[i] = Member{Name: m.Name, Voting: !m.IsLearner}
		if len(m.ClientURLs) == 0 {
			continue
		}
		out[i].URL = m.ClientURLs[0]
		all.Go(func() {
			if s, err := r.client.Status(ctx, m.ClientURLs[0]); err == nil {
				out[i].Healthy, leaders[i] = true, s.Leader
			}
		})
	}
	all.Wait()
	for i, m := range members {
		for _, l := range leaders {
			out[i].Leader = out[i].Leader || l != 0 && l == m.ID
		}
	}
	return out
}

// Hosts returns the hosts of the cluster, by name.
func (h *Host) Hosts(ctx context.Context) ([]Record, error) {
	r, err := h.running("list nodes")
	if err != nil {
		return nil, err
	}
	ros, err := readRoster(ctx, r.store)
	if err != nil {
		return nil, model.Errorf(model.Internal, "cluster", "list nodes", "%w", err)
	}
	return ros.sorted(), nil
}
