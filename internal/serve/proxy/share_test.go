package proxy

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// to is a flow of a client to a target, idle since the given moment.
func to(target, client string, last int64) *flow {
	f := &flow{target: addrPort(target), client: addr(client)}
	f.last.Store(last)
	return f
}

// crowded is a crowd that a client has filled.
func crowded(t *testing.T, most int, pushy bool, target, client string) *crowd {
	t.Helper()
	c := newCrowd(most, pushy)
	for i := range most {
		if out, ok := c.add(to(target, client, int64(i))); out != nil || !ok {
			t.Fatalf("flow %d of %d: %v, %v", i, most, out, ok)
		}
	}
	return c
}

func TestShares(t *testing.T) {
	const most = 1000
	for _, flood := range []struct{ target, client string }{
		{"172.30.0.2:80", "2001:db8:1::2"}, {"172.30.0.2:80", "fe80::2%lan"}, {"172.30.0.2:80", "192.0.2.2"},
	} {
		for _, other := range []struct {
			name, target, client string
			in                   int // how many get in; 0: none, -1: half
		}{
			{"the same client", flood.target, flood.client, 0},
			{"another client", flood.target, "2001:db8:2::2", -1},
			{"an IPv4 client", flood.target, "192.0.2.9", -1},
			{"the client on another port", "172.30.0.2:81", flood.client, -1},
			{"the client on another container", "172.30.0.3:80", flood.client, -1},
			{"a neighbour of the client's", flood.target, addr(flood.client).Next().String(), -1},
		} {
			c := crowded(t, most, false, flood.target, flood.client)
			in := 0
			for range most {
				if _, ok := c.add(to(other.target, other.client, 0)); ok {
					in++
				}
			}
			low, high := 0, 0
			if other.in != 0 {
				low, high = most/2-most/10, most/2
			}
			if in < low || in > high || len(c.open) != most {
				t.Errorf("%s floods, %s: %d got in of %d, want %d to %d", flood.client, other.name, in, len(c.open), low, high)
			}
		}
	}
}

// A thousand clients of one port leave room for the one of another.
func TestSharesOfPorts(t *testing.T) {
	const most = 1000
	c := newCrowd(most, false)
	for i := range 20 * most {
		c.add(to("172.30.0.2:80", fmt.Sprintf("2001:db8:%x::2", 1+i%most), 0))
	}
	quiet := to("172.30.0.3:80", "2001:db8:1::2", 0)
	if out, ok := c.add(quiet); !ok || out == nil || out.target != addrPort("172.30.0.2:80") {
		t.Fatalf("the other port: %v, %v", out, ok)
	}
	for i := range 20 * most {
		c.add(to("172.30.0.2:80", fmt.Sprintf("2001:db8:%x::3", 1+i%most), 0))
	}
	if _, ok := c.open[quiet]; !ok {
		t.Error("the flow of the other port has gone")
	}
}

// Where newcomers always get in, the greatest share pays, its longest idle
// flow first.
func TestPushyShares(t *testing.T) {
	const most = candidates - 1
	c := crowded(t, most, true, "172.30.0.2:53", "2001:db8:1::2")
	for i := range most - 1 {
		out, ok := c.add(to("172.30.0.3:53", "2001:db8:1::2", 0))
		if !ok || i < most/2 && (out.target != addrPort("172.30.0.2:53") || out.last.Load() != int64(i)) {
			t.Fatalf("newcomer %d: %v, %v", i, out, ok)
		}
	}
	if n := c.count[share{container: addr("172.30.0.2")}]; n < most/2 {
		t.Errorf("%d flows of the first container are left of %d", n, most)
	}
}

// TestCounts adds and removes anyhow and counts again.
func TestCounts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	c := newCrowd(50, false)
	var all []*flow
	for range 20000 {
		if len(all) > 0 && r.IntN(3) == 0 {
			c.remove(all[r.IntN(len(all))]) // it may have gone already
			continue
		}
		f := to(fmt.Sprintf("172.30.0.%d:%d", 1+r.IntN(3), 80+r.IntN(3)), fmt.Sprintf("2001:db8:%x::%x", r.IntN(3), r.IntN(9)), r.Int64N(9))
		if _, ok := c.add(f); ok {
			all = append(all, f)
		}
	}
	want := map[share]int{}
	for f := range c.open {
		for _, s := range f.shares() {
			want[s]++
		}
	}
	if len(c.open) > 50 || len(want) != len(c.count) {
		t.Fatalf("%d flows, %d counts, want %d", len(c.open), len(c.count), len(want))
	}
	for s, n := range want {
		if c.count[s] != n {
			t.Errorf("%v: %d, want %d", s, c.count[s], n)
		}
	}
}
