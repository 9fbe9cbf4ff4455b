package overlay

import (
	"context"
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

// published is a service of the tests that publishes ports, each as model.ParsePublish has it.
func published(network, name string, ports ...string) Service {
	s := offer(network, name)
	for _, text := range ports {
		p, err := model.ParsePublish(text)
		if err != nil {
			panic(err)
		}
		s.Publish = append(s.Publish, p...)
	}
	return s
}

// portsOf are the claims of published ports in a store: "tcp/8080=web of aa".
func portsOf(t *testing.T, m *cluster.Memory) string {
	t.Helper()
	all := content(t, m)
	var out []string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if port, ok := strings.CutPrefix(k, "ports/"); ok {
			c, err := ParsePortClaim([]byte(all[k]))
			out = append(out, fmt.Sprintf("%s=%s/%s", port, c.Network, c.Service))
			if err != nil {
				t.Errorf("%s: %v", k, err)
			}
		}
	}
	return strings.Join(out, " ")
}

// TestPublish: a port is one service's, on whatever network, as long as that has it.
func TestPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a, b := start(t, m, 1), start(t, m, 2)
		ctx := t.Context()
		quiet()
		a.create(net("aa", "app", "10.1.0.0/24"))
		a.create(net("bb", "more", "10.2.0.0/24"))
		inner := net("cc", "inner", "10.3.0.0/24")
		inner.Internal = true
		a.create(inner)
		quiet()
		s, err := a.CreateService(ctx, published("aa", "Shop", "8080:80", "192.0.2.1:8081:80,mode=host"), nil)
		if err != nil || len(s.Publish) != 2 {
			t.Fatalf("%+v, %v", s, err)
		}
		_, err = b.CreateService(ctx, published("bb", "web", "9000:80", "192.0.2.2:8080:80"), nil)
		fails(t, err, model.Conflict, "service web: create: port 8080/tcp: service Shop of network app has it")
		_, err = b.CreateService(ctx, published("cc", "web", "9000:80"), nil)
		fails(t, err, model.Invalid, "service web: create: publish 9000:80/tcp: its network is internal")
		if got := portsOf(t, m); got != "tcp/8080=aa/shop tcp/8081=aa/shop" {
			t.Errorf("claimed: %s", got)
		}
		if _, err = b.CreateService(ctx, published("bb", "web", "9000:80"), nil); err != nil {
			t.Fatal(err)
		}
		_, err = a.UpdateService(ctx, "bb", "web", func(s *Service) error { s.Publish[0].Port = 8081; return nil })
		fails(t, err, model.Conflict, "service web: update: port 8081/tcp: service Shop of network app has it")

		// What one gives back another gets.
		if _, err = b.UpdateService(ctx, "aa", "shop", func(s *Service) error { s.Publish = s.Publish[:1]; return nil }); err != nil {
			t.Error(err)
		}
		put, err := a.UpdateService(ctx, "bb", "web", func(s *Service) error { s.Publish[0].Port, s.Nearby = 8081, true; return nil })
		if got := portsOf(t, m); err != nil || !put.Nearby || got != "tcp/8080=aa/shop tcp/8081=bb/web" {
			t.Errorf("claimed: %s, %v", got, err)
		}
		if err := b.RemoveService(ctx, "aa", "Shop"); err != nil {
			t.Error(err)
		}
		if got := portsOf(t, m); got != "tcp/8081=bb/web" {
			t.Errorf("claimed: %s", got)
		}
		quiet()
		if v := a.view(); len(v.Problems) != 0 || !slices.EqualFunc(v.Networks["bb"].Services[0].Publish, put.Publish, same) {
			t.Errorf("%+v", v)
		}
	})
}

// TestPortClaims: what is claimed for no service, or for one that does not publish it, is
// anybody's.
func TestPortClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := start(t, m, 1)
		quiet()
		a.create(net("aa", "app", "10.1.0.0/24"))
		if _, err := a.CreateService(t.Context(), offer("aa", "old"), nil); err != nil {
			t.Fatal(err)
		}
		put(t, m, "ports/tcp/8080", `{"network":"aa","service":"gone"}`)
		put(t, m, "ports/tcp/8081", `{"network":"aa","service":"old"}`)
		put(t, m, "ports/tcp/8082", `nonsense`)
		put(t, m, "ports/tcp/8083", `{"network":"aa","service":"Old"}`)
		quiet()
		if v := a.view(); len(v.Problems) != 2 {
			t.Errorf("%v", v.Problems)
		}
		_, err := a.CreateService(t.Context(), published("aa", "web", "8080:80", "8081:80", "8082:80", "8083:80"), nil)
		if got := portsOf(t, m); err != nil || got != "tcp/8080=aa/web tcp/8081=aa/web tcp/8082=aa/web tcp/8083=aa/web" {
			t.Errorf("claimed: %s, %v", got, err)
		}
		quiet()
		if v := a.view(); len(v.Problems) != 0 {
			t.Errorf("%v", v.Problems)
		}
	})
}

// TestPublishRaces has services of two networks on eight hosts want one port.
func TestPublishRaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		var hosts []*host
		for i := range 8 {
			hosts = append(hosts, start(t, m, i+1))
		}
		quiet()
		hosts[0].create(net("aa", "app", "10.1.0.0/24"))
		hosts[0].create(net("bb", "more", "10.2.0.0/24"))
		for i, h := range hosts {
			if _, err := h.CreateService(t.Context(), offer([]string{"aa", "bb"}[i%2], fmt.Sprint("x", i)), nil); err != nil {
				t.Fatal(err)
			}
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		won := map[string]int{}
		for i, h := range hosts {
			network := []string{"aa", "bb"}[i%2]
			count := func(how string, err error) {
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won[how]++
				} else {
					fails(t, err, model.Conflict, "port 8080/tcp: service ")
				}
			}
			wg.Go(func() {
				_, err := h.CreateService(t.Context(), published(network, fmt.Sprint("y", i), "8080:80"), nil)
				count("made", err)
			})
			wg.Go(func() {
				_, err := h.UpdateService(t.Context(), model.ID(network), fmt.Sprint("x", i), func(s *Service) error {
					s.Publish = published(network, "x", "8080:80").Publish
					return nil
				})
				count("changed", err)
			})
		}
		wg.Wait()
		if won["made"]+won["changed"] != 1 {
			t.Errorf("%v", won)
		}
	})
}

// TestHeld: what a container of any host holds no service gets.
func TestHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a, b := start(t, m, 1), start(t, m, 2)
		ctx := t.Context()
		quiet()
		a.create(net("aa", "app", "10.1.0.0/24"))
		local := netip.MustParseAddr("192.0.2.2")
		b.SetHeld([]Held{{First: 8080, Last: 8080, Proto: "tcp", By: "db"}, {Addr: local, First: 90, Last: 99, Proto: "udp", By: "many"}})
		quiet()
		if got := content(t, m)["held/n-2"]; got != `{"ports":{"192.0.2.2:90-99/udp":"many","8080/tcp":"db"}}` {
			t.Errorf("b says %s", got)
		}
		for _, h := range []*host{a, b} {
			_, err := h.CreateService(ctx, published("aa", "web", "8080:80,mode=host"), nil)
			fails(t, err, model.Conflict, "service web: create: port 8080/tcp: container db of host host2 has it")
		}
		s := published("aa", "web", "8080:80")
		s.Publish[0].Addrs = []netip.Addr{local}
		_, err := a.CreateService(ctx, s, nil)
		fails(t, err, model.Conflict, "container db of host host2")
		s = offer("aa", "web")
		s.Ports = append(s.Ports, model.ServicePort{Port: 53, Proto: "udp"})
		if _, err := a.CreateService(ctx, s, nil); err != nil {
			t.Fatal(err)
		}
		add := func(text string) error {
			_, err := a.UpdateService(ctx, "aa", "web", func(s *Service) error {
				s.Publish = append(s.Publish, published("aa", "web", text).Publish...)
				return nil
			})
			return err
		}
		fails(t, add("95:53/udp"), model.Conflict, "service web: update: port 95/udp: container many of host host2 has it")
		for _, text := range []string{"192.0.2.7:95:53/udp", "100:53/udp", "90:80/tcp"} {
			if err := add(text); err != nil {
				t.Errorf("%s: %v", text, err)
			}
		}
		// What it has it keeps, whoever comes after it.
		b.SetHeld([]Held{{First: 100, Last: 100, Proto: "udp", By: "late"}})
		quiet()
		if err := add("101:53/udp"); err != nil {
			t.Error(err)
		}
		b.SetHeld(nil)
		quiet()
		if got, there := content(t, m)["held/n-2"]; there {
			t.Errorf("b says %s", got)
		}
		if err := add("8080:80"); err != nil {
			t.Error(err)
		}
		b.SetHeld([]Held{{First: 1, Last: 2, Proto: "tcp"}})
		quiet()
		b.stop()
		if err := Forget(ctx, m.Another(), prefix, "n-2"); err != nil {
			t.Error(err)
		}
		for k := range content(t, m) {
			if strings.Contains(k, "n-2") {
				t.Errorf("left: %s", k)
			}
		}
	})
}

func TestHeldRecords(t *testing.T) {
	var many []Held
	for i := range 3000 {
		many = append(many, Held{First: uint16(i + 1), Last: uint16(i + 1), Proto: "tcp", By: strings.Repeat("x", 100)})
	}
	text := marshalHeld(many)
	if got, err := ParseHeld(text); err != nil || len(got) < 1000 || len(text) > 32<<10 || got[0].By != "" {
		t.Errorf("%d of %d in %d bytes: %v", len(got), len(many), len(text), err)
	}
	for text, want := range map[string]string{
		`{"ports":{"80/tcp":"a","81-90/udp":"b","192.0.2.1:1/sctp":"","[fd01::1]:2-3/tcp":"c"}}`: "", `{}`: "", `[]`: "no JSON object", `{"ports":{"0/tcp":""}}`: "port",
		`{"ports":{"80":""}}`: "port", `{"ports":{"9-8/tcp":""}}`: "port", `{"ports":{"80-80/tcp":""}}`: "port", `{"ports":{"80/icmp":""}}`: "port", `{"ports":{"x:80/tcp":""}}`: "port",
		`{"ports":{"80/tcp":"a\nb"}}`: "name", `{"ports":{"80/tcp":5}}`: "", `{"ports":{"080/tcp":""}}`: "port", `{"ports":{"70000/tcp":""}}`: "port",
	} {
		_, err := ParseHeld([]byte(text))
		if text == `{"ports":{"80/tcp":5}}` && err != nil {
			continue
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestWipedPorts has the store begin anew: services are put again with their ports, but
// those that another has got since.
func TestWipedPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := start(t, m, 1)
		quiet()
		app := a.create(net("aa", "app", "10.1.0.0/24"))
		s, err := a.CreateService(t.Context(), published("aa", "web", "8080:80", "8081:80"), nil)
		if err != nil {
			t.Fatal(err)
		}
		kept := s
		kept.Publish = slices.Clone(s.Publish)
		kept.Publish[0].Taken = "container db has it"
		a.Keep([]Network{app})
		a.KeepServices(map[model.ID][]*model.Service{"aa": {&kept.Service}})
		a.Set([]Endpoint{a.claimed(end("aa", "e1"))})
		quiet()
		was := content(t, m)
		m.Wipe()
		for range 5 {
			quiet()
		}
		if c := content(t, m); !maps.Equal(c, was) {
			t.Errorf("there is %v, want %v", c, was)
		}
		a.stop()
		m.Wipe()
		other := start(t, m, 2)
		quiet()
		more := net("bb", "more", "10.2.0.0/24")
		more.VNI = 5000
		other.create(more)
		if _, err := other.CreateService(t.Context(), published("bb", "shop", "8080:80"), nil); err != nil {
			t.Fatal(err)
		}
		a = start(t, m, 1)
		a.Keep([]Network{app})
		a.KeepServices(map[model.ID][]*model.Service{"aa": {&kept.Service}})
		e := end("aa", "e1")
		e.Addrs = []netip.Addr{netip.MustParseAddr("10.1.0.3")}
		a.Set([]Endpoint{e})
		for range 5 {
			quiet()
		}
		if got := portsOf(t, m); got != "tcp/8080=bb/shop tcp/8081=aa/web" {
			t.Errorf("claimed: %s", got)
		}
		if got := a.view().Networks["aa"].Services[0].Publish; len(got) != 1 || got[0].Port != 8081 {
			t.Errorf("%+v", got)
		}
	})
}

// numbersIn are the claimed numbers in a store, and whose they are.
func numbersIn(t *testing.T, m *cluster.Memory) map[string][]string {
	t.Helper()
	s, err := m.Another().List(t.Context(), prefix+"/numbers/")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, e := range s.Entries {
		out[string(e.Value)] = append(out[string(e.Value)], strings.TrimPrefix(e.Key, prefix+"/numbers/"))
	}
	return out
}

// checkNumbers wants each host to have one number, no two the same, and everybody to know.
func checkNumbers(t *testing.T, m *cluster.Memory, hosts []*host) {
	t.Helper()
	has := numbersIn(t, m)
	for _, h := range hosts {
		own := has[h.o.ID]
		for _, other := range hosts {
			if got := other.view().Hosts[h.o.ID].Number; len(own) != 1 || fmt.Sprint(got) != own[0] {
				t.Errorf("%s has numbers %v, and %s knows %d", h.o.ID, own, other.o.ID, got)
			}
		}
	}
}

// TestNumbers: each host has a number, which outlives its daemon, its life, and the store.
func TestNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		var hosts []*host
		for i := range 3 {
			hosts = append(hosts, start(t, m, i+1))
			quiet()
		}
		want := map[string][]string{"n-1": {"1"}, "n-2": {"2"}, "n-3": {"3"}}
		is := func(what string) {
			t.Helper()
			checkNumbers(t, m, hosts)
			if got := numbersIn(t, m); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		is("one after the other")
		hosts[1].stop()
		time.Sleep(time.Hour)
		m.Pass(0)
		quiet()
		is("one is dead")
		hosts[1] = start(t, m, 2)
		for range 5 {
			quiet()
		}
		is("it is back")

		// One that is no more gives its number back, and a new host gets it.
		hosts[1].stop()
		if err := Forget(t.Context(), m.Another(), prefix, "n-2"); err != nil {
			t.Error(err)
		}
		hosts[1] = start(t, m, 4)
		for range 5 {
			quiet()
		}
		want["n-4"] = want["n-2"]
		delete(want, "n-2")
		is("another in its place")

		// A store that begins anew is told the same.
		m.Wipe()
		for range 5 {
			quiet()
		}
		time.Sleep(2 * cluster.Grace)
		quiet()
		is("the store begins anew")

		// What nobody can mean is put right; what others claim is theirs.
		put(t, m, "numbers/7", "n-1")
		put(t, m, "numbers/8", "no host")
		put(t, m, "hosts/n-3", `{"id":"n-3","name":"host3","number":1}`)
		for range 5 {
			quiet()
		}
		remove(t, m, "numbers/8")
		quiet()
		is("nonsense")
		put(t, m, "numbers/1", "n-3")
		for range 30 {
			quiet()
		}
		checkNumbers(t, m, hosts)
		put(t, m, "hosts/n-9", `{"id":"n-9","name":"host9","number":1}`)
		quiet()
		if p := hosts[0].view().Hosts["n-9"]; p.Number != 0 || p.Name != "host9" {
			t.Errorf("a number that another has: %+v", p)
		}
	})
}

// partial is a store that lists all or nothing.
type partial struct{ cluster.Store }

func (p *partial) List(ctx context.Context, under string) (cluster.Snapshot, error) {
	if under != prefix+"/" {
		return cluster.Snapshot{}, cluster.ErrAway
	}
	return p.Store.List(ctx, under)
}

// TestNumberStays: a daemon that starts again says the number that its host has, also while
// it could claim none.
func TestNumberStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a, b := start(t, m, 1), start(t, m, 2)
		quiet()
		was := b.view().Hosts["n-1"].Number
		a.stop()
		start(t, m, 1, func(o *Options) { o.Store = &partial{m.Another()} })
		quiet()
		if got := b.view().Hosts["n-1"].Number; got != was || was == 0 {
			t.Errorf("it has number %d, and had %d", got, was)
		}
	})
}

// TestNumberRaces has many hosts begin at once.
func TestNumberRaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		var hosts []*host
		for i := range 40 {
			hosts = append(hosts, start(t, m, i+1))
		}
		for range 20 {
			quiet()
		}
		checkNumbers(t, m, hosts)
	})
}

// TestAllNumbers: who comes when there is none left goes on without.
func TestAllNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		put(t, m, "hosts/n-9", `{"id":"n-9","name":"host9"}`)
		for n := range model.MaxHostNumber {
			put(t, m, fmt.Sprintf("numbers/%d", n+1), "n-9")
		}
		a := start(t, m, 1)
		quiet()
		if v := a.view(); v.Hosts["n-1"].Number != 0 || len(v.Problems) != 1 || !strings.Contains(v.Problems[0], "hosts/n-1: 4095 hosts have numbers: none is free") {
			t.Errorf("%+v", v)
		}
		remove(t, m, "numbers/77")
		time.Sleep(2 * numberRetry)
		quiet()
		if v := a.view(); v.Hosts["n-1"].Number != 77 || len(v.Problems) != 0 {
			t.Errorf("%+v", v)
		}
	})
}
