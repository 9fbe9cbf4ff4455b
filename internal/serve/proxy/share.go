package proxy

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// What the proxy carries at once is bounded, and whoever wants more than its
// share is the one to go without. Flows are counted by where they go and whence
// they come, from the coarse to the fine:
//
//	container ▶ port of it ▶ network of the client ▶ client
//
// When there is no room, the heaviest of a few flows picked anyhow makes way
// for a lighter one: whose container has more, then whose port, and so on. So
// one client cannot keep another from a port, nor one port another.
const shareLevels = 4

// share is what flows are counted by. The fields that are finer than its level
// are zero.
type share struct {
	level     int
	container netip.Addr
	port      uint16
	client    netip.Prefix
}

// shares are the counts that a flow is a part of.
func (f *flow) shares() [shareLevels]share {
	c, p := f.target.Addr(), f.target.Port()
	host := netip.PrefixFrom(f.client, f.client.BitLen())
	net := host
	if f.client.Is6() {
		net = netip.PrefixFrom(f.client.WithZone(""), 64).Masked() // who has one of its addresses has them all
	}
	return [shareLevels]share{{container: c}, {level: 1, container: c, port: p}, {2, c, p, net}, {3, c, p, host}}
}

// How many flows are looked at to find one that may go.
const candidates = 32

// crowd is the open flows of one protocol. Its methods need the lock of flows.
type crowd struct {
	most int
	// pushy: a newcomer always gets in, because nobody notices the end of a
	// flow that is idle.
	pushy bool
	open  map[*flow]struct{}
	count map[share]int
	done  Count // but what is open
}

func newCrowd(most int, pushy bool) *crowd {
	return &crowd{most: most, pushy: pushy, open: map[*flow]struct{}{}, count: map[share]int{}}
}

// add adds a flow, in place of out if that is not nil. It is false if there is
// no room for it.
func (c *crowd) add(f *flow) (out *flow, ok bool) {
	if len(c.open) >= c.most {
		out = c.heaviest()
		if !c.pushy && !c.lighter(f, out) {
			return nil, false
		}
		c.remove(out)
	}
	c.open[f] = struct{}{}
	for _, s := range f.shares() {
		c.count[s]++
	}
	return out, true
}

// remove removes a flow, if it is there.
func (c *crowd) remove(f *flow) {
	if _, ok := c.open[f]; !ok {
		return
	}
	delete(c.open, f)
	for _, s := range f.shares() {
		if c.count[s]--; c.count[s] == 0 {
			delete(c.count, s)
		}
	}
}

// heaviest returns the flow of a few whose shares are the greatest, and of
// those the one that was idle the longest.
func (c *crowd) heaviest() *flow {
	var worst *flow
	var weight [shareLevels]int
	n := 0
	for f := range c.open {
		var w [shareLevels]int
		for i, s := range f.shares() {
			w[i] = c.count[s]
		}
		if by := compare(w, weight); worst == nil || by > 0 || by == 0 && f.last.Load() < worst.last.Load() {
			worst, weight = f, w
		}
		if n++; n == candidates {
			break
		}
	}
	return worst
}

// lighter reports whether a flow that is not in would still have less than
// another one if it took its place.
func (c *crowd) lighter(f, other *flow) bool {
	mine, theirs := f.shares(), other.shares()
	for i := range mine {
		if mine[i] != theirs[i] {
			return c.count[mine[i]]+1 < c.count[theirs[i]]
		}
	}
	return false
}

func compare(a, b [shareLevels]int) int {
	for i := range a {
		if a[i] != b[i] {
			return a[i] - b[i]
		}
	}
	return 0
}

// Limits of what is carried at once. A TCP flow takes six file descriptors: two
// connections, and a pipe each way that splice(2) needs.
const (
	mostTCP  = 8192
	mostUDP  = 8192
	filesTCP = 6
)

// limits are how many flows fit into half of the file descriptors that the
// process may have. The other half is the daemon's.
func limits() (tcp, udp int) {
	files := unix.Rlimit{Cur: 1024}
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &files)
	half := int(min(files.Cur, 1<<24)) / 2
	return min(mostTCP, half*3/4/filesTCP), min(mostUDP, half/4)
}
