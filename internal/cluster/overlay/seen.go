package overlay

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/model"
)

// seen makes Views of what the mirror tells. Values that are none are told of, and what
// was there before them stays.
type seen struct {
	poked chan struct{}

	mu    sync.Mutex // protects the following
	inbox map[string]cluster.Change
	known bool

	// The following is view's.
	shelves  map[model.ID]*shelf
	hosts    map[string]*Host
	alive    map[string]bool
	numbers  map[int]string    // whose they are
	bad      map[string]string // what is wrong with a key
	stray    map[Key]string    // what is wrong with endpoints, services and hosts that can be read
	last     View
	rev      int64
	newHosts bool
}

// shelf is what is known of a network.
type shelf struct {
	net     *Network          // nil: it is not known
	all     map[Key]*Endpoint // that could be read
	changed map[Key]bool      // of all
	whole   bool              // net changed
	offers  map[Key]*Service  // that could be read
	offered map[Key]bool      // of offers
	part    *Part             // as it was told; nil: it was not
}

func newSeen() *seen {
	return &seen{
		poked: make(chan struct{}, 1), inbox: map[string]cluster.Change{}, shelves: map[model.ID]*shelf{},
		hosts: map[string]*Host{}, alive: map[string]bool{}, numbers: map[int]string{}, bad: map[string]string{}, stray: map[Key]string{},
	}
}

func (s *seen) poke() {
	select {
	case s.poked <- struct{}{}:
	default:
	}
}

// deliver is told of changes under a prefix by the mirror.
func (s *seen) deliver(prefix string) func(cluster.Update) {
	return func(u cluster.Update) {
		s.mu.Lock()
		if len(s.inbox) == 0 {
			s.inbox = make(map[string]cluster.Change, len(u.Changes))
		}
		for _, c := range u.Changes {
			s.inbox[strings.TrimPrefix(c.Key, prefix)] = c
		}
		s.known = true
		s.mu.Unlock()
		s.poke()
	}
}

// view returns what is known now; nil: that is nothing new.
func (s *seen) view(now state, kept []string, copied string) *View {
	s.mu.Lock()
	inbox, known := s.inbox, s.known
	s.inbox = map[string]cluster.Change{}
	s.mu.Unlock()
	for _, r := range readAll(inbox) {
		s.take(r)
	}
	v := s.last
	changed := s.sortOut(&v)
	v.Known, v.InTouch, v.Since, v.Restored, v.LastError = known, now.inTouch, now.since, now.restored, ""
	if now.err != nil && !now.inTouch {
		v.LastError = now.err.Error()
	}
	changed = changed || v.Known != s.last.Known || v.InTouch != s.last.InTouch || !v.Since.Equal(s.last.Since) ||
		!v.Restored.Equal(s.last.Restored) || v.LastError != s.last.LastError
	if v.Copied = copied; copied != s.last.Copied {
		changed = true
	}
	if problems := s.problems(kept); !slices.Equal(problems, v.Problems) {
		v.Problems, v.Unread, changed = problems, s.unread(), true
	}
	if !changed {
		return nil
	}
	s.last = v
	return &v
}

// take takes one change in.
func (s *seen) take(r reading) {
	k := r.key
	if !r.isKey {
		if kind, _, _ := strings.Cut(r.text, "/"); Kind(kind).parts() > 0 && !r.Gone {
			s.bad[r.text] = "is no key of an overlay network"
		} else {
			delete(s.bad, r.text)
		}
		return
	}
	switch k.Kind {
	case KindNetwork:
		s.takeNetwork(r)
	case KindHost:
		s.takeHost(r)
	case KindAlive:
		s.newHosts = s.newHosts || s.alive[k.Host] == r.Gone
		if s.alive[k.Host] = true; r.Gone {
			delete(s.alive, k.Host)
		}
	case KindEndpoint:
		s.takeEndpoint(r)
	case KindService:
		s.takeService(r)
	case KindNumber:
		r.err = s.takeNumber(k, r.Change)
	}
	s.complain(r.text, r.err)
}

// complain notes what is wrong with a key; nil: nothing is.
func (s *seen) complain(text string, err error) {
	if delete(s.bad, text); err != nil {
		s.bad[text] = err.Error()
	}
}

func (s *seen) shelf(id model.ID) *shelf {
	if s.shelves[id] == nil {
		s.shelves[id] = &shelf{all: map[Key]*Endpoint{}, changed: map[Key]bool{}, offers: map[Key]*Service{}, offered: map[Key]bool{}}
	}
	return s.shelves[id]
}

func (s *seen) takeNetwork(r reading) {
	h := s.shelf(r.key.Network)
	if n, _ := r.value.(*Network); r.err == nil { // nil: it is gone
		h.net, h.whole = n, true
	}
}

func (s *seen) takeHost(r reading) {
	s.newHosts = true
	if r.Gone {
		delete(s.hosts, r.key.Host)
		delete(s.stray, r.key)
	} else if r.err == nil {
		s.hosts[r.key.Host] = r.value.(*Host)
	}
}

func (s *seen) takeEndpoint(r reading) {
	h := s.shelf(r.key.Network)
	if r.Gone {
		delete(h.all, r.key)
	} else if r.err == nil {
		h.all[r.key] = r.value.(*Endpoint)
	}
	if r.err == nil {
		h.changed[r.key] = true
	}
}

// sortOut brings a View up to date with what was taken, and says whether it changed.
func (s *seen) sortOut(v *View) bool {
	changed := false
	for id, h := range s.shelves {
		if !h.whole && (len(h.changed)+len(h.offered) == 0 || h.net == nil) {
			continue
		}
		if !changed {
			v.Networks, changed = maps.Clone(v.Networks), true
		}
		if v.Networks == nil {
			v.Networks = map[model.ID]*Part{}
		}
		if h.part = s.partOf(h); h.part == nil {
			delete(v.Networks, id)
		} else {
			v.Networks[id] = h.part
		}
		if h.net == nil && len(h.all)+len(h.offers) == 0 {
			delete(s.shelves, id)
		}
	}
	if s.newHosts {
		v.Hosts, s.newHosts, changed = map[string]Peer{}, false, true
		for id, h := range s.hosts {
			p := Peer{*h, s.alive[id]}
			p.Number = s.numberOf(h)
			v.Hosts[id] = p
		}
	}
	return changed
}

// partOf makes the Part of a network; nil: the network is not known.
func (s *seen) partOf(h *shelf) *Part {
	was := h.part
	if h.net == nil {
		for k := range h.all {
			delete(s.stray, k)
		}
		for k := range h.offers {
			delete(s.stray, k)
		}
		h.changed, h.offered, h.whole = map[Key]bool{}, map[Key]bool{}, false
		return nil
	}
	if h.whole || was == nil {
		was = &Part{}
		for k := range h.all {
			h.changed[k] = true
		}
		for k := range h.offers {
			h.offered[k] = true
		}
	}
	s.rev++
	now := &Part{Network: *h.net, Rev: s.rev, Services: merge(s, h.net, was.Services, h.offers, h.offered, byName), Endpoints: merge(s, h.net, was.Endpoints, h.all, h.changed, byEndpoint)}
	h.changed, h.offered, h.whole = map[Key]bool{}, map[Key]bool{}, false
	return now
}

// byEndpoint orders keys of endpoints as a Part has them.
func byEndpoint(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.Host, b.Host))
}

// byName orders keys of services as a Part has them.
func byName(a, b Key) int { return cmp.Compare(a.Name, b.Name) }

// merge returns endpoints or services of a network in which those of some keys are as they
// are now. Those that cannot be on it are told of instead.
func merge[T interface {
	comparable
	Key() Key
	on(*Network) error
}](s *seen, n *Network, was []T, now map[Key]T, keys map[Key]bool, order func(a, b Key) int) []T {
	var none T
	out := make([]T, 0, len(was)+len(keys))
	for _, k := range slices.SortedFunc(maps.Keys(keys), order) {
		at, there := slices.BinarySearchFunc(was, k, func(x T, k Key) int { return order(x.Key(), k) })
		out = append(out, was[:at]...)
		if was = was[at:]; there {
			was = was[1:]
		}
		delete(s.stray, k)
		x := now[k]
		if x == none {
			continue
		}
		if err := x.on(n); err != nil {
			s.stray[k] = err.Error()
		} else {
			out = append(out, x)
		}
	}
	return append(out, was...)
}

func (e *Endpoint) on(n *Network) error { return n.outside(e.Addrs) }

func (o *Service) on(n *Network) error { return n.outside(o.VIPs) }

// outside says which of some addresses is not of the network.
func (n *Network) outside(addrs []netip.Addr) error {
	for _, a := range addrs {
		if _, ok := n.Subnet(a); !ok {
			return fmt.Errorf("address %s: is not of network %s", a, n.Name)
		}
	}
	return nil
}

// unread are the records that cannot be read.
func (s *seen) unread() map[Key]bool {
	out := map[Key]bool{}
	for text := range s.bad {
		if k, ok := ParseKey(text); ok {
			out[k] = true
		}
	}
	return out
}

// problems are what is wrong with keys and what the keeper says, in order.
func (s *seen) problems(kept []string) []string {
	var out []string
	for k, text := range s.bad {
		out = append(out, model.Printable(k)+": "+text)
	}
	for k, text := range s.stray {
		out = append(out, k.String()+": "+text)
	}
	out = append(out, kept...)
	slices.Sort(out)
	return out
}
