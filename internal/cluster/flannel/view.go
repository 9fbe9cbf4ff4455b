package flannel

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/model"
)

// Lease is a host's part of a fabric.
type Lease struct {
	Key     string // under PREFIX/subnets/
	Subnet  Subnet
	Value   Value
	Lasting bool // it is a reservation: it does not end by itself
}

// Problem is what is wrong with one key. The others are as they are.
type Problem struct {
	Key  string // under PREFIX/
	Text string
}

// Loss is that this host's subnet cannot stay its own.
type Loss struct {
	Subnet Subnet
	By     *Lease // who has it; nil: nobody, the config does not allow for it any more
	Reason string
}

// View is what a host knows of a fabric.
type View struct {
	Config   *Config   // the last good one; nil: none was read yet
	Removed  bool      // it was there, and is no more: the fabric is to go
	Own      *Lease    // nil: there is none, or it is another's (Loss)
	Loss     *Loss     // Options.Agree was asked, and did not agree yet
	Peers    []Lease   // by Subnet; none overlaps another or Own
	Problems []Problem // by Key

	InTouch   bool      // with the store
	Since     time.Time // that it is so
	Restored  time.Time // when the store was last found older than it had been, or another
	LastError string    // what hinders, in a line; "": nothing
}

// equal says whether there is nothing new.
func (v View) equal(o View) bool { return reflect.DeepEqual(v, o) }

// record is a key under PREFIX/subnets/, read once per revision.
type record struct {
	lease Lease
	rev   int64
	epoch int    // how often the store had been restored before: revisions of each count anew
	text  string // of the value
	key   error  // why the key is none
	value error  // why the value is none

	checked *Config  // which the following is for
	check   error    // why its hosts cannot reach the subnet
	devices []string // by what they know the host's devices
}

func readRecord(name string, e cluster.Entry) *record {
	r := &record{lease: Lease{Key: name, Lasting: e.Lasting}, rev: e.Rev, text: string(e.Value)}
	if r.lease.Subnet, r.key = ParseKey(name); r.key == nil {
		r.lease.Value, r.value = ParseValue(e.Value)
	}
	return r
}

// copied is the lease for others to keep.
func (r *record) copied() *Lease {
	l := r.lease
	return &l
}

// reserved says that nobody uses the lease: it only says whose it is to be.
func (r *record) reserved() bool {
	v := r.lease.Value
	return r.lease.Lasting && v.BackendType == "" && v.BackendData == nil && v.BackendV6Data == nil && v.Node == nil
}

// neighbours tells the leases that are of use to this host from those that are not.
// own is its lease, or what it would have; its value says who it is.
func neighbours(c *Config, own Lease, records []*record) (peers []Lease, problems []Problem) {
	complain := func(r *record, err error) {
		problems = append(problems, Problem{"subnets/" + r.lease.Key, err.Error()})
	}
	var good []*record
	devices := own.Value.Devices()
	for _, r := range records {
		switch err := cmp.Or(r.key, r.value); {
		case err != nil:
			complain(r, err)
		case r.lease.Key == own.Key:
		case r.idle(c):
		default:
			if err := r.judge(c, own, devices); err != nil {
				complain(r, err)
			} else {
				good = append(good, r)
			}
		}
	}
	peers = apart(c, single(good, complain), complain)
	slices.SortFunc(peers, func(a, b Lease) int { return a.Subnet.Compare(b.Subnet) })
	return peers, problems
}

// idle says that a lease is a reservation that nobody uses. Where backends have no
// type, as udp, it cannot be told from a lease.
func (r *record) idle(c *Config) bool {
	return r.reserved() && (c.Backend.Type() != "udp" && c.Backend.Type() != "alloc")
}

// enabled leaves out the family that a fabric does not have any more.
func (c *Config) enabled(s Subnet) Subnet {
	if !c.EnableIPv4 {
		s.V4 = netip.Prefix{}
	}
	if !c.EnableIPv6 {
		s.V6 = netip.Prefix{}
	}
	return s
}

// within is the part of a lease that takes addresses from others: a key that is none,
// or is of another network or the whole of it, takes nothing.
func (c *Config) within(r *record) Subnet {
	s := c.enabled(r.lease.Subnet)
	if r.key != nil || !c.V4.holds(s.V4) {
		s.V4 = netip.Prefix{}
	}
	if r.key != nil || !c.V6.holds(s.V6) {
		s.V6 = netip.Prefix{}
	}
	return s
}

// holds says whether a prefix is a part of the network.
func (r Range) holds(p netip.Prefix) bool {
	return p.IsValid() && r.Network.Contains(p.Addr()) && p.Bits() > r.Network.Bits()
}

// mayHold says whether a prefix, if there is one, is a part of the network.
func (r Range) mayHold(p netip.Prefix) bool { return !p.IsValid() || r.holds(p) }

// judge says why a lease is of no use to this host, whose devices are such.
func (r *record) judge(c *Config, own Lease, devices []string) error {
	l := r.lease
	s := c.enabled(l.Subnet)
	if s.IsZero() {
		return fmt.Errorf("%s: the fabric has no such addresses", l.Subnet)
	}
	for _, half := range []struct {
		p netip.Prefix
		r Range
	}{{s.V4, c.V4}, {s.V6, c.V6}} {
		if !half.r.mayHold(half.p) {
			return fmt.Errorf("%s: is not of %s", half.p, half.r.Network)
		}
	}
	switch v := l.Value; {
	case l.Subnet.Overlaps(own.Subnet):
		return fmt.Errorf("%s: overlaps %s, which is this host's; has it: %s", l.Subnet, own.Subnet, v.who())
	case v.Public4.IsValid() && v.Public4 == own.Value.Public4, v.Public6.IsValid() && v.Public6 == own.Value.Public6:
		return fmt.Errorf("its public address is this host's: has it: %s", v.who())
	}
	if r.checked != c {
		r.checked = c
		r.devices, r.check = l.Value.check(*c, s)
	}
	for _, d := range r.devices {
		if slices.Contains(devices, d) {
			return fmt.Errorf("%s is this host's: has it: %s", d, l.Value.who())
		}
	}
	return r.check
}

// who names a host.
func (v Value) who() string {
	at := cmp.Or(v.Public4, v.Public6).String()
	if v.Node == nil {
		return "flanneld at " + at
	}
	return fmt.Sprintf("%s (%s) at %s", cmp.Or(v.Node.Name, "a host"), v.Node.ID, at)
}

// single returns leases whose devices are each at one place: that which was told last. A
// copy of a host, or one that has moved and lost its lease, leaves another behind.
func single(records []*record, complain func(*record, error)) []*record {
	last := make(map[string]*record, len(records))
	for _, r := range records {
		for _, d := range r.devices {
			if o := last[d]; o == nil || cmp.Or(cmp.Compare(o.epoch, r.epoch), cmp.Compare(o.rev, r.rev)) < 0 {
				last[d] = r
			}
		}
	}
	return slices.DeleteFunc(records, func(r *record) bool {
		for _, d := range r.devices {
			if v, o := r.lease.Value, last[d].lease.Value; v.Public4 != o.Public4 || v.Public6 != o.Public6 {
				complain(r, fmt.Errorf("%s is also that of %s, which said so later", d, o.who()))
				return true
			}
		}
		return false
	})
}

// apart returns leases that do not overlap. Those as long as the config has them
// come first: a former config's larger subnet may outlive its host by a day.
func apart(c *Config, records []*record, complain func(*record, error)) []Lease {
	slices.SortFunc(records, func(a, b *record) int {
		if ua, ub := c.usual(a.lease.Subnet), c.usual(b.lease.Subnet); ua != ub {
			if ua {
				return -1
			}
			return 1
		}
		return cmp.Or(a.lease.Subnet.Compare(b.lease.Subnet), cmp.Compare(a.lease.Key, b.lease.Key))
	})
	var out []Lease
	var v4, v6 used
	for _, r := range records {
		s := c.enabled(r.lease.Subnet)
		hit, ok := v4.find(s.V4)
		if !ok {
			hit, ok = v6.find(s.V6)
		}
		if ok {
			complain(r, fmt.Errorf("%s: overlaps %s, which another host has", s, hit))
			continue
		}
		v4.add(s.V4)
		v6.add(s.V6)
		l := r.lease
		l.Subnet = s
		out = append(out, l)
	}
	return out
}

// usual says whether a subnet is as long as the config has them.
func (c *Config) usual(s Subnet) bool {
	return (!s.V4.IsValid() || s.V4.Bits() == c.V4.SubnetLen) && (!s.V6.IsValid() || s.V6.Bits() == c.V6.SubnetLen)
}

// used is disjoint prefixes of one family: two runs, each in order.
type used struct{ runs [2][]netip.Prefix }

// add appends a prefix: to the first run as long as that stays in order.
func (u *used) add(p netip.Prefix) {
	if !p.IsValid() {
		return
	}
	i := 0
	if n := len(u.runs[0]); n > 0 && p.Compare(u.runs[0][n-1]) < 0 {
		i = 1
	}
	at, _ := slices.BinarySearchFunc(u.runs[i], p, netip.Prefix.Compare)
	u.runs[i] = slices.Insert(u.runs[i], at, p)
}

func (u *used) find(p netip.Prefix) (netip.Prefix, bool) {
	if !p.IsValid() {
		return p, false
	}
	for _, run := range u.runs {
		if hit, ok := model.Overlapping(p, run); ok {
			return hit, true
		}
	}
	return p, false
}
