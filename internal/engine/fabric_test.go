package engine

import (
	"bytes"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// notebook is a log to be read.
type notebook struct {
	mu   sync.Mutex // protects the following
	text bytes.Buffer
}

func (n *notebook) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(b)
}

func (n *notebook) count(what string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Count(n.text.String(), what)
}

// configured starts a rig's engine in a cluster whose users write configs by hand.
func configured(t *testing.T) (r *rig, put func(config string), log *notebook) {
	r, log = bare(t), &notebook{}
	r.quiet = true
	r.prepare()
	m := cluster.NewMemory(nil)
	put = func(config string) {
		t.Helper()
		if _, _, err := m.Commit(r.ctx, cluster.Txn{Put: []cluster.Put{{Key: "/net/config", Value: []byte(config)}}}); err != nil {
			t.Fatal(err)
		}
	}
	r.cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	r.cfg.Tunnels, r.cfg.Cluster = &diggers{}, Cluster{Store: m, Prefix: "/net", Node: flannel.Node{Name: "a"}}
	r.e = New(r.cfg)
	r.ok(r.e.Start(r.ctx))
	return r, put, log
}

// What went wrong with a config is not tried again once there is another: neither what
// this host does nor what it says is of the one before.
func TestFabricSettlesTheLatest(t *testing.T) {
	r, put, log := configured(t)
	put(`{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}`)
	r.becomes(func() bool { return r.e.seen("/net") != nil })
	says := func() string { return r.e.NetworkStatus(r.e.seen("/net")).Message }
	put(`{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"},"Sealane":{"Options":{"nonsense":"1"}}}`)
	r.becomes(func() bool { return strings.HasPrefix(says(), `option "nonsense": not known`) })
	put(`{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"},"Sealane":{"Options":{"masquerade":"false"}}}`)
	r.becomes(func() bool { return r.e.seen("/net").Options.NoMasq && says() == "" })
	for end := time.Now().Add(3 * retry); time.Now().Before(end); time.Sleep(retry / 50) {
		if s := says(); s != "" {
			t.Fatalf("says of a config that is no more: %s", s)
		}
	}
	if n := log.count(`level=ERROR msg=fabric `); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
}

// What a config asks that this host cannot do is said in its words, and not in those of
// Go or the kernel.
func TestFabricRefusesClearly(t *testing.T) {
	r, put, _ := configured(t)
	put(`{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}`)
	r.becomes(func() bool { return r.e.seen("/net") != nil })
	for config, want := range map[string]string{
		`{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"},"Sealane":"x"}`:                   "Sealane: an object with ID, Name, Options and Labels belongs there",
		`{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"},"Sealane":{"Options":{"icc":1}}}`: "Sealane: an object with ID, Name, Options and Labels belongs there",
		`{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","MTU":1451}}`:                        "Backend: MTU: 1451: uplink eth0 has 1450",
	} {
		put(config)
		r.becomes(func() bool { return r.e.NetworkStatus(r.e.seen("/net")).Message == want })
		if n := r.e.seen("/net"); n.Fabric.Backend.Type != model.BackendHostGW {
			t.Errorf("%s: %+v", config, n.Fabric)
		}
	}
}

// A host that is on no network, because the config makes no sense, says so in its log, and to
// who asks the doctor.
func TestFabricConfigNobodyHas(t *testing.T) {
	r, put, log := configured(t)
	put(`{"Network":"10.5.0.0/29","Backend":{"Type":"host-gw"}}`)
	r.becomes(func() bool { return log.count("/net/config: Network: 10.5.0.0/29: /28 at most") > 0 })
	ill := func() (out []Check) {
		return slices.DeleteFunc(r.e.Doctor(r.ctx), func(c Check) bool { return c.What != "fabric /net" })
	}
	if got := ill(); len(got) != 1 || got[0].State != CheckFail || !strings.HasPrefix(got[0].Why, "this host has no part of it: /net/config: Network: 10.5.0.0/29: /28 at most") {
		t.Errorf("the doctor: %+v", got)
	}
	put(`{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}`)
	r.becomes(func() bool { return r.e.seen("/net") != nil })
	if got := ill(); len(got) != 0 {
		t.Errorf("the doctor: %+v", got)
	}
	if n := log.count("/net/config: Network: 10.5.0.0/29"); n != 1 {
		t.Errorf("said %d times", n)
	}
	if n := log.count("missing"); n != 0 {
		t.Error("that there is no network is nothing to complain of")
	}
}

// A device of another program's that has the VNI, as one that flanneld left, is found before
// anything is changed here: it is called by its name, and the firewall stays as it is.
func TestFabricVNITaken(t *testing.T) {
	r, put, log := configured(t)
	left := kstate.Link{Name: "flannel.1", Type: kstate.TypeVXLAN, MTU: 1450, VXLAN: kstate.VXLAN{VNI: 1, Port: 8472, Local: netip.MustParseAddr("198.51.100.9")}}
	r.k.Foreign(left)
	_, err := r.fabric("more", nil, "10.6.0.0/16")
	r.refused(err, model.Conflict, "network more: create: this host cannot join: backend vxlan: vni 1: device flannel.1 of this host has it on UDP port 8472: remove that, or choose another VNI")
	const why = "backend vxlan: vni 1: device flannel.1 of this host has it"
	said := func() int { return log.count(why) }
	before := said()
	put(`{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}`)
	r.becomes(func() bool { return said() > before })
	time.Sleep(5 * retry / 2)
	if said, repaired := said()-before, log.count("msg=repair"); said != 1 || repaired != 0 {
		t.Errorf("said %d times, %d repairs", said, repaired)
	}
	ill := func() []Check {
		return slices.DeleteFunc(r.e.Doctor(r.ctx), func(c Check) bool { return c.What != "fabric /net" })
	}
	if got := ill(); len(got) != 1 || !strings.HasPrefix(got[0].Why, "this host has no part of it: "+why) {
		t.Errorf("the doctor: %+v", got)
	}
	r.k.Remove(left.Key())
	r.becomes(func() bool { return r.e.seen("/net") != nil })
}

// What the kernel refuses a fabric is told without the op, and tried again less and less
// often: each try takes parts of the firewall in and out.
func TestFabricPortTaken(t *testing.T) {
	r, put, log := configured(t)
	r.k.Foreign(kstate.Link{Name: "other", Type: kstate.TypeVXLAN, MTU: 1450, VXLAN: kstate.VXLAN{VNI: 9, Port: 8472, GBP: true}, Up: true})
	put(`{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}`)
	r.becomes(func() bool { return log.count(`key=/net err="udp port 8472: in use"`) == 1 })
	tried := func() int { return log.count(`op="- table inet sealane" reason="a change failed"`) }
	time.Sleep(13 * retry / 2)
	if n := tried(); n < 2 || n > 4 {
		t.Errorf("tried %d times", n)
	}
}

// Fabrics of one host share neither addresses nor a device: the one that comes second, or
// becomes so, is refused with the reason, and what it was goes on.
func TestFabricsApart(t *testing.T) {
	r, put, _ := configured(t)
	put(`{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}`)
	r.becomes(func() bool { return r.e.seen("/net") != nil })
	_, err := r.fabric("more", nil, "10.6.0.0/16")
	r.refused(err, model.Conflict, "network more: create: this host cannot join: backend vxlan: vni 1 at port 8472: is flannel's")
	must[*model.Network](t)(r.fabric("more", map[string]string{"vni": "2"}, "10.6.0.0/16"))
	was := r.e.seen("/net").Subnets
	for config, why := range map[string]string{
		`{"Network":"10.0.0.0/9","Backend":{"Type":"vxlan"}}`:          "10.0.0.0/9: overlaps 10.6.0.0/16 of network more",
		`{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":2}}`: "backend vxlan: vni 2 at port 8472: is more's",
	} {
		put(config)
		r.becomes(func() bool { return r.e.NetworkStatus(r.e.seen("/net")).Message == why })
		if n := r.e.seen("/net"); !reflect.DeepEqual(n.Subnets, was) || n.Fabric.Backend.VNI != 1 {
			t.Errorf("%s: %+v", config, n)
		}
	}
	put(`{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}`)
	r.becomes(func() bool { return r.e.NetworkStatus(r.e.seen("/net")).Message == "" })

	// Nor do others have a part of it: containers of other hosts may be there.
	_, err = r.e.CreateNetwork(r.ctx, NetworkSpec{Name: "mine", Subnets: []model.Subnet{{Prefix: netip.MustParsePrefix("10.6.200.0/24")}}})
	r.refused(err, model.Conflict, "network mine: create: subnet 10.6.200.0/24: overlaps 10.6.0.0/16 of network more")
}

// A fabric of the hosts' own addresses is refused: that of the link between them, or of
// what else this host has. It takes no subnet of it, and what it was goes on.
func TestFabricOfTheHostsOwn(t *testing.T) {
	r, put, log := configured(t)
	_, err := r.fabric("pods", nil, "198.51.0.0/16")
	r.refused(err, model.Conflict, "network pods: create: 198.51.0.0/16: overlaps 198.51.100.9/24 of uplink eth0, which leads to the other hosts")
	_, err = r.fabric("pods", nil, "203.0.113.0/24")
	r.refused(err, model.Conflict, "network pods: create: 203.0.113.0/24: overlaps")
	must[*model.Network](t)(r.e.CreateNetwork(r.ctx, NetworkSpec{Name: "mine", Subnets: []model.Subnet{{Prefix: netip.MustParsePrefix("10.5.3.0/24")}}}))
	_, err = r.fabric("pods", nil, "10.5.0.0/16")
	r.refused(err, model.Conflict, "network pods: create: 10.5.0.0/16: overlaps 10.5.3.0/24 of network mine")
	keys := func() int {
		return len(slices.DeleteFunc(must[cluster.Snapshot](t)(r.cfg.Cluster.Store.List(r.ctx, "/net/")).Entries, func(e cluster.Entry) bool {
			return e.Key != "/net/config" && !strings.HasPrefix(e.Key, "/net/subnets/")
		}))
	}
	if n := keys(); n != 0 {
		t.Errorf("%d keys are in the store", n)
	}

	for config, why := range map[string]string{
		`{"Network":"198.51.0.0/16","Backend":{"Type":"host-gw"}}`: "198.51.0.0/16: overlaps 198.51.100.9/24 of uplink eth0",
		`{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}`:   "10.5.0.0/16: overlaps 10.5.3.0/24 of network mine",
	} {
		put(config)
		r.becomes(func() bool { return log.count(why) > 0 })
		if n := r.e.seen("/net"); n != nil || keys() != 1 {
			t.Errorf("%s: %+v, %d keys", config, n, keys())
		}
	}
	r.ok(r.e.RemoveNetwork(r.ctx, "mine"))
	put(`{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}`)
	r.becomes(func() bool { return r.e.seen("/net") != nil })

	// What comes later, and takes packets to another host's containers, is a conflict.
	r.k.Foreign(kstate.Link{Name: "docker0", Type: kstate.TypeBridge, MTU: 1500}, kstate.Addr{Dev: "docker0", Prefix: netip.MustParsePrefix("10.5.200.1/24")})
	r.becomes(func() bool {
		s := r.e.NetworkStatus(r.e.seen("/net"))
		return s.State == StateConflict && strings.HasPrefix(s.Message, "subnet 10.5.0.0/16: overlaps 10.5.200.1/24 on the host's device docker0")
	})
}
