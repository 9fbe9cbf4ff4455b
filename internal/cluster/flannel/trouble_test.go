package flannel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealane/sealane/internal/cluster"
)

// owners watches who has which key, and complains when a key goes from one host to
// another without having been free.
func owners(t *testing.T, m *cluster.Memory) {
	has := map[string]string{}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for b := range m.Another().Watch(ctx, Prefix+"/subnets/", 0) {
			for _, c := range b.Changes {
				if c.Gone {
					delete(has, c.Key)
					continue
				}
				v, err := ParseValue(c.Value)
				if err != nil || v.Node == nil {
					t.Errorf("%s: %s, %v", c.Key, c.Value, err)
					return
				}
				if was := has[c.Key]; was != "" && was != v.Node.ID {
					t.Errorf("%s: %s took it from %s", c.Key, v.Node.ID, was)
				}
				has[c.Key] = v.Node.ID
			}
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func TestEightHostsRaceForFourSubnets(t *testing.T) {
	for seed := range uint64(25) {
		synctest.Test(t, func(t *testing.T) {
			m := newStore(t, four)
			owners(t, m)
			random := rand.New(rand.NewPCG(seed, 8))
			var mu sync.Mutex
			number := func(n int) int {
				mu.Lock()
				defer mu.Unlock()
				return random.IntN(n)
			}
			delay := func() time.Duration { return time.Duration(number(30)) * time.Millisecond }
			fault := func() int { return number(4) * int(seed%2) } // each second round: half of all
			var hosts []*host
			for i := range 8 {
				hosts = append(hosts, launch(t, m, 2+i, func(_ *Options, s *slow) { s.delay, s.fault = delay, fault }))
			}
			pass(10 * time.Minute)
			winners := have(t, hosts, "no subnet is free: all /24 from 10.5.10.0 to 10.5.13.0 are taken")
			if len(winners) != 4 {
				t.Fatalf("%d hosts have subnets", len(winners))
			}
			for _, h := range winners {
				for err := errors.New("not yet"); err != nil; err = h.Release(t.Context()) {
					settle()
				}
			}
			pass(10 * time.Minute)
			if now := len(content(t, m)); now != 4 {
				t.Errorf("%d subnets are taken after four hosts left: %v", now, content(t, m))
			}
		})
	}
}

// have returns the hosts that have a subnet; the others must say why they have not.
func have(t *testing.T, hosts []*host, why string) []*host {
	t.Helper()
	var out []*host
	seen := map[string]bool{}
	for _, h := range hosts {
		if h.own() == "" {
			if v, _, _ := h.now(); v.LastError != why {
				t.Errorf("%s: %q", h.o.Node.ID, v.LastError)
			}
			continue
		}
		if seen[h.own()] {
			t.Errorf("%s: two have it", h.own())
		}
		seen[h.own()] = true
		out = append(out, h)
	}
	return out
}

func TestTheStoreIsAwayForLongerThanALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, two)
		a, b := start(t, m, 2, nil), start(t, m, 3, nil)
		own, peer := a.own(), b.own()
		a.way.SetAway(true)
		settle()
		if v, _, _ := a.now(); v.InTouch || v.LastError == "" || v.Own == nil || len(v.Peers) != 1 {
			t.Errorf("%+v", v)
		}
		pass(25 * time.Hour)
		if got := content(t, m); len(got) != 1 {
			t.Errorf("%v", got)
		}
		a.want(own)
		m.Compact()
		a.way.SetAway(false)
		pass(10 * time.Second)
		a.want(own)
		equal(t, "peers", a.peers(), peer+" 192.168.0.3")
		if v, _, _ := a.now(); !v.InTouch || v.LastError != "" || len(a.asks()) != 0 || len(content(t, m)) != 2 {
			t.Errorf("%+v, %v", v, a.asks())
		}
	})
}

func TestTheStoreIsAwayWhenARenewalIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, two)
		a := start(t, m, 2, nil)
		own := a.own()
		pass(22*time.Hour + 20*time.Minute)
		a.way.SetAway(true)
		pass(90 * time.Minute)
		a.way.SetAway(false)
		pass(time.Minute)
		m.Pass(time.Hour)
		if _, ok := content(t, m)[strings.Replace(own, "/", "-", 1)]; !ok {
			t.Errorf("it was not renewed: %v", content(t, m))
		}
	})
}

func TestAnotherHostTookTheSubnetMeanwhile(t *testing.T) {
	for _, agree := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m := newStore(t, two)
			a := start(t, m, 2, nil)
			own := a.own()
			a.way.SetAway(true)
			pass(25 * time.Hour)
			b := start(t, m, 3, func(o *Options, _ *slow) { o.Former = subnet(own, "") })
			b.want(own)
			a.setAgree(agree)
			a.way.SetAway(false)
			pass(10 * time.Second)
			if len(a.asks()) != 1 || a.asks()[0].Reason != "is held by host3 (n-3) at 192.168.0.3" || a.asks()[0].Subnet.String() != own {
				t.Fatalf("%+v", a.asks())
			}
			if agree {
				if a.own() == own || a.own() == "" {
					t.Errorf("has %q", a.own())
				}
				b.want(own)
				return
			}
			if v, _, _ := a.now(); v.Own != nil || v.Loss == nil || v.Loss.By.Value.Node.ID != "n-3" {
				t.Errorf("%+v", v)
			}
			_, _, before := a.now()
			pass(10 * time.Minute)
			if _, _, puts := a.now(); puts != before || len(a.asks()) < 10 || len(a.asks()) > 12 {
				t.Errorf("%d writes, asked %d times in ten minutes", puts-before, len(a.asks()))
			}
			b.want(own)
			if err := b.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
			settle()
			a.want(own)
			if v, _, _ := a.now(); v.Loss != nil || v.LastError != "" {
				t.Errorf("%+v", v)
			}
		})
	}
}

func TestTheRecordsSubnetIsAnothersAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, vxlan)
		b := start(t, m, 3, nil)
		a := start(t, m, 2, func(o *Options, _ *slow) { o.Held = subnet(b.own(), "") })
		a.want("")
		if len(a.asks()) != 1 {
			t.Fatalf("%+v", a.asks())
		}
		a.setAgree(true)
		pass(time.Minute)
		if a.own() == "" || a.own() == b.own() {
			t.Errorf("has %q", a.own())
		}
	})
}

func TestALeaseIsDeletedByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, vxlan)
		a := start(t, m, 2, nil)
		own := a.own()
		for range 3 {
			remove(t, m, "subnets/"+a.name())
			pass(100 * time.Millisecond)
			if len(content(t, m)) != 1 {
				t.Fatal("it is not there again at once")
			}
			a.want(own)
		}
		if len(a.asks()) != 0 {
			t.Errorf("%+v", a.asks())
		}
	})
}

func TestTheStoreIsEmptied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, vxlan)
		a, b := start(t, m, 2, nil), start(t, m, 3, nil)
		own, peer := a.own(), b.own()
		m.Wipe()
		settle()
		if got := content(t, m); len(got) != 2 {
			t.Errorf("%v", got)
		}
		pass(5 * time.Minute)
		a.want(own)
		b.want(peer)
		equal(t, "peers", a.peers(), peer+" 192.168.0.3")
		if v, _, _ := a.now(); v.Config == nil || v.Restored.IsZero() || v.LastError != "/coreos.com/network/config: missing: the fabric's config belongs there" {
			t.Errorf("%+v", v)
		}
		put(t, m, "config", vxlan, 0)
		settle()
		if v, _, _ := a.now(); v.LastError != "" || v.Loss != nil || len(v.Problems) != 0 || len(a.asks())+len(b.asks()) != 0 {
			t.Errorf("%+v, %v", v, a.asks())
		}
	})
}

func TestAFabricIsTakenApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, vxlan)
		a := start(t, m, 2, nil)
		own := a.own()
		remove(t, m, "config")
		settle()
		remove(t, m, "subnets/"+a.name())
		pass(time.Hour)
		if got := content(t, m); len(got) != 0 {
			t.Errorf("written without a config: %v", got)
		}
		a.want(own)
		put(t, m, "config", vxlan, 0)
		settle()
		if got := content(t, m); len(got) != 1 {
			t.Errorf("%v", got)
		}
		a.want(own)
	})
}

func TestTheStoreIsRestoredFromAnOldCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, two)
		b := start(t, m, 3, nil)
		first := b.own()
		old := m.Save() // when b had it
		if err := b.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.stop()
		a := start(t, m, 2, func(o *Options, _ *slow) { o.Former = subnet(first, "") })
		a.want(first)
		b = start(t, m, 3, nil)
		second := b.own()
		if second == "" || second == first {
			t.Fatalf("has %q", second)
		}
		for range 5 { // renewals, so that the copy is older
			put(t, m, "other", "x", 0)
		}
		m.Restore(old)
		pass(3 * time.Minute)
		a.want(first)
		b.want(second)
		if got := content(t, m); len(got) != 2 {
			t.Errorf("%v", got)
		}
		equal(t, "peers", a.peers(), second+" 192.168.0.3")
		equal(t, "peers", b.peers(), first+" 192.168.0.2")
	})
}

// TestAnEndedLeaseIsBackWithAnOldCopy: its host is no more, and the subnet another's,
// which knows that even if it was down meanwhile.
func TestAnEndedLeaseIsBackWithAnOldCopy(t *testing.T) {
	for _, down := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m := newStore(t, vxlan)
			b := start(t, m, 3, nil)
			first := b.own()
			old := m.Save()
			b.stop()
			remove(t, m, "subnets/"+b.name()) // etcd gives a restored lease its whole time again
			pass(time.Hour)
			a := start(t, m, 2, func(o *Options, _ *slow) { o.Former = subnet(first, "") })
			c := start(t, m, 4, nil)
			a.want(first)
			v, _, _ := a.now()
			if down {
				a.stop()
			}
			m.Restore(old)
			if down {
				a = start(t, m, 2, func(o *Options, _ *slow) { o.Held, o.HeldSince = subnet(first, ""), v.Own.Value.Node.Since })
			}
			pass(time.Minute)
			a.want(first)
			equal(t, "peers", c.peers(), first+" 192.168.0.2")
			if len(a.asks()) != 0 {
				t.Errorf("%+v", a.asks())
			}
		})
	}
}

// TestALeaseIsLaterThanOurs: who was away for a day does not take its subnet back, nor
// who had it from a clock that is ahead.
func TestALeaseIsLaterThanOurs(t *testing.T) {
	for _, ahead := range []time.Duration{-48 * time.Hour, 48 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			m := newStore(t, vxlan)
			b := start(t, m, 3, nil)
			first := b.own()
			a := start(t, m, 2, func(o *Options, _ *slow) { o.Held, o.HeldSince = subnet(first, ""), time.Now().Add(ahead) })
			pass(time.Minute)
			a.want("")
			b.want(first)
		})
	}
}

// jumpy is a clock that somebody sets.
type jumpy struct {
	mu  sync.Mutex // protects off
	off time.Duration
}

func (j *jumpy) Now() time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	return time.Now().Round(0).Add(j.off)
}

func (j *jumpy) After(d time.Duration) <-chan time.Time { return time.After(d) }

func (j *jumpy) jump(d time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.off += d
}

func TestTheClockJumps(t *testing.T) {
	for _, by := range []time.Duration{30 * time.Hour, -10 * time.Hour, -10 * 365 * 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			m := newStore(t, vxlan)
			clock := &jumpy{}
			h := start(t, m, 2, func(o *Options, _ *slow) { o.Clock = clock })
			own := h.own()
			clock.jump(by)
			pass(2 * time.Minute)
			if _, _, puts := h.now(); puts != 2 {
				t.Errorf("%s: %d puts", by, puts)
			}
			pass(48 * time.Hour)
			h.want(own)
			if got := content(t, m); len(got) != 1 {
				t.Errorf("%v", got)
			}
			if _, _, puts := h.now(); puts < 4 || puts > 5 {
				t.Errorf("%s: %d puts in two days", by, puts)
			}
		})
	}
}

func TestTwoHostsWithOneID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, vxlan)
		a := start(t, m, 2, nil)
		own := a.own()
		clone := start(t, m, 2, nil)
		clone.want(own) // nobody can tell a clone from a restart, but its former self
		want := "subnets/" + a.name() + ": is written by another with this host's ID: is that a clone of it, or a second daemon?"
		equal(t, "problems", a.problems(), want)
		_, _, before := a.now()
		pass(10 * time.Minute)
		if _, _, puts := a.now(); puts-before > 11 {
			t.Errorf("%d writes in ten minutes", puts-before)
		}
		clone.setAgree(true)
		pass(3 * time.Minute)
		a.want(own)
		if clone.own() == "" || clone.own() == own {
			t.Errorf("the clone has %q", clone.own())
		}
		pass(2 * time.Hour)
		if v, _, _ := a.now(); v.Loss != nil || len(v.Problems) != 1 || !strings.Contains(v.Problems[0].Text, "its public address is this host's") {
			t.Errorf("%+v", v)
		}
	})
}

func TestTwoHostsWithOnePublicAddress(t *testing.T) {
	nat := func(o *Options, _ *slow) {
		o.Describe = func(c Config) (Value, error) { return public(9, c) }
	}
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, vxlan)
		a, b := start(t, m, 2, nat), start(t, m, 3, nat)
		if a.own() == b.own() || a.own() == "" || b.own() == "" {
			t.Fatalf("%q and %q", a.own(), b.own())
		}
		equal(t, "problems", a.problems(), "subnets/"+b.name()+": its public address is this host's: has it: host3 (n-3) at 192.168.0.9")
	})
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, vxlan)
		a := start(t, m, 2, nat)
		own := a.name()
		put(t, m, "subnets/"+own, `{"PublicIP":"192.168.0.9","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"76:8a:00:46:cd:33"}}`, TTL)
		settle()
		equal(t, "problems", a.problems(), "subnets/"+own+": is written by a flanneld with this host's public address: one of the two has to have another, or to end")
		if len(a.asks()) != 1 {
			t.Errorf("%+v", a.asks())
		}
		pass(2 * time.Minute)
		if got := content(t, m)[own]; !strings.Contains(got, "n-2") {
			t.Errorf("%s", got)
		}
		pass(2 * time.Hour)
		equal(t, "problems", a.problems())
	})
}

func TestTheConfigChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, one)
		h := start(t, m, 2, nil)
		h.want("10.5.10.0/24")
		put(t, m, "config", `{"Network":"10.5.0.0/16","SubnetLen":25}`, 0)
		settle()
		v, _, _ := h.now()
		if v.Config.Backend != (UDP{8285}) || v.Loss == nil || v.Loss.Reason != "the fabric's config has no such subnet any more" {
			t.Fatalf("%+v", v)
		}
		h.want("10.5.10.0/24")
		if got := content(t, m)["10.5.10.0-24"]; !strings.Contains(got, `"BackendType":"udp"`) {
			t.Errorf("%s", got)
		}
		for _, bad := range []string{`{"Network":"10.5.0.0"}`, `{`} {
			put(t, m, "config", bad, 0)
			settle()
			if v, _, _ := h.now(); v.Config.V4.SubnetLen != 25 || !strings.HasPrefix(v.LastError, "/coreos.com/network/config: ") {
				t.Errorf("%+v", v)
			}
		}
		pass(30 * time.Hour)
		h.want("10.5.10.0/24")
		if got := content(t, m); len(got) != 1 {
			t.Errorf("it is renewed nevertheless: %v", got)
		}
		put(t, m, "config", `{"Network":"10.5.0.0/16","SubnetLen":25,"SubnetMin":"10.5.10.0","SubnetMax":"10.5.10.0"}`, 0)
		h.setAgree(true)
		pass(time.Minute)
		h.want("10.5.10.0/25")
		if got := content(t, m); len(got) != 1 {
			t.Errorf("%v", got)
		}
		if v, _, _ := h.now(); v.Loss != nil || v.LastError != "" {
			t.Errorf("%+v", v)
		}
	})
}

func TestAMalformedNeighbourIsOneProblem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, two)
		good := `{"PublicIP":"192.168.0.8","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":7,"VtepMAC":"02:00:00:00:00:08"}}`
		at := func(last string) string {
			return strings.NewReplacer("0.8\"", last+"\"", "00:08", "00:0"+last[2:]).Replace(good)
		}
		h := start(t, m, 2, func(o *Options, _ *slow) { o.Former = subnet("10.5.10.0/24", "") })
		for key, value := range map[string]string{
			"10.5.30.0-24": good, "10.5.31.0-24": `{`, "10.5.32.0-24": `{"PublicIP":"x"}`, "10.5.33.0-24": at("0.2"), "10.5.34.0-24": strings.Replace(good, "192.168.0.8", "0.0.0.0", 1),
			"10.5.35.1-24": good, "nonsense": good, "10.6.0.0-24": good, "10.5.0.0-16": good, "0.0.0.0-0&fd00::-64": good, "10.5.10.128-25": good,
			"10.5.36.0-22": good, "10.5.36.0-24": good, "10.5.37.0-24": at("0.9"), "10.5.40.0-24": strings.Replace(good, "vxlan", "host-gw", 1),
			"10.5.41.0-24": strings.Replace(good, "02:00", "03:00", 1), "10.5.42.0-24": `{"PublicIP":"192.168.0.7","PublicIPv6":null,"BackendType":"vxlan"}`,
			"10.5.43.0-24": `{"PublicIP":"192.168.0.7"}`, "10.5.43.0-24/x": good, "10.5.48.0-20": at("0.6"),
			"10.5.44.0-24": strings.Replace(good, "192.168.0.8", "224.0.0.1", 1), "10.5.45.0-24": strings.Replace(good, "192.168.0.8", "127.0.0.1", 1),
			"10.5.46.0-24": strings.Replace(good, "192.168.0.8", "255.255.255.255", 1), "10.5.47.0-24": strings.Replace(good, "null", `"fe80::1"`, 1),
		} {
			ttl := TTL
			if key == "10.5.43.0-24" {
				ttl = 0 // a reservation that nobody uses is no problem
			}
			put(t, m, "subnets/"+key, value, ttl)
		}
		settle()
		h.want("10.5.10.0/24")
		equal(t, "peers", h.peers(), "10.5.30.0/24 192.168.0.8", "10.5.36.0/24 192.168.0.8", "10.5.37.0/24 192.168.0.9", "10.5.48.0/20 192.168.0.6")
		equal(t, "problems", h.problems(),
			`subnets/0.0.0.0-0&fd00::-64: fd00::/64: the fabric has no such addresses`,
			`subnets/10.5.0.0-16: 10.5.0.0/16: is not of 10.5.0.0/16`,
			`subnets/10.5.10.128-25: 10.5.10.128/25: overlaps 10.5.10.0/24, which is this host's; has it: flanneld at 192.168.0.8`,
			`subnets/10.5.31.0-24: not JSON: byte 1: unexpected end of JSON input`,
			`subnets/10.5.32.0-24: PublicIP: "x": an IPv4 address belongs there`,
			`subnets/10.5.33.0-24: its public address is this host's: has it: flanneld at 192.168.0.2`,
			`subnets/10.5.34.0-24: PublicIP: 0.0.0.0: its peers cannot reach it`,
			`subnets/10.5.35.1-24: "10.5.35.1-24": the subnet begins at 10.5.35.0`,
			`subnets/10.5.36.0-22: 10.5.36.0/22: overlaps 10.5.36.0/24, which another host has`,
			`subnets/10.5.40.0-24: BackendType: "host-gw": the fabric is of "vxlan"`,
			`subnets/10.5.41.0-24: BackendData: VtepMAC: 03:00:00:00:00:08: is a group's address`,
			`subnets/10.5.42.0-24: BackendData: missing: the host's VtepMAC belongs there`,
			`subnets/10.5.43.0-24/x: "10.5.43.0-24/x": a length up to 31 belongs there`,
			`subnets/10.5.44.0-24: PublicIP: 224.0.0.1: is not the address of one host`,
			`subnets/10.5.45.0-24: PublicIP: 127.0.0.1: is not the address of one host`,
			`subnets/10.5.46.0-24: PublicIP: 255.255.255.255: is not the address of one host`,
			`subnets/10.5.47.0-24: PublicIPv6: fe80::1: is not the address of one host`,
			`subnets/10.6.0.0-24: 10.6.0.0/24: is not of 10.5.0.0/16`,
			`subnets/nonsense: "nonsense": ADDRESS-LENGTH belongs there`,
		)
	})
}

// TestTwoLeasesOfOneDevice has leases say of one device that it is at two places, which no
// tunnel could be made of: the one that was put last counts, and the others are heard.
func TestTwoLeasesOfOneDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, two)
		text := func(last, mac string) string {
			return fmt.Sprintf(`{"PublicIP":"192.168.0.%s","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":7,"VtepMAC":"%s"}}`, last, mac)
		}
		h := start(t, m, 2, func(o *Options, _ *slow) { o.Former = subnet("10.5.10.0/24", "") })
		h.want("10.5.10.0/24")
		put(t, m, "subnets/10.5.31.0-24", text("7", "02:00:00:00:00:09"), TTL)
		put(t, m, "subnets/10.5.30.0-24", text("9", "02:00:00:00:00:09"), TTL)
		put(t, m, "subnets/10.5.32.0-24", text("8", "02:00:00:00:00:08"), TTL)
		put(t, m, "subnets/10.5.33.0-24", text("8", "02:00:00:00:00:08"), TTL)
		settle()
		equal(t, "peers", h.peers(), "10.5.30.0/24 192.168.0.9", "10.5.32.0/24 192.168.0.8", "10.5.33.0/24 192.168.0.8")
		equal(t, "problems", h.problems(), "subnets/10.5.31.0-24: VtepMAC 02:00:00:00:00:09 is also that of flanneld at 192.168.0.9, which said so later")
	})
}

func TestFiveThousandPeers(t *testing.T) {
	c, entries := crowd(t)
	began := time.Now()
	records := make([]*record, 0, len(entries))
	for _, e := range entries {
		records = append(records, readRecord(strings.TrimPrefix(e.Key, Prefix+"/subnets/"), e))
	}
	parsed := time.Since(began)
	peers, problems := neighbours(&c, Lease{Key: "10.0.1.0-24", Subnet: subnet("10.0.1.0/24", "")}, records)
	t.Logf("parsed in %s, sorted out in %s", parsed, time.Since(began)-parsed)
	if len(peers) != 5000 || len(problems) != 0 {
		t.Errorf("%d peers, %d problems: %v", len(peers), len(problems), problems[:min(len(problems), 3)])
	}
	var taken []Subnet
	for _, p := range peers {
		taken = append(taken, p.Subnet)
	}
	s, err := Choose(c, taken, func(n int) int { return n - 1 })
	if want := subnet("10.19.236.0/24", "fd10:0:0:13ec::/64"); s != want || err != nil {
		t.Errorf("%s, %v, want %s", s, err, want)
	}
}

// crowd is a config and the leases of 5,000 hosts.
func crowd(t testing.TB) (Config, []cluster.Entry) {
	c, err := ParseConfig([]byte(`{"EnableIPv6":true,"Network":"10.0.0.0/8","IPv6Network":"fd10::/32","Backend":{"Type":"vxlan"}}`))
	if err != nil {
		t.Fatal(err)
	}
	var out []cluster.Entry
	for i := range 5000 {
		v, err := public(i+1, c)
		if err != nil {
			t.Fatal(err)
		}
		v.Node = &Node{ID: fmt.Sprint("n-", i)}
		text, err := v.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprintf("%s/subnets/10.%d.%d.0-24&fd10:0:0:%x::-64", Prefix, (i+4)>>8, (i+4)&255, i+4)
		out = append(out, cluster.Entry{Key: key, Value: text, Rev: int64(i + 1)})
	}
	return c, out
}

func BenchmarkFiveThousandPeers(b *testing.B) {
	c, entries := crowd(b)
	for b.Loop() {
		records := make([]*record, 0, len(entries))
		for _, e := range entries {
			records = append(records, readRecord(strings.TrimPrefix(e.Key, Prefix+"/subnets/"), e))
		}
		neighbours(&c, Lease{Key: "-"}, records)
	}
}

// TestRightTakenAway has a store no longer let this host write, which no watch tells of: that is
// said long before the lease is to be renewed, until it may again. Nothing is written for it.
func TestRightTakenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, `{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}`)
		var fault atomic.Int32
		h := start(t, m, 1, func(o *Options, s *slow) { s.fault = func() int { return int(fault.Load()) } })
		before, err := m.List(t.Context(), Prefix)
		if err != nil || len(before.Entries) != 2 {
			t.Fatal(before, err)
		}
		says := func(after time.Duration, want string) {
			t.Helper()
			pass(after)
			if v, _, _ := h.now(); v.Own == nil || v.LastError != want {
				t.Errorf("own %v, says %q, want %q", v.Own, v.LastError, want)
			}
		}
		says(3*Proof, "")
		fault.Store(notAllowed)
		says(Proof+Again, fmt.Sprintf("lease %s: the store refuses: permission denied", h.view.Own.Subnet))
		fault.Store(0)
		says(2*Again, "")
		if after, err := m.List(t.Context(), Prefix); err != nil || after.Rev != before.Rev {
			t.Errorf("revision %d, was %d: %v", after.Rev, before.Rev, err)
		}
	})
}
