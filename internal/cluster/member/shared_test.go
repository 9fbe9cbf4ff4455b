package member

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/model"
)

const ov = theFabric + sharedRoot

// stageShared is stage with a network aa, on which a and b have endpoints, a network bb
// with none, and what is left of a host z that is no more.
func stageShared() scene {
	s := stage()
	put := func(key, value string, rev, lease int64) {
		s.keys[ov+key] = &mvccpb.KeyValue{Key: []byte(ov + key), Value: []byte(value), ModRevision: rev, Lease: lease}
	}
	put("networks/aa", netText("aa", "app", 4096, "10.1.0.0/24"), 20, 0)
	put("names/app", "aa", 20, 0)
	put("vnis/4096", "aa", 20, 0)
	put("networks/bb", netText("bb", "more", 4097, "10.2.0.0/24"), 21, 0)
	put("names/more", "bb", 21, 0)
	put("vnis/4097", "bb", 21, 0)
	put("order", "bb", 21, 0)
	for i, name := range []string{"a", "b"} {
		id, rev, addr := nodeID(name), int64(30+i), fmt.Sprintf("10.1.0.%d", 2+i)
		put("hosts/"+id, hostText(name, "192.0.2."+fmt.Sprint(i+1)), rev, 0)
		put("alive/"+id, "{}", rev, int64(i+1)<<32|9)
		put("addresses/aa/"+addr, claimText(name, "e"), rev, 0)
		put("endpoints/aa/"+id+"/e", endText("e", macOf(addr), addr), rev, 0)
	}
	put("addresses/aa/10.1.0.9", claimText("z", "e"), 32, 0)
	put("endpoints/aa/"+nodeID("z")+"/e", endText("e", macOf("10.1.0.9"), "10.1.0.9"), 32, 0)
	put("addresses/aa/10.1.0.8", "nonsense", 33, 0)
	put("addresses/cc/10.3.0.2", claimText("a", "e"), 34, 0)
	put("addresses/aa/10.1.0.7", `{"host":"`+nodeID("b")+`"}`, 35, ofB)
	return s
}

func netText(id, name string, vni int, prefix string) string {
	return fmt.Sprintf(`{"id":%q,"name":%q,"vni":%d,"subnets":[{"prefix":%q,"gateway":%q}]}`, id, name, vni, prefix,
		netip.MustParsePrefix(prefix).Addr().Next())
}

func hostText(name, addr string) string {
	return fmt.Sprintf(`{"id":%q,"name":%q,"public4":%q}`, nodeID(name), name, addr)
}

// Public keys of WireGuard's.
const (
	keyOfB   = "HduxLMdl676wbE1+VmGevkC+eoPH2sDtoYjqPFgcmh0="
	otherKey = "hws7dzWjVldKMubMzDjxispvY7mbEzy2CWHBhr9UKjg="
)

// keyedText is a host with a key, at the address of some host inside the tunnel.
func keyedText(name, addr, key, inner string) string {
	return strings.Replace(hostText(name, addr), "}", fmt.Sprintf(`,"key":%q,"inner":%q}`, key, overlay.InnerOf(inner)), 1)
}

func claimText(name, endpoint string) string {
	return fmt.Sprintf(`{"host":%q,"endpoint":%q}`, nodeID(name), endpoint)
}

func macOf(addr string) string { return model.MACFor(netip.MustParseAddr(addr)) }

func endText(id, mac string, addrs ...string) string {
	return fmt.Sprintf(`{"id":%q,"mac":%q,"addrs":["%s"],"sandbox":{"id":"","name":""}}`, id, mac, strings.Join(addrs, `","`))
}

// bidOf is a bid for some keys: KEY REV VALUE, without a value it goes. Those that are
// to end have "lease" before the key.
func bidOf(lease int64, parts ...[3]any) *pb.TxnRequest {
	t := &pb.TxnRequest{}
	for _, p := range parts {
		key, own := p[0].(string), int64(0)
		if rest, ok := strings.CutPrefix(key, "lease "); ok {
			key, own = rest, lease
		}
		op := clientv3.OpDelete(ov + key)
		if p[2] != nil {
			op = clientv3.OpPut(ov+key, p[2].(string))
		}
		one := leased(txnOf([]clientv3.Op{op}, ifAt(ov+key, int64(p[1].(int)))), own)
		t.Compare, t.Success = append(t.Compare, one.Compare...), append(t.Success, one.Success...)
	}
	return t
}

// TestSharedRights has b try what it may and what it may not do of overlay networks.
func TestSharedRights(t *testing.T) {
	type put = [3]any
	idA, idB, idZ := nodeID("a"), nodeID("b"), nodeID("z")
	for _, c := range []struct {
		name  string
		lease int64
		keys  []put
		want  string // in the refusal; "": none
	}{
		{"its host", ofB, []put{{"hosts/" + idB, 31, hostText("b", "192.0.2.2")}}, ""},
		{"its host elsewhere", ofB, []put{{"hosts/" + idB, 31, hostText("b", "198.51.100.7")}}, ""},
		{"its key", ofB, []put{{"hosts/" + idB, 31, keyedText("b", "192.0.2.2", keyOfB, idB)}}, ""},
		{"encrypted from now on", ofB, []put{{"networks/bb", 21, strings.Replace(netText("bb", "more", 4097, "10.2.0.0/24"), "{", `{"options":{"encrypted":""},`, 1)}}, ""},
		{"its host goes", ofB, []put{{"hosts/" + idB, 31, nil}}, ""},
		{"it is alive", ofB, []put{{"lease alive/" + idB, 31, "{}"}}, ""},
		{"a new endpoint", ofB, []put{{"addresses/aa/10.1.0.4", 0, claimText("b", "f")}, {"endpoints/aa/" + idB + "/f", 0, endText("f", macOf("10.1.0.4"), "10.1.0.4")}}, ""},
		{"with a MAC of its own", ofB, []put{{"addresses/aa/10.1.0.4", 0, claimText("b", "f")}, {"endpoints/aa/" + idB + "/f", 0, endText("f", "02:11:22:33:44:55", "10.1.0.4")}}, ""},
		{"its endpoint", ofB, []put{{"endpoints/aa/" + idB + "/e", 31, endText("e", macOf("10.1.0.3"), "10.1.0.3")}}, ""},
		{"its endpoint goes", ofB, []put{{"endpoints/aa/" + idB + "/e", 31, nil}, {"lease addresses/aa/10.1.0.3", 31, `{"host":"` + idB + `"}`}}, ""},
		{"an address goes", ofB, []put{{"addresses/aa/10.1.0.3", 31, nil}}, ""},
		{"what rests", ofB, []put{{"addresses/aa/10.1.0.7", 35, claimText("b", "g")}}, ""},
		{"what is left of z", ofB, []put{{"addresses/aa/10.1.0.9", 32, claimText("b", "g")}, {"endpoints/aa/" + idZ + "/e", 32, nil}}, ""},
		{"over nonsense", ofB, []put{{"addresses/aa/10.1.0.8", 33, claimText("b", "g")}}, ""},
		{"what is left of a network", ofB, []put{{"addresses/cc/10.3.0.2", 34, nil}}, ""},
		{"make a network", ofB, []put{{"networks/dd", 0, netText("dd", "new", 7, "10.4.0.0/24")}, {"names/new", 0, "dd"}, {"vnis/7", 0, "dd"}, {"order", 21, "dd"}}, ""},
		{"remove a network", ofB, []put{{"networks/bb", 21, nil}, {"names/more", 21, nil}, {"vnis/4097", 21, nil}, {"order", 21, "bb"}}, ""},
		{"rename one", ofB, []put{{"networks/aa", 20, netText("aa", "new", 4096, "10.1.0.0/24")}, {"names/new", 0, "aa"}, {"names/app", 20, nil}, {"order", 21, "aa"}}, ""},
		{"move one", ofB, []put{{"networks/bb", 21, netText("bb", "more", 4097, "10.5.0.0/24")}}, ""},
		{"two that change places", ofB, []put{
			{"networks/aa", 20, netText("aa", "more", 4096, "10.1.0.0/24")}, {"networks/bb", 21, netText("bb", "app", 4097, "10.2.0.0/24")}, {"names/app", 20, "bb"}, {"names/more", 21, "aa"}}, ""},

		{"a's host", ofB, []put{{"hosts/" + idA, 30, hostText("b", "192.0.2.2")}}, "it is that of " + idA},
		{"as a's host", ofB, []put{{"hosts/" + idB, 31, hostText("a", "192.0.2.2")}}, "names another host, a"},
		{"at a's address", ofB, []put{{"hosts/" + idB, 31, hostText("b", "192.0.2.1")}}, "address 192.0.2.1 is that of a"},
		{"at a's address in the tunnel", ofB, []put{{"hosts/" + idB, 31, keyedText("b", "192.0.2.2", keyOfB, idA)}}, "that of host " + idB + " is"},
		{"a key of no meaning", ofB, []put{{"hosts/" + idB, 31, keyedText("b", "192.0.2.2", "c2hvcnQ=", idB)}}, "32 bytes in base64"},
		{"a's host with b's key", ofB, []put{{"hosts/" + idA, 30, keyedText("a", "192.0.2.1", keyOfB, idA)}}, "it is that of " + idA},
		{"a's host goes", ofB, []put{{"hosts/" + idA, 30, nil}}, "it is that of"},
		{"a host that ends", ofB, []put{{"lease hosts/" + idB, 31, hostText("b", "192.0.2.2")}}, "does not end by itself"},
		{"a host of no meaning", ofB, []put{{"hosts/" + idB, 31, "[]"}}, "no JSON object"},
		{"a is alive", ofB, []put{{"lease alive/" + idA, 30, "{}"}}, "it is that of"},
		{"a is dead", ofB, []put{{"alive/" + idA, 30, nil}}, "it is that of"},
		{"alive for ever", ofB, []put{{"alive/" + idB, 31, "{}"}}, "lease of etcd's"},
		{"alive as long as a", ofA, []put{{"lease alive/" + idB, 31, "{}"}}, "of this host's"},
		{"a's endpoint", ofB, []put{{"endpoints/aa/" + idA + "/e", 30, endText("e", macOf("10.1.0.2"), "10.1.0.2")}}, "it is that of host"},
		{"a's endpoint goes", ofB, []put{{"endpoints/aa/" + idA + "/e", 30, nil}}, "it is that of host"},
		{"a new one of a's", ofB, []put{{"endpoints/aa/" + idA + "/g", 0, endText("g", "02:11:22:33:44:55")}}, "it is that of host"},
		{"z's endpoint", ofB, []put{{"endpoints/aa/" + idZ + "/e", 32, endText("e", macOf("10.1.0.9"), "10.1.0.9")}}, "it is that of host"},
		{"with a's address", ofB, []put{{"endpoints/aa/" + idB + "/e", 31, endText("e", macOf("10.1.0.3"), "10.1.0.3", "10.1.0.2")}}, "address 10.1.0.2 is not claimed by it"},
		{"with nobody's", ofB, []put{{"endpoints/aa/" + idB + "/f", 0, endText("f", macOf("10.1.0.4"), "10.1.0.4")}}, "not claimed by it"},
		{"with what is given back", ofB, []put{{"endpoints/aa/" + idB + "/e", 31, endText("e", macOf("10.1.0.3"), "10.1.0.3")}, {"addresses/aa/10.1.0.3", 31, nil}}, "not claimed by it"},
		{"with a's MAC", ofB, []put{{"endpoints/aa/" + idB + "/e", 31, endText("e", macOf("10.1.0.2"), "10.1.0.3")}}, "may be that of another address"},
		{"with a MAC to come", ofB, []put{{"endpoints/aa/" + idB + "/e", 31, endText("e", macOf("10.1.0.77"), "10.1.0.3")}}, "may be that of another address"},
		{"with the gateway's MAC", ofB, []put{{"endpoints/aa/" + idB + "/e", 31, endText("e", model.MACForID(model.MACBridge, "aa"), "10.1.0.3")}}, "is the gateway's"},
		{"on no network", ofB, []put{{"endpoints/zz/" + idB + "/e", 0, endText("e", macOf("10.1.0.3"), "10.1.0.3")}}, "no such network"},
		{"on one that goes", ofB, []put{{"addresses/bb/10.2.0.3", 0, claimText("b", "e")}, {"networks/bb", 21, nil}, {"names/more", 21, nil}, {"vnis/4097", 21, nil}}, "no such network"},
		{"an endpoint that ends", ofB, []put{{"lease endpoints/aa/" + idB + "/e", 31, endText("e", macOf("10.1.0.3"), "10.1.0.3")}}, "does not end by itself"},
		{"a's address", ofB, []put{{"addresses/aa/10.1.0.2", 30, claimText("b", "e")}}, "it is claimed by host " + idA},
		{"a's address goes", ofB, []put{{"addresses/aa/10.1.0.2", 30, nil}}, "not claimed by this host"},
		{"a's address rests", ofB, []put{{"lease addresses/aa/10.1.0.2", 30, `{"host":"` + idB + `"}`}}, "it is claimed by host"},
		{"z's address goes", ofB, []put{{"addresses/aa/10.1.0.9", 32, nil}}, "not claimed by this host"},
		{"nonsense goes", ofB, []put{{"addresses/aa/10.1.0.8", 33, nil}}, "not claimed by this host"},
		{"an address for a", ofB, []put{{"addresses/aa/10.1.0.4", 0, claimText("a", "e")}}, "names another host"},
		{"elsewhere", ofB, []put{{"addresses/aa/10.9.0.4", 0, claimText("b", "e")}}, "no container has it"},
		{"the gateway", ofB, []put{{"addresses/aa/10.1.0.1", 0, claimText("b", "e")}}, "no container has it"},
		{"all", ofB, []put{{"addresses/aa/10.1.0.255", 0, claimText("b", "e")}}, "no container has it"},
		{"of no network", ofB, []put{{"addresses/zz/10.1.0.4", 0, claimText("b", "e")}}, "no such network"},
		{"a claim that ends", ofB, []put{{"lease addresses/aa/10.1.0.4", 0, claimText("b", "e")}}, "does not end by itself"},
		{"a rest without end", ofB, []put{{"addresses/aa/10.1.0.3", 31, `{"host":"` + idB + `"}`}}, "lease of etcd's"},
		{"a rest as long as a", ofA, []put{{"lease addresses/aa/10.1.0.3", 31, `{"host":"` + idB + `"}`}}, "of this host's"},
		{"a network in use", ofB, []put{{"networks/aa", 20, nil}, {"names/app", 20, nil}, {"vnis/4096", 20, nil}}, "host " + idA + " has endpoints on it"},
		{"a network without its name", ofB, []put{{"networks/bb", 21, nil}, {"vnis/4097", 21, nil}}, "names/more stays its own"},
		{"a network without its VNI", ofB, []put{{"networks/bb", 21, nil}, {"names/more", 21, nil}}, "vnis/4097 stays its own"},
		{"a name from its network", ofB, []put{{"names/more", 21, nil}}, "network bb has it"},
		{"a VNI from its network", ofB, []put{{"vnis/4097", 21, nil}}, "network bb has it"},
		{"a name for nobody", ofB, []put{{"names/x", 0, "zz"}}, "does not have it"},
		{"a name for another", ofB, []put{{"names/more", 21, "aa"}}, "does not have it"},
		{"a VNI for another", ofB, []put{{"vnis/9", 0, "aa"}}, "does not have it"},
		{"a network by another's name", ofB, []put{{"networks/dd", 0, netText("dd", "app", 7, "10.4.0.0/24")}, {"vnis/7", 0, "dd"}}, "names/app is not its own"},
		{"a network with another's VNI", ofB, []put{{"networks/dd", 0, netText("dd", "new", 4096, "10.4.0.0/24")}, {"names/new", 0, "dd"}}, "vnis/4096 is not its own"},
		{"a network over another", ofB, []put{{"networks/dd", 0, netText("dd", "new", 7, "10.0.0.0/8")}, {"names/new", 0, "dd"}, {"vnis/7", 0, "dd"}}, "overlaps 10.1.0.0/24, of network app"},
		{"two over each other", ofB, []put{
			{"networks/dd", 0, netText("dd", "new", 7, "10.4.0.0/24")}, {"names/new", 0, "dd"}, {"vnis/7", 0, "dd"},
			{"networks/ee", 0, netText("ee", "newer", 8, "10.4.0.0/16")}, {"names/newer", 0, "ee"}, {"vnis/8", 0, "ee"}}, "overlaps 10.4.0.0/"},
		{"under another's ID", ofB, []put{{"networks/dd", 0, netText("bb", "more", 4097, "10.2.0.0/24")}}, "it is another's"},
		{"move from under a", ofB, []put{{"networks/aa", 20, netText("aa", "app", 4096, "10.7.0.0/24")}}, "its subnets and its VNI stay"},
		{"another VNI under a", ofB, []put{{"networks/aa", 20, netText("aa", "app", 9, "10.1.0.0/24")}, {"vnis/9", 0, "aa"}, {"vnis/4096", 20, nil}}, "its subnets and its VNI stay"},
		{"a network that ends", ofB, []put{{"lease networks/bb", 21, netText("bb", "more", 4097, "10.2.0.0/24")}}, "does not end by itself"},
		{"no network", ofB, []put{{"networks/bb", 21, "{"}}, "may not put"},
		{"no order", ofB, []put{{"order", 21, nil}}, "it is put"},
		{"a long order", ofB, []put{{"order", 21, strings.Repeat("x", 100)}}, "short"},
		{"another key", ofB, []put{{"later/x", 0, "{}"}}, "not a key that a host writes"},
		{"an address by another name", ofB, []put{{"addresses/aa/010.1.0.4", 0, claimText("b", "e")}}, "not a key that a host writes"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			try(t, stageShared(), bidOf(c.lease, c.keys...), c.want)
		})
	}
	t.Run("a's-own-MAC", func(t *testing.T) {
		s := stageShared()
		s.keys[ov+"endpoints/aa/"+idA+"/e"].Value = []byte(endText("e", "02:11:22:33:44:55", "10.1.0.2"))
		try(t, s, bidOf(ofB, put{"endpoints/aa/" + idB + "/e", 31, endText("e", "02:11:22:33:44:55", "10.1.0.3")}), "mac 02:11:22:33:44:55 is that of an endpoint of host "+idA)
	})
	t.Run("a's-key", func(t *testing.T) {
		s := stageShared()
		s.keys[ov+"hosts/"+idA].Value = []byte(keyedText("a", "192.0.2.1", keyOfB, idA))
		try(t, s, bidOf(ofB, put{"hosts/" + idB, 31, keyedText("b", "192.0.2.2", keyOfB, idB)}), "is that of a")
		try(t, s, bidOf(ofB, put{"hosts/" + idB, 31, keyedText("b", "192.0.2.2", otherKey, idB)}), "")
	})
	t.Run("no-more-encrypted", func(t *testing.T) {
		s, plain := stageShared(), netText("bb", "more", 4097, "10.2.0.0/24")
		s.keys[ov+"networks/bb"].Value = []byte(strings.Replace(plain, "{", `{"options":{"encrypted":"true"},`, 1))
		try(t, s, bidOf(ofB, put{"networks/bb", 21, plain}), "it stays encrypted")
	})
	t.Run("mixed", func(t *testing.T) {
		mixed := bidOf(ofB, put{"order", 21, "x"})
		more := txnOf([]clientv3.Op{clientv3.OpDelete(subnet + "10.5.2.0-24")}, ifAt(subnet+"10.5.2.0-24", 12))
		mixed.Compare, mixed.Success = append(mixed.Compare, more.Compare...), append(mixed.Success, more.Success...)
		try(t, stageShared(), mixed, "one after the other")
	})
	t.Run("without-a-condition", func(t *testing.T) {
		bare := bidOf(ofB, put{"order", 21, "x"})
		bare.Compare = nil
		try(t, stageShared(), bare, "only on condition")
	})
}

// try has b send a transaction, and sees to it that what it is judged by is asked for.
func try(t *testing.T, s scene, txn *pb.TxnRequest, want string) {
	t.Helper()
	b, err := domain(theFabric).bid(txn)
	if err == nil && !b.holds(s) {
		t.Fatal("its conditions do not hold")
	}
	if err == nil {
		seen := asked(b, s, !b.renews(s))
		err = b.judge(stageHost("b"), seen)
	}
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// asked is what of a scene the gate reads.
func asked(b bid, s scene, all bool) scene {
	out := scene{rev: s.rev, keys: map[string]*mvccpb.KeyValue{}}
	for _, op := range b.asks("b", all).Success {
		r := op.GetRequestRange()
		for k, v := range s.keys {
			if k == string(r.Key) || len(r.RangeEnd) > 0 && k >= string(r.Key) && k < string(r.RangeEnd) {
				out.keys[k] = v
			}
		}
	}
	return out
}

// FuzzSharedRights has b send any transaction: if it is allowed, what is a's is as it
// was, and all fits together.
func FuzzSharedRights(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 3, 3, 16, 5, 5})
	f.Add([]byte{16, 8, 8, 17, 10, 0, 17, 12, 0})
	f.Add([]byte{0, 4, 4, 0, 6, 6})
	f.Fuzz(tryNumbers)
}

// TestSharedRightsAtRandom does so a few thousand times. Few of them are allowed.
func TestSharedRightsAtRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		numbers := make([]byte, 3*(1+random.IntN(4)))
		for i := range numbers {
			numbers[i] = byte(random.IntN(256))
		}
		tryNumbers(t, numbers)
	}
}

func tryNumbers(t *testing.T, numbers []byte) {
	before := stageShared()
	b, err := domain(theFabric).bid(sharedProgram(numbers))
	if err != nil || !b.holds(before) {
		return
	}
	all := !b.renews(before)
	if b.judge(stageHost("b"), asked(b, before, all)) != nil {
		return
	}
	after := scene{keys: applied(b.pinned("b", before, all), before)}
	for _, key := range []string{"hosts/" + nodeID("a"), "alive/" + nodeID("a"), "endpoints/aa/" + nodeID("a") + "/e", "addresses/aa/10.1.0.2"} {
		if was, now := before.keys[ov+key], after.keys[ov+key]; now == nil || string(now.Value) != string(was.Value) || now.Lease != was.Lease {
			t.Errorf("%v: %s: has changed", numbers, key)
		}
	}
	checkFit(t, after)
}

// checkFit looks for what does not fit together.
func checkFit(t *testing.T, s scene) {
	t.Helper()
	var nets []overlay.Network
	for key, kv := range s.keys {
		k, ok := overlay.ParseKey(strings.TrimPrefix(key, ov))
		if !ok {
			continue
		}
		text := string(kv.Value)
		switch k.Kind {
		case overlay.KindNetwork:
			n, err := overlay.ParseNetwork(kv.Value)
			name, vni := s.keys[ov+"names/"+n.Name], s.keys[ov+"vnis/"+fmt.Sprint(n.VNI)]
			if err != nil || n.ID != k.Network || name == nil || string(name.Value) != string(n.ID) || vni == nil || string(vni.Value) != string(n.ID) {
				t.Errorf("%s: %s, %v", key, text, err)
			}
			for _, o := range nets {
				if o.Subnets[0].Prefix.Overlaps(n.Subnets[0].Prefix) {
					t.Errorf("%s and %s overlap", o.ID, n.ID)
				}
			}
			nets = append(nets, n)
		case overlay.KindHost:
			h, err := overlay.ParseHost(kv.Value)
			if n := s.keys[ov+"numbers/"+fmt.Sprint(h.Number)]; err != nil || h.Number != 0 && (n == nil || string(n.Value) != k.Host) {
				t.Errorf("%s: %s, %v", key, text, err)
			}
		case overlay.KindService:
			o, err := overlay.ParseService(k, kv.Value)
			if err != nil || len(o.Publish) > 0 && s.keys[ov+"ports/tcp/8080"] == nil {
				t.Errorf("%s: %s, %v", key, text, err)
			}
		case overlay.KindName, overlay.KindVNI:
			if s.keys[ov+"networks/"+text] == nil {
				t.Errorf("%s: of %s, which is not there", key, text)
			}
		case overlay.KindEndpoint:
			e, err := overlay.ParseEndpoint(k, kv.Value)
			if err != nil {
				t.Errorf("%s: %v", key, err)
				continue
			}
			for _, a := range e.Addrs {
				c, _ := claimOf(s.keys[ov+"addresses/"+string(k.Network)+"/"+a.String()])
				if k.Host == nodeID("b") && c.Host == nodeID("a") {
					t.Errorf("%s has %s, which is a's", key, a)
				}
			}
		}
	}
}

// sharedProgram makes a transaction of numbers, three for each operation: what to do, a
// key, a value.
func sharedProgram(numbers []byte) *pb.TxnRequest {
	idA, idB := nodeID("a"), nodeID("b")
	keys := []string{"addresses/aa/10.1.0.4", "endpoints/aa/" + idB + "/f", "addresses/aa/10.1.0.2", "endpoints/aa/" + idA + "/e", "hosts/" + idB, "hosts/" + idA, "alive/" + idB, "alive/" + idA,
		"networks/bb", "networks/aa", "names/more", "names/app", "vnis/4097", "vnis/4096", "endpoints/aa/" + idB + "/e", "addresses/aa/10.1.0.3", "networks/dd", "names/new", "vnis/7", "addresses/aa/10.1.0.9",
		"numbers/1", "numbers/2", "numbers/3", "ports/tcp/8080", "services/aa/web"}
	values := []string{claimText("b", "f"), endText("f", macOf("10.1.0.4"), "10.1.0.4"), claimText("b", "e"), endText("e", macOf("10.1.0.2"), "10.1.0.2"), hostText("b", "192.0.2.2"),
		hostText("b", "192.0.2.1"), "{}", claimText("a", "e"), netText("bb", "more", 4097, "10.2.0.0/24"), netText("aa", "app", 4096, "10.2.0.0/24"), "aa", "bb",
		netText("dd", "new", 7, "10.0.0.0/8"), netText("dd", "new", 7, "10.4.0.0/24"), "dd", `{"host":"` + idB + `"}`, idA, idB,
		`{"network":"aa","service":"web"}`, publishText("web", 8080), publishText("web"), strings.Replace(hostText("b", "192.0.2.2"), "}", `,"number":2}`, 1)}
	s, t := stageShared(), &pb.TxnRequest{}
	for ; len(numbers) >= 3; numbers = numbers[3:] {
		key := ov + keys[int(numbers[1])%len(keys)]
		op := clientv3.OpPut(key, values[int(numbers[2])%len(values)])
		if numbers[0]&1 != 0 {
			op = clientv3.OpDelete(key)
		}
		more := txnOf([]clientv3.Op{op}, ifAt(key, s.revOf(key)))
		if numbers[0]&2 != 0 {
			more = leased(more, ofB)
		}
		t.Compare, t.Success = append(t.Compare, more.Compare...), append(t.Success, more.Success...)
	}
	return t
}

// TestShared has the directories of both hosts work through the gate, at once.
func TestShared(t *testing.T) {
	a, b := pair(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	views := map[*Host]chan *overlay.View{a: make(chan *overlay.View, 1000), b: make(chan *overlay.View, 1000)}
	dirs := map[*Host]*overlay.Directory{}
	for _, h := range []*Host{a, b} {
		dirs[h] = overlay.New(overlay.Options{
			Store: h.Store(), Prefix: SharedPrefix(theFabric), ID: nodeID(h.cfg.Name), Rest: time.Second,
			Host:   func() (overlay.Host, error) { return overlay.Host{Name: h.cfg.Name, Public4: h.run.host.Addr}, nil },
			Report: func(v *overlay.View) { views[h] <- v },
		})
		all.Go(func() { dirs[h].Run(ctx) })
	}
	await := func(h *Host, what string, is func(*overlay.View) bool) {
		t.Helper()
		for {
			select {
			case v := <-views[h]:
				if is(v) {
					return
				}
				if len(v.Problems) > 0 {
					t.Errorf("%s: %q", what, v.Problems)
				}
			case <-ctx.Done():
				t.Fatalf("%s does not know: %s", h.cfg.Name, what)
			}
		}
	}
	n := overlay.Network{ID: "aa", Name: "app", Subnets: []model.Subnet{{Prefix: netip.MustParsePrefix("10.1.0.0/26"), Gateway: netip.MustParseAddr("10.1.0.1")}}}
	if _, err := dirs[a].Create(ctx, n); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	own, has := map[*Host][]overlay.Endpoint{}, map[netip.Addr]bool{}
	var claims sync.WaitGroup
	for i := range 20 {
		for _, h := range []*Host{a, b} {
			claims.Go(func() {
				e := overlay.Endpoint{Network: "aa", ID: model.ID(fmt.Sprintf("e%d", i)), MAC: fmt.Sprintf("06:00:00:00:%02x:%02x", h.cfg.Name[0], i)}
				addrs, err := dirs[h].Claim(ctx, e, nil)
				mu.Lock()
				defer mu.Unlock()
				if err != nil || has[addrs[0]] {
					t.Errorf("%s: %v, %v", h.cfg.Name, addrs, err)
					return
				}
				e.Addrs, has[addrs[0]] = addrs, true
				own[h] = append(own[h], e)
			})
		}
	}
	claims.Wait()
	for _, h := range []*Host{a, b} {
		dirs[h].Set(own[h])
		await(h, "40 endpoints", func(v *overlay.View) bool {
			return v.Networks["aa"] != nil && len(v.Networks["aa"].Endpoints) == 40 && v.Hosts[nodeID("a")].Alive && v.Hosts[nodeID("b")].Alive
		})
	}
	if err := dirs[b].Remove(ctx, "aa"); model.KindOf(err) != model.InUse {
		t.Errorf("in use: %v", err)
	}
	for _, h := range []*Host{a, b} {
		dirs[h].Set(nil)
	}
	await(b, "no endpoint", func(v *overlay.View) bool { return len(v.Networks["aa"].Endpoints) == 0 })
	if err := dirs[b].Remove(ctx, "aa"); err != nil {
		t.Errorf("remove: %v", err)
	}
	await(a, "no network", func(v *overlay.View) bool { return len(v.Networks) == 0 })
	cancel()
	all.Wait()
	if err := a.Remove(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	left, err := a.run.admin.List(t.Context(), ov)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left.Entries {
		if strings.Contains(e.Key, nodeID("b")) || strings.Contains(e.Key, "/addresses/") {
			t.Errorf("left: %s", e.Key)
		}
	}
}
