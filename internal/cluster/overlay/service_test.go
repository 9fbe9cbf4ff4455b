package overlay

import (
	"encoding/json"
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

// offer is a service of the tests.
func offer(network, name string) Service {
	return Service{Network: model.ID(network), Service: model.Service{ID: model.ID("s-" + strings.ToLower(name)), Name: name, Ports: []model.ServicePort{{Port: 80, Proto: "tcp"}}}}
}

func TestServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a, b := start(t, m, 1), start(t, m, 2)
		ctx := t.Context()
		quiet()
		a.create(net("aa", "app", "10.1.0.0/28", "fd01::/64"))
		e := b.claimed(end("aa", "e1", "10.1.0.2", "fd01::2"))
		e.Names, e.Services = []string{"box", "Desk", "web"}, []Membership{{Name: "web"}} // a backend may be called as its service is
		b.Set([]Endpoint{e})
		quiet()

		// It has the lowest free addresses, and each host knows it.
		s, err := a.CreateService(ctx, offer("aa", "Web"), nil)
		if err != nil || fmt.Sprint(s.VIPs) != "[10.1.0.3 fd01::3]" {
			t.Fatalf("%+v, %v", s, err)
		}
		quiet()
		if got := b.view().Networks["aa"].Services; len(got) != 1 || got[0].Name != "Web" || !slices.Equal(got[0].VIPs, s.VIPs) {
			t.Errorf("b knows %+v", got)
		}
		again := offer("aa", "wEB")
		again.ID = "s-2"
		_, err = b.CreateService(ctx, again, nil)
		fails(t, err, model.Conflict, "service wEB: create: network app has a service of that name")
		_, err = a.CreateService(ctx, offer("aa", "desk"), nil)
		fails(t, err, model.Conflict, "service desk: create: box-e1 of host host2 is asked for by that name on network app")
		_, err = a.CreateService(ctx, offer("zz", "api"), nil)
		fails(t, err, model.NotFound, "no such network")
		_, err = a.CreateService(ctx, offer("aa", "api"), these(netip.MustParseAddr("10.1.0.2")))
		fails(t, err, model.Conflict, "address 10.1.0.2: is taken by box-e1 of host host2")
		_, err = b.Claim(ctx, end("aa", "e2"), these(s.VIPs...))
		fails(t, err, model.Conflict, "address 10.1.0.3: is taken by service web")
		got, err := b.Claim(ctx, end("aa", "e2"), nil)
		if fmt.Sprint(got) != "[10.1.0.4 fd01::4]" {
			t.Errorf("%v, %v", got, err)
		}
		b.Unclaim("aa", "e2")

		// Any host changes it; what cannot change stays.
		put, err := b.UpdateService(ctx, "aa", "WEB", func(s *Service) error {
			s.ID, s.Name, s.VIPs, s.Balance, s.Draining = "zz", "other", nil, model.BalanceHash, []model.ID{"e1", "e1", "none"}
			return nil
		})
		if err != nil || put.ID != s.ID || put.Name != "Web" || len(put.VIPs) != 2 || put.Balance != model.BalanceHash || fmt.Sprint(put.Draining) != "[e1]" {
			t.Errorf("%+v, %v", put, err)
		}
		_, err = a.UpdateService(ctx, "aa", "web", func(s *Service) error { s.Ports = nil; return nil })
		fails(t, err, model.Invalid, "service Web: update: port: missing")
		_, err = a.UpdateService(ctx, "aa", "api", nil)
		fails(t, err, model.NotFound, "no such service")

		// The network stays with it. Its addresses rest when it goes.
		b.Set(nil)
		quiet()
		fails(t, b.Remove(ctx, "aa"), model.InUse, "network app: remove: still used by service web")
		if err := b.RemoveService(ctx, "aa", "web"); err != nil {
			t.Error(err)
		}
		fails(t, b.RemoveService(ctx, "aa", "web"), model.NotFound, "no such service")
		_, err = a.Claim(ctx, end("aa", "e3"), these(s.VIPs...))
		fails(t, err, model.Conflict, "is taken by host host2, which had it until lately")
		quiet()
		if got := a.view().Networks["aa"].Services; len(got) != 0 {
			t.Errorf("a knows %+v", got)
		}
		time.Sleep(2 * Rest)
		if _, err := a.Claim(ctx, end("aa", "e3"), these(s.VIPs...)); err != nil {
			t.Error(err)
		}
		a.Unclaim("aa", "e3")
		r := offer("aa", "rr")
		r.DNSRR = true
		if r, err = a.CreateService(ctx, r, nil); err != nil || len(r.VIPs) != 0 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// TestServiceRaces has eight hosts make services at once: one of each name, no two with
// one address, and as many as there are addresses.
func TestServiceRaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		var hosts []*host
		for i := range 8 {
			hosts = append(hosts, start(t, m, i+1))
		}
		quiet()
		hosts[0].create(net("aa", "app", "10.1.0.0/28"))
		var mu sync.Mutex
		var wg sync.WaitGroup
		made, left := map[netip.Addr]string{}, map[model.Kind]int{}
		for i, h := range hosts {
			for _, name := range []string{"web", fmt.Sprint("x", i), fmt.Sprint("y", i)} {
				wg.Go(func() {
					s := offer("aa", name)
					s.ID = model.ID(fmt.Sprint(name, "-", i))
					s, err := h.CreateService(t.Context(), s, nil)
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						left[model.KindOf(err)]++
						return
					}
					if other := made[s.VIPs[0]]; other != "" {
						t.Errorf("%s is of %s and %s", s.VIPs[0], other, name)
					}
					made[s.VIPs[0]] = name
				})
			}
		}
		wg.Wait()
		if len(made) != 13 || left[model.Conflict]+left[model.Exhausted] != 24-13 || left[model.Conflict] < 1 {
			t.Errorf("%v, and %v", made, left)
		}
	})
}

// TestRestoredServices: what was made after a copy is lost with it, and what is put again
// takes no service's address.
func TestRestoredServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := start(t, m, 1)
		quiet()
		a.create(net("aa", "app", "10.1.0.0/28"))
		e := a.claimed(end("aa", "e1", "10.1.0.2"))
		a.Set([]Endpoint{e})
		quiet()
		remove(t, m, "addresses/aa/10.1.0.2")
		put(t, m, "addresses/aa/10.1.0.2", `{"service":"gone"}`)
		quiet()
		if got := content(t, m)["addresses/aa/10.1.0.2"]; !strings.Contains(got, `"endpoint":"e1"`) {
			t.Errorf("the claim of a service that is not there is %s", got)
		}
		put(t, m, "services/aa/web", `{"id":"s1","name":"web","ports":[{"port":80,"protocol":"tcp"}],"vips":["10.1.0.2"]}`)
		put(t, m, "addresses/aa/10.1.0.2", `{"service":"web"}`)
		quiet()
		if v := a.view(); len(v.Problems) != 1 || !strings.Contains(v.Problems[0], "it is claimed by service web") {
			t.Errorf("%v", v.Problems)
		}
		put(t, m, "services/aa/far", `{"id":"s2","name":"far","ports":[{"port":80,"protocol":"tcp"}],"vips":["10.9.0.2"]}`)
		put(t, m, "services/aa/bad", `{"id":"s3","name":"bad","ports":[]}`)
		quiet()
		v := a.view()
		if len(v.Networks["aa"].Services) != 1 || len(v.Problems) != 3 || !strings.Contains(strings.Join(v.Problems, "\n"), "services/aa/far: address 10.9.0.2: is not of network app") {
			t.Errorf("%+v, %v", v.Networks["aa"].Services, v.Problems)
		}
		remove(t, m, "services/aa/far")
		remove(t, m, "services/aa/bad")
		quiet()
		if v := a.view(); len(v.Problems) != 1 {
			t.Errorf("%v", v.Problems)
		}
	})
}

// TestWipedServices has the store begin anew: a service is put again with its network, at
// its addresses.
func TestWipedServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a, b := start(t, m, 1), start(t, m, 2)
		quiet()
		app := a.create(net("aa", "app", "10.1.0.0/24", "fd01::/64"))
		s, err := a.CreateService(t.Context(), offer("aa", "Web"), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range []*host{a, b} {
			h.Keep([]Network{app})
			h.KeepServices(map[model.ID][]*model.Service{"aa": {&s.Service}})
		}
		a.Set([]Endpoint{a.claimed(end("aa", "e1"))})
		b.Set([]Endpoint{b.claimed(end("aa", "e2"))})
		quiet()
		was := content(t, m)
		m.Wipe()
		for range 5 {
			quiet()
		}
		if c := content(t, m); !maps.Equal(c, was) {
			t.Errorf("there is %v, want %v", c, was)
		}
		time.Sleep(2 * cluster.Grace)
		if v := b.view(); len(v.Problems) != 0 || len(v.Networks["aa"].Services) != 1 || !slices.Equal(v.Networks["aa"].Services[0].VIPs, s.VIPs) {
			t.Errorf("%+v", v)
		}
	})
}

func TestServiceRecords(t *testing.T) {
	k := Key{Kind: KindService, Network: "aa", Name: "web"}
	if got, ok := ParseKey(k.String()); !ok || got != k {
		t.Errorf("%s: %+v", k, got)
	}
	for _, text := range []string{"services/aa", "services/aa/Web", "services/aa/web/x", "services/a_b/web", "services/aa/"} {
		if k, ok := ParseKey(text); ok {
			t.Errorf("%q is %+v", text, k)
		}
	}
	whole := `{"id":"s1","name":"Web","ports":[{"port":80,"protocol":"tcp"}],"vips":["10.1.0.2","fd01::2"]%s}`
	for add, want := range map[string]string{
		``: "", `,"later":{"x":1}`: "", `,"backends":[{"endpoint":"e"}]`: "", `,"draining":["e1"],"balance":"hash"`: "",
		`,"id":"a/b"`: "id", `,"name":"other"`: `its key says "web"`, `,"ports":[]`: "port: missing", `,"ports":[{"port":0,"protocol":"tcp"}]`: "port 0/tcp",
		`,"ports":[{"port":80,"protocol":"TCP"}]`: "port 80/TCP", `,"ports":[{"port":70000}]`: "", `,"balance":"x"`: "lb", `,"balance":"random"`: "lb",
		`,"dnsrr":true`: "vips", `,"vips":[]`: "vips", `,"vips":["10.1.0.2","10.1.0.3"]`: "second of its address family", `,"vips":["::1"]`: "is no container's",
		`,"publish":[{"port":8080,"target":80,"protocol":"tcp","taken":"x"}],"nearby":true`: "", `,"publish":[{"port":0,"target":80,"protocol":"tcp"}]`: "port from 1",
		`,"publish":[{"port":8080,"target":81,"protocol":"tcp"}]`: "has no port 81/tcp", `,"publish":[{"port":8080,"target":80,"protocol":"TCP"}]`: "has no port 80/TCP",
		`,"publish":[{"port":8080,"target":80,"protocol":"tcp"},{"port":8080,"target":80,"protocol":"tcp"}]`: "published already",
		`,"publish":[{"port":8080,"target":80,"protocol":"tcp","addrs":["::ffff:1.2.3.4"]}]`:                 "want one of a host",
		`,"publish":[` + strings.Repeat(`{"port":8080,"target":80,"protocol":"tcp"},`, 33) + `{}]`:           "up to 32",
		`,"draining":["a b"]`: "draining", `,"draining":"x"`: "",
	} {
		s, err := ParseService(k, fmt.Appendf(nil, whole, add))
		if add == `,"ports":[{"port":70000}]` || add == `,"draining":"x"` {
			if err == nil {
				t.Errorf("%s: %+v", add, s)
			}
			continue
		}
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: %v, want %q", add, err, want)
		}
		if err != nil {
			continue
		}
		text, err := s.Marshal()
		fields := map[string]json.RawMessage{}
		if json.Unmarshal(text, &fields) != nil || err != nil || fields["backends"] != nil || strings.Contains(add, "later") != (string(fields["later"]) == `{"x":1}`) {
			t.Errorf("%s became %s, %v", add, text, err)
		}
	}
	for _, text := range []string{`{"service":"Web"}`, `{"service":"a b"}`, `{"service":"web","host":"n-1"}`, `{"service":"web","endpoint":"e"}`} {
		if c, err := ParseClaim([]byte(text)); err == nil {
			t.Errorf("%s: %+v", text, c)
		}
	}
}

// TestServiceFields: Marshal keeps what a newer version wrote, and knows all fields of its
// own.
func TestServiceFields(t *testing.T) {
	s := offer("aa", "web")
	s.DNSRR, s.Balance, s.Draining, s.Labels, s.Created = true, model.BalanceHash, []model.ID{"e"}, map[string]string{"a": "b"}, time.Unix(1, 0)
	s.VIPs, s.Backends = []netip.Addr{netip.MustParseAddr("10.1.0.2")}, []model.Member{{}}
	s.Publish, s.Nearby = []model.Publish{{Port: 8080, Target: 80, Proto: "tcp", Taken: "here"}}, true
	s.Health = &model.Health{Interval: time.Second, Timeout: time.Second, Retries: 1}
	text, err := json.Marshal(s)
	fields := map[string]json.RawMessage{}
	if err != nil || json.Unmarshal(text, &fields) != nil {
		t.Fatal(err)
	}
	if again, err := s.Marshal(); err != nil || strings.Contains(string(again), "taken") || s.Publish[0].Taken == "" {
		t.Errorf("%s, %v, and %v stays", again, err, s.Publish)
	}
	if got, want := slices.Sorted(maps.Keys(fields)), slices.Sorted(slices.Values(serviceFields())); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// FuzzService reads anything: nothing panics, and what was read is the same when it is
// written and read again.
func FuzzService(f *testing.F) {
	f.Add([]byte(`{"id":"s1","name":"Web","ports":[{"port":80,"protocol":"tcp"}],"vips":["10.1.0.2","fd01::2"],"later":1,"ID":"x"}`))
	f.Add([]byte(`{"id":"s1","name":"web","ports":[{"port":80,"protocol":"tcp"}],"dnsrr":true,"draining":["a"],"labels":{"a":"b"}}`))
	f.Add([]byte(`{"id":"s1","name":"web","ports":[{"port":80,"protocol":"tcp"}],"vips":["10.1.0.2"],"publish":[{"port":8080,"target":80,"protocol":"tcp","addrs":["192.0.2.1"],"taken":"x"}],"nearby":true}`))
	f.Add([]byte(`{"id":"s1","name":"web","ports":[{"port":80,"protocol":"tcp"}],"dnsrr":true,"health":{"path":"/up","interval":2000000000,"timeout":1000000000,"retries":3}}`))
	k := Key{Kind: KindService, Network: "aa", Name: "web"}
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := ParseService(k, text); err == nil {
			again(t, s, s.Marshal, func(b []byte) (*Service, error) { return ParseService(k, b) })
		}
	})
}
