package engine

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"path"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/wireguard"
)

// locksmith notes which devices are wanted.
type locksmith struct {
	mu   sync.Mutex // protects the following
	want []wireguard.Want
}

func (l *locksmith) Want(list []wireguard.Want) { l.mu.Lock(); defer l.mu.Unlock(); l.want = list }

func (l *locksmith) Trouble(string) error { return nil }

func (l *locksmith) last() []wireguard.Want { l.mu.Lock(); defer l.mu.Unlock(); return l.want }

// Keys in base64, of hosts.
const (
	keyOne   = "qh49WnJT7RvtAdX0f6U2EUWRXr0rBJu6vIAc3Hf52hg="
	keyTwo   = "HduxLMdl676wbE1+VmGevkC+eoPH2sDtoYjqPFgcmh0="
	keyThree = "hws7dzWjVldKMubMzDjxispvY7mbEzy2CWHBhr9UKjg="
	keyPSK   = "Ouka9HSc+hewp3ypXvqGC5i+xwXC3+uBhWJ7gbUgynw="
)

// lockedRig is an engine in a cluster with a fabric of backend wireguard, in which a
// flanneld is.
func lockedRig(t *testing.T, backend string) (*rig, *locksmith, *cluster.Memory) {
	r, _ := clustered(t)
	m, ok := r.cfg.Cluster.Store.(*cluster.Memory)
	if !ok {
		t.Fatalf("%T", r.cfg.Cluster.Store)
	}
	l := &locksmith{}
	r.e.cfg.WireGuard = l
	put := func(key, value string) {
		if _, _, err := m.Commit(r.ctx, cluster.Txn{Put: []cluster.Put{{Key: path.Join("/net", key), Value: []byte(value)}}}); err != nil {
			t.Fatal(err)
		}
	}
	put("subnets/10.5.3.0-24", `{"PublicIP":"198.51.100.3","PublicIPv6":null,"BackendType":"wireguard","BackendData":{"PublicKey":"`+keyOne+`","Port":51820}}`)
	put("config", `{"Network":"10.5.0.0/16","Backend":`+backend+`,"Sealane":{"Name":"pods","ID":"0123456789ab","Options":{"key-lifetime":"1h"}}}`)
	for end := time.Now().Add(30 * time.Second); len(l.last()) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no device is wanted")
		}
	}
	return r, l, m
}

// ownLease is this host's lease as the others read it.
func ownLease(t *testing.T, r *rig, m *cluster.Memory) (text string) {
	t.Helper()
	s, err := m.List(r.ctx, "/net/subnets/")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range s.Entries {
		if v, err := flannel.ParseValue(e.Value); err == nil && v.Node != nil {
			return string(e.Value)
		}
	}
	t.Fatal("no lease")
	return ""
}

// A device is wanted with the keys that the lease and the config say, and what is secret
// is in nothing that anybody sees.
func TestEncryptedIsWanted(t *testing.T) {
	r, l, m := lockedRig(t, `{"Type":"wireguard","PSK":"`+keyPSK+`","PersistentKeepaliveInterval":25}`)
	w := l.last()[0]
	psk, _ := base64.StdEncoding.DecodeString(keyPSK)
	one, _ := wireguard.ParsePublic(keyOne)
	if w.Device != "slt0123456789ab" || w.Port != 51820 || w.Keepalive != 25*time.Second || w.Shared != wireguard.Secret(psk) || len(l.last()) != 1 {
		t.Errorf("wants %+v", l.last())
	}
	peer := wireguard.Peer{Key: one, Endpoint: netip.MustParseAddrPort("198.51.100.3:51820"), Allowed: []netip.Prefix{netip.MustParsePrefix("10.5.3.0/24")}}
	if !reflect.DeepEqual(w.Peers, []wireguard.Peer{peer}) {
		t.Errorf("peers %+v", w.Peers)
	}
	lease, want := ownLease(t, r, m), fmt.Sprintf(`{"PublicIP":"198.51.100.9","PublicIPv6":null,"BackendType":"wireguard","BackendData":{"PublicKey":"%s","Port":51820},"Sealane":`, w.Private.Public())
	if !strings.HasPrefix(lease, want) {
		t.Errorf("lease %s, want %s…", lease, want)
	}
	n := r.intent().Networks["0123456789ab"]
	shown, _ := json.Marshal(n)
	logged, _ := json.Marshal(l.last())
	seen := fmt.Sprintf("%s %s %s %v %+v %#v %s", shown, lease, logged, w, w, w, r.k.Dump())
	for _, s := range []wireguard.Secret{w.Private, w.Shared} {
		for _, form := range []string{base64.StdEncoding.EncodeToString(s[:]), fmt.Sprintf("%x", s[:]), fmt.Sprint(s[:])} {
			if strings.Contains(seen, form) {
				t.Errorf("seen: %s in %s", form, seen)
			}
		}
	}
	if n.Options.MTU != 1370 || n.Fabric.PublicKey != w.Private.Public().String() {
		t.Errorf("network %+v", n.Fabric)
	}
}

// The next key is in the lease before it is used, the one that was used lasts over
// restarts, and what is known goes with the network.
func TestKeyTurns(t *testing.T) {
	r, l, m := lockedRig(t, `{"Type":"wireguard"}`)
	run := r.e.followFabric("/net")
	first := l.last()[0].Private
	if next, err := r.e.keyDue(run); err != nil || next != (wireguard.Public{}) {
		t.Fatalf("due at once: %v, %v", next, err)
	}
	r.e.work.Lock()
	s, _ := r.e.secretOf("/net")
	s.made = s.made.Add(-time.Hour)
	d := r.e.draft("", "")
	err := d.keepSecret("/net", s)
	if err == nil {
		err = d.commit(r.ctx)
	}
	r.e.work.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	next, err := r.e.keyDue(run)
	if again, _ := r.e.keyDue(run); err != nil || next == (wireguard.Public{}) || again != next || l.last()[0].Private != first {
		t.Fatalf("due after an hour: %v, %v, %v", next, again, err)
	}
	if err := r.e.turnKey(run, next); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(ownLease(t, r, m), next.String()) || l.last()[0].Private.Public() != next || r.intent().Networks["0123456789ab"].Fabric.PublicKey != next.String() {
		t.Errorf("lease %s, device %v", ownLease(t, r, m), l.last()[0].Private.Public())
	}
	snap, err := r.cfg.Store.Load()
	if err != nil {
		t.Fatal(err)
	}
	after := New(r.cfg)
	if err := after.load(snap); err != nil {
		t.Fatal(err)
	}
	if s, ok := after.secretOf("/net"); !ok || s.Private.Public() != next || s.Next != (wireguard.Secret{}) {
		t.Errorf("after a restart: %v, %v", s.Private.Public(), ok)
	}
	if err := r.e.RemoveNetwork(r.ctx, "pods"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); len(l.last()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still wanted: %v", l.last())
		}
	}
}

// Whose key and port are whose, by mode, of hosts of both kinds.
func TestKeysOf(t *testing.T) {
	data := func(key string, port int) json.RawMessage {
		return json.RawMessage(fmt.Sprintf(`{"PublicKey":"%s","Port":%d}`, key, port))
	}
	ours := &flannel.Node{ID: "0123456789ab"}
	for _, c := range []struct {
		mode model.WireGuardMode
		v    flannel.Value
		want model.Peer
	}{
		{"separate", flannel.Value{BackendData: data(keyOne, 51820), BackendV6Data: data(keyTwo, 51821)}, model.Peer{Key4: keyOne, Key6: keyTwo, Port4: 51820, Port6: 51821}},
		{"separate", flannel.Value{BackendData: data(keyOne, 0)}, model.Peer{Key4: keyOne}},
		{"auto", flannel.Value{BackendData: data(keyOne, 51820), BackendV6Data: data(keyTwo, 51821)}, model.Peer{Key4: keyTwo, Key6: keyTwo, Port4: 7000, Port6: 7000}},
		{"ipv6", flannel.Value{BackendV6Data: data(keyTwo, 51821)}, model.Peer{Key4: keyTwo, Key6: keyTwo, Port4: 7000, Port6: 7000}},
		{"ipv6", flannel.Value{BackendData: data(keyOne, 9000), BackendV6Data: data(keyOne, 9000), Node: ours}, model.Peer{Key4: keyOne, Key6: keyOne, Port4: 9000, Port6: 9000}},
		{"ipv4", flannel.Value{BackendData: json.RawMessage(`{"PublicKey":"short"}`)}, model.Peer{Port4: 7000, Port6: 7000}},
	} {
		var p model.Peer
		keysOf(&p, flannel.Lease{Value: c.v}, &model.Fabric{Backend: model.Backend{Type: model.BackendWireGuard, Mode: c.mode, Port: 7000, Port6: 7001}})
		if !reflect.DeepEqual(p, c.want) {
			t.Errorf("%s, %+v: %+v, want %+v", c.mode, c.v, p, c.want)
		}
	}
}

// Who says another's key has none.
func TestDistinctKeys(t *testing.T) {
	f := &model.Fabric{PublicKey: keyThree, Peers: []model.Peer{
		{Key4: keyOne, Key6: keyOne}, {Key4: keyTwo, Key6: keyOne}, {Key4: keyThree, Key6: keyTwo}, {}, {Key4: keyTwo},
	}}
	distinctKeys(f)
	want := []model.Peer{{Key4: keyOne, Key6: keyOne}, {Key4: keyTwo}, {Key6: keyTwo}, {}, {}}
	if !reflect.DeepEqual(f.Peers, want) {
		t.Errorf("%+v, want %+v", f.Peers, want)
	}
}

// Which devices there are, and what goes by which, by mode.
func TestEncrypted(t *testing.T) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	n := &model.Network{ID: "0123456789ab", Subnets: []model.Subnet{{Prefix: prefix("10.5.1.0/24")}, {Prefix: prefix("fd05:0:0:1::/64")}},
		Fabric: &model.Fabric{
			Backend: model.Backend{Type: model.BackendWireGuard, Port: 7000, Port6: 7001}, Public4: addr("192.0.2.1"), Public6: addr("2001:db8::1"),
			Peers: []model.Peer{
				{Subnets: []netip.Prefix{prefix("10.5.2.0/24"), prefix("fd05:0:0:2::/64")}, Public4: addr("192.0.2.2"), Public6: addr("2001:db8::2"), Key4: keyOne, Key6: keyOne, Port4: 8000, Port6: 8001},
				{Subnets: []netip.Prefix{prefix("10.5.3.0/24"), prefix("fd05:0:0:3::/64")}, Public4: addr("10.0.0.3"), Key4: keyTwo, Key6: keyTwo},
				{Subnets: []netip.Prefix{prefix("10.5.4.0/24")}, Public4: addr("10.0.0.4"), Public6: addr("2001:db8::4")},
			},
		}}
	for mode, want := range map[model.WireGuardMode]string{
		"separate": "slt 7000: [192.0.2.2:8000 [10.5.2.0/24]] [10.0.0.3:7000 [10.5.3.0/24]]; slu 7001: [[2001:db8::2]:8001 [fd05:0:0:2::/64]]; ",
		"ipv4":     "slt 7000: [192.0.2.2:8000 [10.5.2.0/24 fd05:0:0:2::/64]] [10.0.0.3:7000 [10.5.3.0/24 fd05:0:0:3::/64]]; ",
		"ipv6":     "slt 7000: [[2001:db8::2]:8001 [10.5.2.0/24 fd05:0:0:2::/64]]; ",
		"auto":     "slt 7000: [192.0.2.2:8000 [10.5.2.0/24 fd05:0:0:2::/64]] [10.0.0.3:7000 [10.5.3.0/24 fd05:0:0:3::/64]]; ",
	} {
		n.Fabric.Backend.Mode = mode
		var got strings.Builder
		for _, w := range encrypted(n, secret{}) {
			fmt.Fprintf(&got, "%.3s %d:", w.Device, w.Port)
			for _, p := range w.Peers {
				fmt.Fprintf(&got, " [%v %v]", p.Endpoint, p.Allowed)
			}
			got.WriteString("; ")
		}
		if got.String() != want {
			t.Errorf("%s:\n%s\nwant:\n%s", mode, got.String(), want)
		}
	}
}

// A host without IPv6 has a part of both families where IPv4 carries both.
func TestSparesAFamily(t *testing.T) {
	for mode, want := range map[model.WireGuardMode][2]bool{"separate": {}, "ipv4": {false, true}, "ipv6": {true, false}, "auto": {true, true}} {
		b, err := askedWireGuard(model.Backend{Mode: mode})
		if got := [2]bool{spares(b, false), spares(b, true)}; err != nil || got != want {
			t.Errorf("%s spares %v", mode, got)
		}
	}
	if spares(flannel.VXLAN{}, true) {
		t.Error("vxlan spares one")
	}
	r, _ := clustered(t)
	n, err := r.fabric("pods", map[string]string{"backend": "wireguard", "mode": "ipv4"}, "10.5.0.0/16", "fd05::/48")
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Subnets) != 2 || n.Tunnel(true) != n.Tunnel(false) || n.Fabric.Public6.IsValid() {
		t.Errorf("%+v", n.Fabric)
	}
}

// Two networks do not have one port.
func TestWireGuardPorts(t *testing.T) {
	r, _ := clustered(t)
	if _, err := r.fabric("pods", map[string]string{"backend": "wireguard"}, "10.5.0.0/16"); err != nil {
		t.Fatal(err)
	}
	more := func(port string) error {
		_, err := r.fabric("more", map[string]string{"backend": "udp", "port": port}, "10.6.0.0/16")
		return err
	}
	if err := more("51820"); !strings.HasSuffix(errorText(err), "backend udp: port 51820: is pods's") {
		t.Error(err)
	}
	if err := more("51821"); err != nil {
		t.Error(err)
	}
}
