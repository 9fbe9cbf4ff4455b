package engine

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/wireguard"
)

// sealed is a host of a cluster whose devices of WireGuard's are noted.
func sealed(t *testing.T, s cluster.Store, name, addr string) (*rig, *locksmith) {
	r, l := bare(t), &locksmith{}
	r.quiet = true
	r.prepare()
	r.cfg.WireGuard = l
	r.cfg.Cluster = Cluster{Store: s, Prefix: "/net", Node: flannel.Node{Name: name}, Addrs: []netip.Addr{netip.MustParseAddr(addr)}}
	r.e = New(r.cfg)
	r.ok(r.e.Start(r.ctx))
	return r, l
}

// inner is a host's address inside the tunnel.
func (r *rig) inner() string { return overlay.InnerOf(r.e.cfg.Cluster.Node.ID).String() }

var encryptedOption = map[string]string{"encrypted": ""}

// Hosts find each other through one device, each by its own key; it is there while
// somebody is on an encrypted network, and no other network goes through it.
func TestSealed(t *testing.T) {
	m := cluster.NewMemory(nil)
	a, la := sealed(t, m, "a", "198.51.100.9")
	b, lb := sealed(t, m, "b", "198.51.100.8")
	n, err := a.overlay("app", encryptedOption, "10.1.0.0/24")
	a.ok(err)
	if n.Overlay.Port != model.SealedPort || n.Options.MTU != 1300 || n.Overlay.Local.String() != a.inner() {
		t.Errorf("app is %+v %+v", n.Options, n.Overlay)
	}
	b.knows("app", true)
	a.dumps(false, model.CipherDevice)
	if len(la.last()) != 0 {
		t.Errorf("wants %v", la.last())
	}
	a.sandbox("web", SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: addrs("10.1.0.2")}}})
	b.sandbox("db", SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: addrs("10.1.0.3")}}})
	trunk := "slx" + string(n.ID)
	a.dumps(true, "link slw0 type wireguard mtu 1370", "addr "+a.inner()+"/128 dev slw0", "route "+b.inner()+"/128 dev slw0",
		"link "+trunk+" type vxlan vni 4096 port 8474 local "+a.inner()+" parent slw0 nolearning proxy",
		"fdb 02:42:0a:01:00:03 dev "+trunk+" dst "+b.inner()+" bridged", "sealed { 8474 }", "udp dport @sealed drop", "onward { slw0 : drop }")
	a.dumps(false, "element inet sealane hosts4", "element inet sealane hosts6")
	eventually(t, "they know each other's keys", func() bool {
		wa, wb := la.last(), lb.last()
		return len(wa) == 1 && len(wb) == 1 && len(wa[0].Peers) == 1 && len(wb[0].Peers) == 1 &&
			wa[0].Peers[0].Key == wb[0].Private.Public() && wb[0].Peers[0].Key == wa[0].Private.Public()
	})
	w := la.last()[0]
	want := fmt.Sprintf("slw0 51822 [%s/128] 198.51.100.8:51822", b.inner())
	if got := fmt.Sprintf("%s %d %v %s", w.Device, w.Port, w.Peers[0].Allowed, w.Peers[0].Endpoint); got != want {
		t.Errorf("wants %s, not %s", got, want)
	}
	s, err := m.List(a.ctx, "/net/")
	a.ok(err)
	seen := fmt.Sprintf("%s %v %+v", a.k.Dump(), w, a.intent().Networks[n.ID])
	for _, entry := range s.Entries {
		seen += string(entry.Value)
	}
	for _, form := range []string{base64.StdEncoding.EncodeToString(w.Private[:]), fmt.Sprintf("%x", w.Private[:]), fmt.Sprint(w.Private[:])} {
		if strings.Contains(seen, form) {
			t.Errorf("seen: %s", form)
		}
	}
	a.checks()
	b.checks()
	a.ok(a.e.RemoveSandbox(a.ctx, "web", true))
	a.dumps(false, "link slw0", "dev slw0", trunk)
	eventually(t, "no device is wanted", func() bool { return len(la.last()) == 0 })
	b.ok(b.e.RemoveSandbox(b.ctx, "db", true))
	eventually(t, "it can be removed", func() bool { return b.e.RemoveNetwork(b.ctx, "app") == nil })
	eventually(t, "the key is forgotten, and nobody is told of it", func() bool {
		a.e.work.Lock()
		_, has := a.e.secretOf(cipherSecret)
		a.e.work.Unlock()
		text := hostText(t, a, m)
		return !has && !strings.Contains(text, "key")
	})
	a.checks()
}

// hostText is what a host says of itself in the store.
func hostText(t *testing.T, r *rig, m *cluster.Memory) string {
	t.Helper()
	s, err := m.List(r.ctx, "/net/sealane/overlay/hosts/"+r.e.cfg.Cluster.Node.ID)
	r.ok(err)
	if len(s.Entries) != 1 {
		return ""
	}
	return string(s.Entries[0].Value)
}

// Without the store a daemon that starts again knows its key, and the others'.
func TestSealedAlone(t *testing.T) {
	away := make(chan bool, 1)
	away <- false
	m := cluster.NewMemory(nil)
	a, la := sealed(t, switchable{m, func() bool { v := <-away; away <- v; return v }}, "a", "198.51.100.9")
	b, _ := sealed(t, m, "b", "198.51.100.8")
	_, err := a.overlay("app", encryptedOption, "10.1.0.0/24")
	a.ok(err)
	b.knows("app", true)
	a.sandbox("web", SandboxSpec{Networks: on("app")})
	eventually(t, "b is known", func() bool { w := la.last(); return len(w) == 1 && len(w[0].Peers) == 1 })
	was := la.last()[0]
	<-away
	away <- true
	c := a.cfg.Cluster
	a.die()
	a.prepare()
	la = &locksmith{}
	a.cfg.Cluster, a.cfg.WireGuard = c, la
	a.e = New(a.cfg)
	a.ok(a.e.Start(a.ctx))
	eventually(t, "the device is wanted", func() bool { return len(la.last()) == 1 })
	if w := la.last()[0]; w.Private != was.Private || len(w.Peers) != 1 || w.Peers[0].Key != was.Peers[0].Key {
		t.Errorf("wants %+v, not %+v", w, was)
	}
}

// The next key is said before it is used.
func TestSealedKeyTurns(t *testing.T) {
	m := cluster.NewMemory(nil)
	a, l := sealed(t, m, "a", "198.51.100.9")
	_, err := a.overlay("app", encryptedOption, "10.1.0.0/24")
	a.ok(err)
	a.sandbox("web", SandboxSpec{Networks: on("app")})
	eventually(t, "a device is wanted", func() bool { return len(l.last()) == 1 })
	first := l.last()[0].Private
	a.ok(a.e.turnCipher(a.ctx))
	a.e.work.Lock()
	s, _ := a.e.secretOf(cipherSecret)
	early := s.Next
	s.made = s.made.Add(-model.KeyLife)
	d := a.e.draft("", "")
	a.ok(d.keepSecret(cipherSecret, s))
	err = d.commit(a.ctx)
	a.e.work.Unlock()
	a.ok(err)
	if early != (wireguard.Secret{}) {
		t.Error("another key at once")
	}
	a.ok(a.e.turnCipher(a.ctx))
	a.e.work.Lock()
	s, _ = a.e.secretOf(cipherSecret)
	a.e.work.Unlock()
	next := s.Next.Public()
	if l.last()[0].Private != first || s.Private != first || s.Next == (wireguard.Secret{}) {
		t.Error("the next is used before it is known")
	}
	eventually(t, "the next is said, then used", func() bool {
		a.ok(a.e.turnCipher(a.ctx))
		return l.last()[0].Private.Public() == next
	})
	if !strings.Contains(hostText(t, a, m), next.String()) {
		t.Errorf("says %s, not %s", hostText(t, a, m), next)
	}
}

// Whom the device takes packets from: not who says no key, or another's, or can not be
// reached.
func TestPeersOf(t *testing.T) {
	a := bare(t)
	a.prepare()
	a.cfg.Cluster.Node.ID = "aa"
	e := New(a.cfg)
	host := func(id, key, four, six string, alive bool) overlay.Peer {
		p := overlay.Peer{Host: overlay.Host{ID: id, Key: key}, Alive: alive}
		if key != "" {
			p.Inner = overlay.InnerOf(id)
		}
		if four != "" {
			p.Public4 = netip.MustParseAddr(four)
		}
		if six != "" {
			p.Public6 = netip.MustParseAddr(six)
		}
		return p
	}
	for what, c := range map[string]struct {
		own   overlay.Peer
		other []overlay.Peer
		want  string
	}{
		"both families": {host("aa", keyOne, "192.0.2.1", "2001:db8::1", true), []overlay.Peer{host("bb", keyTwo, "192.0.2.2", "2001:db8::2", true)}, "bb 192.0.2.2:51822"},
		"IPv6":          {host("aa", keyOne, "", "2001:db8::1", true), []overlay.Peer{host("bb", keyTwo, "192.0.2.2", "2001:db8::2", true)}, "bb [2001:db8::2]:51822"},
		"no family":     {host("aa", keyOne, "", "2001:db8::1", true), []overlay.Peer{host("bb", keyTwo, "192.0.2.2", "", true)}, ""},
		"no key":        {host("aa", keyOne, "192.0.2.1", "", true), []overlay.Peer{host("bb", "", "192.0.2.2", "", true)}, ""},
		"own key":       {host("aa", keyOne, "192.0.2.1", "", true), []overlay.Peer{host("bb", keyOne, "192.0.2.2", "", true)}, ""},
		"one key": {host("aa", keyOne, "192.0.2.1", "", true), []overlay.Peer{host("bb", keyTwo, "192.0.2.2", "", false), host("cc", keyTwo, "192.0.2.3", "", true), host("dd", keyThree, "192.0.2.4", "", false)},
			"cc 192.0.2.3:51822 dd 192.0.2.4:51822"},
	} {
		v := &overlay.View{Hosts: map[string]overlay.Peer{"aa": c.own}}
		for _, p := range c.other {
			v.Hosts[p.ID] = p
		}
		var got []string
		for _, p := range e.peersOf(v) {
			got = append(got, p.ID, p.At.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", what, got, c.want)
		}
	}
}

// A host that says no key is not sent to, and the status says so; ports that are not
// theirs are no network's.
func TestSealedRefused(t *testing.T) {
	m := cluster.NewMemory(nil)
	a, _ := sealed(t, m, "a", "198.51.100.9")
	for want, options := range map[string]map[string]string{
		"encrypted networks have UDP port 8474":    {"encrypted": "true", "port": "9000"},
		"port: 8474 is that of encrypted networks": {"port": "8474"},
		"port: 51822 is that of their tunnel":      {"port": "51822"},
		"vni: 4095 is that of published ports":     {"vni": "4095"},
		`option encrypted: "x": want true`:         {"encrypted": "x"},
	} {
		if _, err := a.overlay("app", options); model.KindOf(err) != model.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", options, err)
		}
	}
	n, err := a.overlay("app", encryptedOption, "10.1.0.0/24")
	a.ok(err)
	put := func(key, value string) {
		_, _, err := m.Commit(a.ctx, cluster.Txn{Put: []cluster.Put{{Key: "/net/sealane/overlay/" + key, Value: []byte(value)}}})
		a.ok(err)
	}
	put("hosts/bb", `{"id":"bb","name":"b","public4":"198.51.100.8"}`)
	put("addresses/"+string(n.ID)+"/10.1.0.9", `{"host":"bb","endpoint":"e1"}`)
	put("endpoints/"+string(n.ID)+"/bb/e1", `{"id":"e1","mac":"02:42:0a:01:00:09","addrs":["10.1.0.9"],"sandbox":{"id":"s1","name":"old"}}`)
	a.sandbox("web", SandboxSpec{Networks: on("app")})
	eventually(t, "b is not reached", func() bool {
		n, err := a.e.Network("app")
		a.ok(err)
		s := a.e.NetworkStatus(n)
		return s.State == StateDegraded && strings.Contains(s.Message, "endpoint e1 on host b: that host says no key")
	})
	a.dumps(false, "02:42:0a:01:00:09")
	put("hosts/bb", `{"id":"bb","name":"b","public4":"198.51.100.8","key":"`+keyTwo+`","inner":"`+overlay.InnerOf("bb").String()+`"}`)
	a.dumps(true, "dst "+overlay.InnerOf("bb").String()+" bridged")
	if _, err := a.fabric("pods", map[string]string{"backend": "udp", "port": "51822"}, "10.6.0.0/16"); !strings.Contains(errorText(err), "port 51822: is app's") {
		t.Error(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		n, err := a.e.Network("app")
		a.ok(err)
		if s := a.e.NetworkStatus(n); s.State == StateReady {
			break
		} else if time.Now().After(end) {
			t.Fatal(s)
		}
	}
	a.check()
}
