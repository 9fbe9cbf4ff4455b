package overlay

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/model"
)

func TestCreateAndRemove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a, b := start(t, m, 1), start(t, m, 2)
		quiet()
		n := a.create(net("aa", "app", "10.1.0.0/24", "fd01::/64"))
		if n.VNI != FirstVNI {
			t.Errorf("vni %d", n.VNI)
		}
		ctx := t.Context()
		for _, c := range []struct {
			n    Network
			kind model.Kind
			text string
		}{
			{net("ab", "app", "10.2.0.0/24"), model.Conflict, "network app: create: name app is taken by network app"},
			{net("aa", "other", "10.2.0.0/24"), model.Conflict, "id aa: network app has it"},
			{net("ab", "other", "10.0.0.0/8"), model.Conflict, "network other: create: subnet 10.0.0.0/8 overlaps 10.1.0.0/24 of network app"},
			{net("ab", "other", "10.2.0.0/24", "fd01::/72"), model.Conflict, "overlaps fd01::/64 of network app"},
			{Network{ID: "ab", Name: "other", VNI: FirstVNI, Subnets: net("", "", "10.2.0.0/24").Subnets}, model.Conflict, "vni 4096 is taken by network app"},
			{net("ab", "other"), model.Invalid, "subnet: missing"},
			{net("ab", "other", "10.2.0.0/24", "10.3.0.0/24"), model.Invalid, "second of its address family"},
			{net("a/b", "other", "10.2.0.0/24"), model.Invalid, "id"},
			{net("ab", "o/ther", "10.2.0.0/24"), model.Invalid, "name"},
		} {
			_, err := b.Create(ctx, c.n)
			fails(t, err, c.kind, c.text)
		}
		if o := b.create(net("ab", "other", "10.2.0.0/24")); o.VNI != FirstVNI+1 {
			t.Errorf("vni %d", o.VNI)
		}
		fails(t, a.Update(ctx, "ab", func(n *Network) error { n.Name = "app"; return nil }), model.Conflict, "name app is taken")
		if err := a.Update(ctx, "ab", func(n *Network) error {
			n.ID, n.Name, n.VNI, n.Labels = "zz", "renamed", 7, map[string]string{"a": "b"}
			return nil
		}); err != nil {
			t.Error(err)
		}
		quiet()
		if v := b.view(); v.Networks["ab"].Name != "renamed" || v.Networks["ab"].VNI != 7 || v.Networks["ab"].Labels["a"] != "b" || len(v.Problems) != 0 {
			t.Errorf("%+v", v)
		}
		e := b.claimed(end("aa", "e1"))
		b.Set([]Endpoint{e})
		fails(t, a.Remove(ctx, "aa"), model.InUse, "network app: remove: still used by box-e1 of host host2")
		b.Set(nil)
		quiet()
		for _, id := range []model.ID{"aa", "ab"} {
			if err := a.Remove(ctx, id); err != nil {
				t.Error(err)
			}
		}
		fails(t, a.Remove(ctx, "aa"), model.NotFound, "no such network")
		fails(t, a.Update(ctx, "aa", nil), model.NotFound, "no such network")
		_, err := a.Claim(ctx, end("aa", "e2"), nil)
		fails(t, err, model.NotFound, "no such network")
		quiet()
		if got := slices.Sorted(maps.Keys(content(t, m))); strings.Join(got, " ") != "hosts/n-1 hosts/n-2" {
			t.Errorf("left: %v", got)
		}
		if v := a.view(); len(v.Networks) != 0 || len(v.Hosts) != 2 || !v.Hosts["n-2"].Alive || v.Hosts["n-2"].Name != "host2" || !v.InTouch || !v.Known {
			t.Errorf("%+v", v)
		}
		b.stop()
		time.Sleep(TTL + time.Second)
		m.Pass(0)
		quiet()
		if v := a.view(); v.Hosts["n-2"].Alive || !v.Hosts["n-1"].Alive {
			t.Errorf("%+v", v.Hosts)
		}
	})
}

// TestAtOnce has eight hosts make the same network, overlapping ones, and ones that ask
// for any VNI, all at once.
func TestAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		var hosts []*host
		for i := range 8 {
			hosts = append(hosts, start(t, m, i+1))
		}
		quiet()
		var mu sync.Mutex
		made := map[string]int{}
		vnis := map[int]bool{}
		var wg sync.WaitGroup
		try := func(h *host, what string, n Network) {
			wg.Go(func() {
				n, err := h.Create(t.Context(), n)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					made[what]++
					vnis[n.VNI] = true
				} else {
					fails(t, err, model.Conflict, what)
				}
			})
		}
		for i, h := range hosts {
			try(h, "name", net(fmt.Sprintf("a%d", i), "same", fmt.Sprintf("10.%d.0.0/16", i)))
			try(h, "subnet", net(fmt.Sprintf("b%d", i), fmt.Sprintf("b%d", i), fmt.Sprintf("172.16.0.0/%d", 16+i)))
			try(h, "vni", net(fmt.Sprintf("c%d", i), fmt.Sprintf("c%d", i), fmt.Sprintf("10.%d.0.0/16", 100+i)))
		}
		wg.Wait()
		if made["name"] != 1 || made["subnet"] != 1 || made["vni"] != 8 || len(vnis) != 10 || !vnis[FirstVNI+9] {
			t.Errorf("%v, %d VNIs", made, len(vnis))
		}
	})
}

// TestRace has eight hosts claim two addresses each of a /28, all at once: 13 are free.
func TestRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		var hosts []*host
		for i := range 8 {
			hosts = append(hosts, start(t, m, i+1))
		}
		quiet()
		hosts[0].create(net("aa", "app", "10.1.0.0/28"))
		quiet()
		var mu sync.Mutex
		has := map[netip.Addr]string{}
		full := 0
		var wg sync.WaitGroup
		for i, h := range hosts {
			for j := range 2 {
				wg.Go(func() {
					id := fmt.Sprintf("e%d-%d", i, j)
					addrs, err := h.Claim(t.Context(), end("aa", id), nil)
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						full++
						fails(t, err, model.Exhausted, "network app: claim an address: subnet 10.1.0.0/28: no free address")
						return
					}
					if was := has[addrs[0]]; was != "" {
						t.Errorf("%s: %s and %s have it", addrs[0], was, id)
					}
					has[addrs[0]] = id
				})
			}
		}
		wg.Wait()
		if len(has) != 13 || full != 3 {
			t.Errorf("%d have one, %d none", len(has), full)
		}
	})
}

func TestClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a, b := start(t, m, 1), start(t, m, 2)
		quiet()
		a.create(net("aa", "app", "10.1.0.0/29"))
		a.Set(nil)
		b.Set(nil)
		e := a.claimed(end("aa", "e1", "10.1.0.2"))
		if again := a.claimed(e); !slices.Equal(again.Addrs, e.Addrs) {
			t.Errorf("again: %v", again.Addrs)
		}
		ctx := t.Context()
		for text, kind := range map[string]model.Kind{
			"10.1.0.2 is taken by box-e1 of host host1": model.Conflict,
			"10.1.0.1 is the gateway":                   model.Conflict,
			"10.2.0.1 is not of the network":            model.Invalid,
			"10.1.0.7 is the network or broadcast":      model.Invalid,
		} {
			addr, _, _ := strings.Cut(text, " ")
			_, err := b.Claim(ctx, end("aa", "e2"), these(netip.MustParseAddr(addr)))
			fails(t, err, kind, strings.Replace(text, " ", ": ", 1))
		}
		quiet()
		_, err := a.Claim(ctx, end("aa", "e2"), these(netip.MustParseAddr("10.1.0.2")))
		fails(t, err, model.Conflict, "taken by box-e1 of host host1")
		if got := b.claimed(end("aa", "e2")).Addrs[0].String(); got != "10.1.0.3" {
			t.Errorf("the lowest is %s", got)
		}
		quiet()
		if v := b.view().Networks["aa"]; len(v.Endpoints) != 2 || v.Endpoints[0].Host != "n-1" || v.Endpoints[1].ID != "e2" {
			t.Errorf("%+v", v)
		}
		// Nobody's Set knows of the claims: they go after a while, and the addresses rest.
		time.Sleep(Hold + time.Second)
		quiet()
		if c := content(t, m); len(c) != 7 || c["addresses/aa/10.1.0.2"] != `{"host":"n-1"}` || c["addresses/aa/10.1.0.3"] != `{"host":"n-2"}` {
			t.Errorf("%v", c)
		}
		_, err = b.Claim(ctx, end("aa", "e3"), these(e.Addrs...))
		fails(t, err, model.Conflict, "taken by host host1, which had it until lately")
		a.claimed(end("aa", "e3", "10.1.0.2"))
		a.Unclaim("aa", "e3")
		quiet()
		if _, there := content(t, m)["addresses/aa/10.1.0.2"]; there {
			t.Error("10.1.0.2 rests, though nobody had it")
		}
		b.claimed(end("aa", "e3", "10.1.0.2"))
		// Three are left, of which one rests at b: it is the last that b gets.
		for _, want := range []string{"10.1.0.4", "10.1.0.5", "10.1.0.6", "10.1.0.3"} {
			if got := b.claimed(end("aa", "f"+want[7:])).Addrs[0].String(); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
	})
}

// TestRest has an address rest until its time is over, and no longer.
func TestRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a, b := start(t, m, 1), start(t, m, 2)
		quiet()
		a.create(net("aa", "app", "10.1.0.0/24"))
		e := a.claimed(end("aa", "e1"))
		a.Set([]Endpoint{e})
		quiet()
		a.Set(nil)
		quiet()
		if _, err := b.Claim(t.Context(), end("aa", "e2"), these(e.Addrs...)); err == nil {
			t.Error("it is free at once")
		}
		time.Sleep(Rest)
		m.Pass(0)
		b.claimed(end("aa", "e2", e.Addrs[0].String()))
	})
}

// TestStart has a daemon begin anew: until it says what there is, nothing goes.
func TestStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := start(t, m, 1)
		quiet()
		a.create(net("aa", "app", "10.1.0.0/24"))
		e, o := a.claimed(end("aa", "e1")), a.claimed(end("aa", "e2"))
		a.Set([]Endpoint{e, o})
		quiet()
		a.stop()
		before := content(t, m)
		a = start(t, m, 1)
		time.Sleep(time.Hour)
		if after := content(t, m); !maps.Equal(before, after) {
			t.Errorf("%v became %v", before, after)
		}
		o.Names = []string{"web"}
		a.Set([]Endpoint{o})
		quiet()
		after := content(t, m)
		if after["endpoints/aa/n-1/e1"] != "" || after["addresses/aa/10.1.0.2"] != `{"host":"n-1"}` ||
			after["endpoints/aa/n-1/e2"] != `{"id":"e2","addrs":["10.1.0.3"],"mac":"02:42:0a:00:00:01","sandbox":{"id":"","name":"box-e2"},"names":["web"]}` {
			t.Errorf("%v", after)
		}
	})
}

// TestGone has a host vanish, and another take what it left.
func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a, b := start(t, m, 1), start(t, m, 2)
		quiet()
		a.create(net("aa", "app", "10.1.0.0/24"))
		e := b.claimed(end("aa", "e1"))
		b.Set([]Endpoint{e})
		quiet()
		b.stop()
		before := content(t, m)
		if err := Forget(t.Context(), m, prefix, "n-2"); err != nil {
			t.Fatal(err)
		}
		for k := range content(t, m) {
			if strings.Contains(k, "n-2") || strings.HasPrefix(k, "addresses/") {
				t.Errorf("left: %s", k)
			}
		}
		for _, k := range []string{"addresses/aa/10.1.0.2", "endpoints/aa/n-2/e1"} { // somebody was too late
			put(t, m, k, before[k])
		}
		quiet()
		a.claimed(end("aa", "e2", "10.1.0.2"))
		if got := content(t, m)["addresses/aa/10.1.0.2"]; got != `{"host":"n-1","endpoint":"e2"}` {
			t.Error(got)
		}
		a.Unclaim("aa", "e2")
		a.Set(nil)
		quiet()
		if err := a.Remove(t.Context(), "aa"); err != nil {
			t.Error(err)
		}
		if got := slices.Sorted(maps.Keys(content(t, m))); strings.Join(got, " ") != "hosts/n-1" {
			t.Errorf("left: %v", got)
		}
	})
}

// TestAway has the store be away, and come back.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a, b := start(t, m, 1), start(t, m, 2)
		quiet()
		a.create(net("aa", "app", "10.1.0.0/24"))
		e, o := a.claimed(end("aa", "e1")), a.claimed(end("aa", "e2"))
		a.Set([]Endpoint{e, o})
		quiet()
		a.way.SetAway(true)
		quiet()
		if v := a.view(); v.InTouch || v.LastError == "" || len(v.Networks["aa"].Endpoints) != 2 {
			t.Errorf("%+v", v)
		}
		_, err := a.Claim(t.Context(), end("aa", "e3"), nil)
		fails(t, err, model.Internal, "network app: claim an address: store in memory: commit: the store does not answer")
		if !away(err) {
			t.Error(err)
		}
		_, err = a.Create(t.Context(), net("ab", "more", "10.2.0.0/24"))
		fails(t, err, model.Internal, "network more: create: store in memory")
		a.Set([]Endpoint{o})
		time.Sleep(time.Hour)
		if c := content(t, m); c["endpoints/aa/n-1/e1"] == "" {
			t.Errorf("%v", c)
		}
		if v := b.view(); v.Hosts["n-1"].Alive {
			t.Error("it is alive")
		}
		a.way.SetAway(false)
		time.Sleep(10 * time.Second)
		quiet()
		if c := content(t, m); c["endpoints/aa/n-1/e1"] != "" || c["endpoints/aa/n-1/e2"] == "" || c["addresses/aa/10.1.0.2"] != `{"host":"n-1"}` {
			t.Errorf("%v", c)
		}
		if v := b.view(); !v.Hosts["n-1"].Alive || len(v.Networks["aa"].Endpoints) != 1 {
			t.Errorf("%+v", v)
		}
	})
}

// TestRestored has an old copy of the store come back: what it lacks is put again,
// what it has too much goes, and an address that two have is told of by who lost it.
func TestRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a, b := start(t, m, 1), start(t, m, 2)
		quiet()
		a.create(net("aa", "app", "10.1.0.0/24"))
		gone := b.claimed(end("aa", "e0", "10.1.0.9"))
		b.Set([]Endpoint{gone})
		quiet()
		old := m.Save()
		b.Set(nil)
		time.Sleep(2 * Rest)
		e, o := a.claimed(end("aa", "e1", "10.1.0.9")), b.claimed(end("aa", "e2"))
		a.Set([]Endpoint{e})
		b.Set([]Endpoint{o})
		quiet()
		want := content(t, m)
		m.Restore(old)
		if _, err := a.Claim(t.Context(), end("aa", "e3"), these(o.Addrs...)); err == nil {
			t.Error("the address of another that is about to put it again")
		}
		time.Sleep(2 * time.Minute) // the leftover rests, then a has it again
		m.Pass(0)
		quiet()
		if got := content(t, m); !maps.Equal(got, want) {
			t.Errorf("%v\nwant %v", got, want)
		}
		if v := a.view(); v.Restored.IsZero() || len(v.Problems) != 0 || len(v.Networks["aa"].Endpoints) != 2 {
			t.Errorf("%+v", v)
		}

		put(t, m, "addresses/aa/10.1.0.9", `{"host":"n-2","endpoint":"e2"}`)
		o.Addrs = append(o.Addrs, netip.MustParseAddr("10.1.0.9"))
		b.Set([]Endpoint{o})
		quiet()
		problem := "addresses/aa/10.1.0.9: box-e1 of this host has it too; it is claimed by box-e2 of host host2"
		if v := a.view(); len(v.Problems) != 1 || v.Problems[0] != problem {
			t.Errorf("%q", v.Problems)
		}
		if c := content(t, m); c["addresses/aa/10.1.0.9"] != `{"host":"n-2","endpoint":"e2"}` || strings.Contains(c["endpoints/aa/n-1/e1"], "10.1.0.9") {
			t.Errorf("%v", c)
		}
		b.Set(nil)
		time.Sleep(2 * Rest)
		m.Pass(0)
		quiet()
		if v := a.view(); len(v.Problems) != 0 || content(t, m)["addresses/aa/10.1.0.9"] != `{"host":"n-1","endpoint":"e1"}` {
			t.Errorf("%q: %v", v.Problems, content(t, m))
		}
	})
}

// TestWiped has the store begin anew: a network that somebody is on is put again with what
// it claims, and one that nobody is on is gone.
func TestWiped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a, b := start(t, m, 1), start(t, m, 2)
		quiet()
		app, idle := a.create(net("aa", "app", "10.1.0.0/24")), a.create(net("bb", "idle", "10.2.0.0/24"))
		a.Keep([]Network{app, idle})
		b.Keep([]Network{app, idle})
		a.Set([]Endpoint{a.claimed(end("aa", "e1"))})
		b.Set([]Endpoint{b.claimed(end("aa", "e2"))})
		quiet()
		was := content(t, m)
		for _, k := range []string{"networks/bb", "names/idle", "vnis/4097"} {
			if was[k] == "" {
				t.Fatalf("%v", was)
			}
			delete(was, k)
		}
		m.Wipe()
		for range 5 {
			quiet()
		}
		if c := content(t, m); !maps.Equal(c, was) {
			t.Errorf("there is %v, want %v", c, was)
		}
		time.Sleep(2 * cluster.Grace)
		if v := b.view(); len(v.Problems) != 0 || v.Networks["aa"] == nil || len(v.Networks["aa"].Endpoints) != 2 || v.Networks["bb"] != nil {
			t.Errorf("%+v", v)
		}
	})
}

// TestNonsense has others put what is none: it is told of, and the rest is as it was.
func TestNonsense(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := start(t, m, 1)
		quiet()
		a.create(net("aa", "app", "10.1.0.0/24"))
		e := a.claimed(end("aa", "e1"))
		a.Set([]Endpoint{e})
		quiet()
		for k, v := range map[string]string{
			"networks/aa": "{", "networks/bb": `{"id":"aa"}`, "networks/../x": "{}", "hosts/n-9": "[]", "addresses/aa/10.1.0.2": "mine", "addresses/aa/10.1.0.99": "1",
			"addresses/aa/010.1.0.3": "{}", "endpoints/aa/n-9/e9": `{"id":"e9","mac":"02:00:00:00:00:01","addrs":["10.9.0.1"]}`, "endpoints/aa/n-9/e8": `{"id":"e9"}`,
			"later/things": "are of a newer version", "vnis/0": "aa", "endpoints/zz/n-9/e1": `{"id":"e1","mac":"02:00:00:00:00:01"}`,
		} {
			put(t, m, k, v)
		}
		quiet()
		v := a.view()
		if p := v.Networks["aa"]; p == nil || p.Name != "app" || len(p.Endpoints) != 1 || len(v.Networks) != 1 || len(v.Hosts) != 1 {
			t.Errorf("%+v", v)
		}
		if text := strings.Join(v.Problems, "\n"); len(v.Problems) != 9 || strings.Contains(text, "later") || !strings.Contains(text, "endpoints/aa/n-9/e9: address 10.9.0.1: is not of network app") {
			t.Errorf("%s", text)
		}
		if got := content(t, m)["addresses/aa/10.1.0.2"]; got != `{"host":"n-1","endpoint":"e1"}` {
			t.Errorf("its claim: %s", got)
		}
		put(t, m, "networks/aa", `{"id":"aa","name":"app","vni":4096,"subnets":[{"prefix":"10.0.0.0/8","gateway":""}],"later":{"x":1}}`)
		quiet()
		if v := a.view(); len(v.Networks["aa"].Endpoints) != 2 || len(v.Problems) != 7 {
			t.Errorf("%+v", v)
		}
		if err := a.Update(t.Context(), "aa", func(n *Network) error { n.Internal = true; return nil }); err != nil {
			t.Error(err)
		}
		if got := content(t, m)["networks/aa"]; !strings.Contains(got, `"later":{"x":1}`) || !strings.Contains(got, `"internal":true`) {
			t.Errorf("what a newer version wrote: %s", got)
		}
	})
}

// TestSharing has a View share what did not change.
func TestSharing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a, b := start(t, m, 1), start(t, m, 2)
		quiet()
		a.create(net("aa", "app", "10.1.0.0/16"))
		a.create(net("bb", "more", "10.2.0.0/16"))
		var own []Endpoint
		for i := range 200 {
			own = append(own, end("aa", fmt.Sprintf("e%03d", i), fmt.Sprintf("10.1.1.%d", i+1)))
		}
		a.Set(own)
		quiet()
		before := b.view()
		if len(before.Networks["aa"].Endpoints) != 200 {
			t.Fatalf("%d endpoints", len(before.Networks["aa"].Endpoints))
		}
		own[100].Names = []string{"new"}
		a.Set(append(own[:50:50], own[51:]...))
		quiet()
		after := b.view()
		if after.Networks["bb"] != before.Networks["bb"] || after.Networks["aa"].Rev == before.Networks["aa"].Rev || len(before.Networks["aa"].Endpoints) != 200 {
			t.Error("what did not change is another")
		}
		same, list := 0, after.Networks["aa"].Endpoints
		for _, e := range list {
			if slices.Contains(before.Networks["aa"].Endpoints, e) {
				same++
			}
		}
		if len(list) != 199 || same != 198 || !slices.IsSortedFunc(list, func(a, b *Endpoint) int { return byEndpoint(a.Key(), b.Key()) }) {
			t.Errorf("%d, %d are the same", len(list), same)
		}
		views := b.views
		time.Sleep(time.Hour)
		synctest.Wait()
		if b.views != views {
			t.Errorf("%d views in an hour of nothing", b.views-views)
		}
	})
}
