package engine

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/model"
)

// company is who is on an overlay network, here and elsewhere, and what services there are:
// what was taken of the last View, and the parts of the network that were made of it. The
// next one is taken by what is not the same in it.
type company struct {
	self    string // this host's ID
	part    *overlay.Part
	hosts   map[string]overlay.Peer
	at      map[string]netip.Addr          // where hosts are found, by their IDs
	members map[string][]*overlay.Endpoint // who wishes to be a backend, by services' keys, in order
	holders map[holding]int                // how many endpoints and services have something that one has
	reached map[netip.Addr]int             // how many endpoints are found there
	now     time.Time                      // since when backends fare as they begin to

	parts model.Overlay // Far, Services, Servants and Hosts; the rest is zero
}

// holding is an address or a hardware address.
type holding struct {
	addr netip.Addr
	mac  string
}

// newCompany knows nobody yet, but parts as they were made before.
func newCompany(self string, o *model.Overlay) *company {
	c := &company{self: self, part: &overlay.Part{}, members: map[string][]*overlay.Endpoint{}, holders: map[holding]int{}, reached: map[netip.Addr]int{}}
	if o != nil {
		c.parts = model.Overlay{Far: o.Far, Services: o.Services, Servants: o.Servants, Hosts: o.Hosts}
	}
	for _, f := range c.parts.Far {
		c.reach(f, +1)
	}
	return c
}

// revision is what is to be made anew: nil is gone. What is equal to what is there stays
// that, unless somebody else has an address of it: both are looked at together then.
type revision struct {
	far      map[string]*overlay.Endpoint
	services map[string]bool   // by keys
	servants map[model.ID]bool // by endpoints
	shared   map[holding]bool
	looked   map[*overlay.Endpoint]bool // whose addresses were looked at
}

// take takes in a View and the Part of it that is of this network, and makes the parts
// what they say.
func (c *company) take(v *overlay.View, rec *overlay.Part, at map[string]netip.Addr) {
	r := &revision{far: map[string]*overlay.Endpoint{}, services: map[string]bool{}, servants: map[model.ID]bool{}, shared: map[holding]bool{}, looked: map[*overlay.Endpoint]bool{}}
	if c.hosts == nil {
		c.doubt(r)
	}
	was, moved := c.part, c.moved(v.Hosts, at)
	c.part, c.hosts, c.at = rec, v.Hosts, at
	for was, is := range model.Changes(was.Endpoints, rec.Endpoints, orderEndpoints) {
		c.touch(r, was, is)
	}
	for was, is := range model.Changes(was.Services, rec.Services, orderServices) {
		c.touchService(r, was, is)
	}
	if len(moved) > 0 && len(was.Endpoints) > 0 { // else all were touched
		c.touchAll(r, func(ep *overlay.Endpoint) bool { return moved[ep.Host] })
	}
	if len(r.shared) > 0 {
		c.touchAll(r, func(ep *overlay.Endpoint) bool { return r.shares(ep.MAC, ep.Addrs) })
		for _, s := range rec.Services {
			if r.shares("", s.VIPs) {
				r.services[s.Service.Key()] = true
			}
		}
	}
	c.make(r)
}

// doubt has all parts made anew, or found to be as they were.
func (c *company) doubt(r *revision) {
	for _, f := range c.parts.Far {
		r.far[f.Key()] = nil
	}
	for _, s := range c.parts.Services {
		r.services[s.Key()] = true
	}
	for _, s := range c.parts.Servants {
		r.servants[s.Endpoint] = true
	}
}

// moved are the hosts that are not what they were.
func (c *company) moved(hosts map[string]overlay.Peer, at map[string]netip.Addr) map[string]bool {
	moved := map[string]bool{}
	for _, all := range []map[string]overlay.Peer{hosts, c.hosts} {
		for id := range all {
			if hosts[id] != c.hosts[id] || at[id] != c.at[id] {
				moved[id] = true
			}
		}
	}
	return moved
}

// touch has an endpoint made anew, the services that it is or was of, and who shares an
// address with it.
func (c *company) touch(r *revision, was, is *overlay.Endpoint) {
	for _, ep := range []*overlay.Endpoint{was, is} {
		if ep == nil {
			continue
		}
		by, now := -1, (*overlay.Endpoint)(nil)
		if ep == is {
			by, now = +1, is
		}
		r.far[endpointKey(ep)], r.servants[ep.ID], r.looked[ep] = now, true, true
		c.hold(r, by, ep.MAC, ep.Addrs)
		for _, m := range ep.Services {
			k := strings.ToLower(m.Name)
			c.members[k] = enlisted(c.members[k], ep, now != nil)
			r.services[k] = true
		}
	}
}

// touchService has a service made anew, and where its backends answer.
func (c *company) touchService(r *revision, was, is *overlay.Service) {
	for _, s := range []*overlay.Service{was, is} {
		if s == nil {
			continue
		}
		by := -1
		if s == is {
			by = +1
		}
		r.services[s.Service.Key()] = true
		c.hold(r, by, "", s.VIPs)
		for _, ep := range c.members[s.Service.Key()] {
			if r.looked[ep] {
				continue
			}
			r.servants[ep.ID], r.looked[ep] = true, true
			c.hold(r, 0, ep.MAC, ep.Addrs)
		}
	}
}

// hold counts who has an address, and notes what several have.
func (c *company) hold(r *revision, by int, mac string, addrs []netip.Addr) {
	for h := range holdings(mac, addrs) {
		n := c.holders[h]
		if c.holders[h] = n + by; n+by == 0 {
			delete(c.holders, h)
		}
		if max(n, n+by) > 1 {
			r.shared[h] = true
		}
	}
}

// shares reports whether one of some addresses is one that several have.
func (r *revision) shares(mac string, addrs []netip.Addr) bool {
	for h := range holdings(mac, addrs) {
		if r.shared[h] {
			return true
		}
	}
	return false
}

func holdings(mac string, addrs []netip.Addr) iter.Seq[holding] {
	return func(yield func(holding) bool) {
		if mac != "" && !yield(holding{mac: mac}) {
			return
		}
		for _, a := range addrs {
			if !yield(holding{addr: a}) {
				return
			}
		}
	}
}

// touchAll touches the endpoints that are meant, which did not change themselves.
func (c *company) touchAll(r *revision, meant func(*overlay.Endpoint) bool) {
	for _, ep := range c.part.Endpoints {
		if !meant(ep) {
			continue
		}
		r.far[endpointKey(ep)], r.servants[ep.ID] = ep, true
		c.hold(r, 0, ep.MAC, ep.Addrs)
		for _, m := range ep.Services {
			r.services[strings.ToLower(m.Name)] = true
		}
	}
}

// make makes the parts of a revision.
func (c *company) make(r *revision) {
	anew := len(r.shared) > 0
	far := make(map[string]*model.Far, len(r.far))
	for k, ep := range r.far {
		if far[k] = nil; ep != nil && ep.Host != c.self {
			far[k] = c.farOf(ep)
		}
	}
	services := made(maps.Keys(r.services), c.service)
	o, p := &c.parts, model.Overlay{}
	p.Far = revised(o.Far, far, anew)
	p.Services = revised(o.Services, services, anew)
	servants := made(maps.Keys(r.servants), func(id model.ID) *model.Servant {
		return model.NewServant(id, c.servicesWith(id, services, p.Services))
	})
	p.Servants = revised(o.Servants, servants, anew)
	p.Hosts = c.found(o.Far, p.Far)
	c.parts = p
}

// many is from how many parts on it pays to make two halves of them at once.
const many = 256

// made makes parts by their keys; one changes nothing.
func made[K ~string, T any](keys iter.Seq[K], one func(K) T) map[string]T {
	all := slices.Collect(keys)
	parts := make([]T, len(all))
	some := func(from, to int) {
		for i := from; i < to; i++ {
			parts[i] = one(all[i])
		}
	}
	n := 0
	var both sync.WaitGroup
	if len(all) >= many {
		n = len(all) / 2
		both.Go(func() { some(0, n) })
	}
	some(n, len(all))
	both.Wait()
	now := make(map[string]T, len(all))
	for i, k := range all {
		now[string(k)] = parts[i]
	}
	return now
}

// revised returns parts of one kind with some as they are now. What is as it was stays the
// same value, unless it is to be another.
func revised[T any, P interface {
	*T
	Key() string
}](list []P, now map[string]P, anew bool) []P {
	for k, x := range now {
		n, there := slices.BinarySearchFunc(list, k, func(x P, k string) int { return cmp.Compare(x.Key(), k) })
		if x == nil && !there || x != nil && there && !anew && reflect.DeepEqual(x, list[n]) {
			delete(now, k)
		}
	}
	return model.Revise(list, P.Key, now)
}

// farOf is an endpoint on another host as a part of the network.
func (c *company) farOf(ep *overlay.Endpoint) *model.Far {
	h, known := c.hosts[ep.Host]
	return &model.Far{ID: ep.ID, Node: ep.Host, Host: cmp.Or(h.Name, ep.Host), At: c.at[ep.Host], MAC: ep.MAC, Addrs: ep.Addrs,
		Sandbox: ep.Sandbox.Name, Names: ep.Names, Stopped: ep.Stopped, HostGone: !known || !h.Alive}
}

// service is a service by its key, with its backends; nil: there is none.
func (c *company) service(key string) *model.Service {
	n, there := slices.BinarySearchFunc(c.part.Services, key, func(s *overlay.Service, k string) int { return cmp.Compare(s.Service.Key(), k) })
	if !there {
		return nil
	}
	return c.serviceOf(c.part.Services[n])
}

// serviceOf is a service with its backends.
func (c *company) serviceOf(o *overlay.Service) *model.Service {
	s := o.Service
	members := c.members[s.Key()]
	s.Backends = slices.Grow(s.Backends, len(members))
	for _, ep := range members {
		for _, m := range ep.Services {
			if strings.EqualFold(m.Name, s.Name) {
				s.Backends = append(s.Backends, c.memberOf(o, ep, m))
			}
		}
	}
	if s.Health != nil {
		keepHealth(&s, serviceIn(c.parts.Services, s.Key()), c.now)
	}
	return &s
}

// serviceIn finds a service by its key in a list in order; nil: it is not there.
func serviceIn(list []*model.Service, key string) *model.Service {
	n, there := slices.BinarySearchFunc(list, key, func(s *model.Service, k string) int { return cmp.Compare(s.Key(), k) })
	if !there {
		return nil
	}
	return list[n]
}

// memberOf is an endpoint as a backend of a service.
func (c *company) memberOf(o *overlay.Service, ep *overlay.Endpoint, m overlay.Membership) model.Member {
	h, known := c.hosts[ep.Host]
	b := model.Member{
		Endpoint: ep.ID, Sandbox: ep.Sandbox.Name, Host: cmp.Or(h.Name, ep.Host), Local: ep.Host == c.self, Node: h.Number, Addrs: ep.Addrs,
		Port: uint16(m.Port), Weight: min(m.Weight, model.MaxWeight), State: model.MemberReady,
	}
	switch {
	case ep.Stopped:
		b.State = model.MemberStopped
	case !b.Local && !(known && h.Alive):
		b.State = model.MemberAway
	case slices.Contains(o.Draining, ep.ID):
		b.State = model.MemberDraining
	}
	if o.Health != nil {
		b.Health, b.Since = m.Health, m.Since
	}
	return b
}

// servicesWith are those of some services that an endpoint is a backend of. Those that
// changed are in a map too, in which they are found sooner.
func (c *company) servicesWith(id model.ID, changed map[string]*model.Service, services []*model.Service) []*model.Service {
	var all []*model.Service
	n, _ := slices.BinarySearchFunc(c.part.Endpoints, id, func(e *overlay.Endpoint, id model.ID) int { return cmp.Compare(e.ID, id) })
	for ; n < len(c.part.Endpoints) && c.part.Endpoints[n].ID == id; n++ {
		for _, m := range c.part.Endpoints[n].Services {
			k := strings.ToLower(m.Name)
			s, anew := changed[k]
			if !anew {
				s = serviceIn(services, k)
			}
			if s != nil && !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	return all
}

// found returns where the other hosts are whose endpoints are reached, which were others.
func (c *company) found(from, to []*model.Far) []netip.Addr {
	n := len(c.reached)
	same := true
	for was, is := range model.Changes(from, to, (*model.Far).Order) {
		if is != nil {
			same = c.reach(is, +1) && same
		}
		if was != nil {
			same = c.reach(was, -1) && same
		}
	}
	if same && n == len(c.reached) {
		return c.parts.Hosts
	}
	return slices.SortedFunc(maps.Keys(c.reached), netip.Addr.Compare)
}

// reach counts an endpoint where it is found, and reports whether others are found there.
func (c *company) reach(f *model.Far, by int) bool {
	if !f.Reached() {
		return true
	}
	was := c.reached[f.At]
	if c.reached[f.At] = was + by; was+by == 0 {
		delete(c.reached, f.At)
	}
	return was > 0 && was+by > 0
}

// enlisted returns endpoints, in order, with one or without it.
func enlisted(list []*overlay.Endpoint, ep *overlay.Endpoint, in bool) []*overlay.Endpoint {
	n, there := slices.BinarySearchFunc(list, ep, orderEndpoints)
	switch {
	case there && in:
		list[n] = ep
	case there:
		return slices.Delete(list, n, n+1)
	case in:
		return slices.Insert(list, n, ep)
	}
	return list
}

func orderEndpoints(a, b *overlay.Endpoint) int {
	return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Host, b.Host))
}

func orderServices(a, b *overlay.Service) int {
	return cmp.Compare(a.Service.Key(), b.Service.Key())
}

// endpointKey is the key of an endpoint as it has it as a part.
func endpointKey(ep *overlay.Endpoint) string { return (&model.Far{ID: ep.ID, Node: ep.Host}).Key() }
