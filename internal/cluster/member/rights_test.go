package member

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	theFabric = "/coreos.com/network"
	config4   = `{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}`
	config46  = `{"EnableIPv6":true,"Network":"10.5.0.0/16","IPv6Network":"fd10::/48","Backend":{"Type":"vxlan"}}`
)

// stageHost is a host of the tests: b is number 2, at 192.0.2.2.
func stageHost(name string) Record {
	n := name[0] - 'a' + 1
	return Record{Name: name, ID: nodeID(name), Number: uint32(n), Addrs: []netip.Addr{at4(n)}}
}

// leaseText is what a host puts, at an address, with a device.
func leaseText(name, addr, mac string) string {
	return fmt.Sprintf(`{"PublicIP":"%s","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"%s"},"Sealane":{"Node":"%s","Name":"%s"}}`,
		addr, mac, nodeID(name), name)
}

const (
	macA   = "02:00:00:00:00:0a"
	macB   = "02:00:00:00:00:0b"
	subnet = theFabric + "/subnets/"
	ofB    = int64(2)<<32 | 7
	ofA    = int64(1)<<32 | 7
)

// stage is a fabric where a has 10.5.1.0/24 and b 10.5.2.0/24, one is reserved for b,
// one for who is at another address, and somebody wrote nonsense.
func stage() scene {
	s := scene{rev: 100, keys: map[string]*mvccpb.KeyValue{}}
	put := func(key, value string, rev, lease int64) {
		s.keys[key] = &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), ModRevision: rev, Lease: lease}
	}
	for i, name := range []string{"a", "b"} {
		text, err := json.Marshal(stageHost(name))
		if err != nil {
			panic(err)
		}
		put(keyHosts+name, string(text), int64(i+1), 0)
	}
	put(theFabric+"/config", config4, 10, 0)
	put(subnet+"10.5.1.0-24", leaseText("a", "192.0.2.1", macA), 11, ofA)
	put(subnet+"10.5.2.0-24", leaseText("b", "192.0.2.2", macB), 12, ofB)
	put(subnet+"10.5.3.0-24", `{"PublicIP":"192.0.2.2"}`, 13, 0)
	put(subnet+"10.5.4.0-24", `{"PublicIP":"192.0.2.9"}`, 14, 0)
	put(subnet+"10.5.5.0-24", `{`, 15, ofA)
	put(keyToken, `{}`, 16, 0)
	return s
}

func ifAt(key string, rev int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(key), "=", rev)
}

// txnOf is a transaction as etcd's client sends it.
func txnOf(ops []clientv3.Op, pins ...clientv3.Cmp) *pb.TxnRequest {
	t := &pb.TxnRequest{}
	for _, c := range pins {
		t.Compare = append(t.Compare, (*pb.Compare)(&c))
	}
	for _, op := range ops {
		switch {
		case op.IsPut():
			t.Success = append(t.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: op.KeyBytes(), Value: op.ValueBytes()}}})
		case op.IsDelete():
			t.Success = append(t.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: op.KeyBytes(), RangeEnd: op.RangeBytes()}}})
		case op.IsGet():
			t.Success = append(t.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: op.KeyBytes(), RangeEnd: op.RangeBytes()}}})
		}
	}
	return t
}

// leased gives a transaction's puts a lease.
func leased(t *pb.TxnRequest, id int64) *pb.TxnRequest {
	for _, op := range t.Success {
		if p := op.GetRequestPut(); p != nil {
			p.Lease = id
		}
	}
	return t
}

// TestRights has b try what it may and what it may not.
func TestRights(t *testing.T) {
	own, fresh := leaseText("b", "192.0.2.2", macB), subnet+"10.5.77.0-24"
	put := func(key, value string, rev, lease int64) *pb.TxnRequest {
		return leased(txnOf([]clientv3.Op{clientv3.OpPut(key, value)}, ifAt(key, rev)), lease)
	}
	del := func(key string, rev int64) *pb.TxnRequest {
		return txnOf([]clientv3.Op{clientv3.OpDelete(key)}, ifAt(key, rev))
	}
	beside, other := theFabric+"/sealane/networks/more/config", theFabric+"/sealane/networks/other/config"
	for _, c := range []struct {
		name string
		txn  *pb.TxnRequest
		want string // in the refusal; "": none
	}{
		{"renew", put(subnet+"10.5.2.0-24", own, 12, ofB), ""},
		{"change its device", put(subnet+"10.5.2.0-24", leaseText("b", "192.0.2.2", "02:00:00:00:00:1b"), 12, ofB), ""},
		{"change its address", put(subnet+"10.5.2.0-24", leaseText("b", "198.51.100.7", macB), 12, ofB), ""},
		{"delete its lease", del(subnet+"10.5.2.0-24", 12), ""},
		{"another subnet instead", leased(txnOf([]clientv3.Op{clientv3.OpPut(fresh, own), clientv3.OpDelete(subnet + "10.5.2.0-24")}, ifAt(fresh, 0), ifAt(subnet+"10.5.2.0-24", 12)), ofB), ""},
		{"new", put(fresh, own, 0, ofB), ""},
		{"new by its version", leased(txnOf([]clientv3.Op{clientv3.OpPut(fresh, own)}, clientv3.Compare(clientv3.Version(fresh), "=", 0)), ofB), ""},
		{"new by its creation", leased(txnOf([]clientv3.Op{clientv3.OpPut(fresh, own)}, clientv3.Compare(clientv3.CreateRevision(fresh), "=", 0)), ofB), ""},
		{"take what is reserved for it", put(subnet+"10.5.3.0-24", own, 13, 0), ""},
		{"and with an end", put(subnet+"10.5.3.0-24", own, 13, ofB), ""},
		{"write over nonsense", put(subnet+"10.5.5.0-24", own, 15, ofB), ""},
		{"make a network", put(beside, `{"Network":"10.6.0.0/16"}`, 0, 0), ""},
		{"add a family to a network", put(theFabric+"/config", config46, 10, 0), ""},
		{"move a network", put(theFabric+"/config", `{"Network":"10.6.0.0/16"}`, 10, 0), ""},
		{"two networks that change places", txnOf([]clientv3.Op{clientv3.OpPut(beside, config4), clientv3.OpDelete(theFabric + "/config")}, ifAt(beside, 0), ifAt(theFabric+"/config", 10)), ""},
		{"remove a network", del(theFabric+"/config", 10), ""},
		{"read", txnOf([]clientv3.Op{clientv3.OpGet(theFabric+"/", clientv3.WithPrefix())}), ""},

		{"overwrite a's lease", put(subnet+"10.5.1.0-24", own, 11, ofB), "host b may not put /coreos.com/network/subnets/10.5.1.0-24: it is held by a (id-of-host-a)"},
		{"renew a's lease", put(subnet+"10.5.1.0-24", leaseText("a", "192.0.2.1", macA), 11, ofB), "held by a"},
		{"delete a's lease", del(subnet+"10.5.1.0-24", 11), "held by a"},
		{"delete a's besides its own", txnOf([]clientv3.Op{clientv3.OpDelete(subnet + "10.5.2.0-24"), clientv3.OpDelete(subnet + "10.5.1.0-24")}, ifAt(subnet+"10.5.2.0-24", 12), ifAt(subnet+"10.5.1.0-24", 11)), "held by a"},
		{"take what is another's reservation", put(subnet+"10.5.4.0-24", own, 14, ofB), "of who is at 192.0.2.9"},
		{"delete that", del(subnet+"10.5.4.0-24", 14), "of who is at 192.0.2.9"},
		{"delete nonsense", del(subnet+"10.5.5.0-24", 15), "nobody's"},
		{"name a", put(fresh, leaseText("a", "192.0.2.2", macB), 0, ofB), "names another host, a (id-of-host-a)"},
		{"name a with its own ID", put(fresh, strings.Replace(own, `"Name":"b"`, `"Name":"a"`, 1), 0, ofB), "names another host"},
		{"name a on its own lease", put(subnet+"10.5.2.0-24", leaseText("a", "192.0.2.2", macB), 12, ofB), "names another host"},
		{"name nobody", put(fresh, `{"PublicIP":"192.0.2.2"}`, 0, ofB), "does not name the host"},
		{"name nobody on its own lease", put(subnet+"10.5.2.0-24", `{"PublicIP":"192.0.2.2"}`, 12, ofB), "does not name the host"},
		{"reserve", put(fresh, own, 0, 0), "has to have a lease of etcd's"},
		{"have its lease last", put(subnet+"10.5.2.0-24", own, 12, 0), "has to have a lease of etcd's"},
		{"use a's etcd lease", put(subnet+"10.5.2.0-24", own, 12, ofA), "not this host's"},
		{"use nobody's", put(subnet+"10.5.2.0-24", own, 12, 7), "not this host's"},
		{"a's address", put(subnet+"10.5.2.0-24", leaseText("b", "192.0.2.1", macB), 12, ofB), "address 192.0.2.1 is that of a"},
		{"an address that is reserved", put(fresh, leaseText("b", "192.0.2.9", macB), 0, ofB), "address 192.0.2.9 is in a lease that is of who is at 192.0.2.9"},
		{"a's device", put(subnet+"10.5.2.0-24", leaseText("b", "192.0.2.2", strings.ToUpper(macA)), 12, ofB), "VtepMAC " + macA + " is in a lease that is held by a"},
		{"half of a's subnet", put(subnet+"10.5.1.128-25", own, 0, ofB), "overlaps 10.5.1.0/24, which is held by a"},
		{"a's subnet by another name", put(subnet+"10.5.1.0-24&fd10::-64", own, 0, ofB), "not a host's part"},
		{"a name like a's", put(subnet+"10.5.01.0-24", own, 0, ofB), "no subnet's name"},
		{"two subnets at once", put(subnet+"10.5.6.0-23", own, 0, ofB), "not a host's part"},
		{"a subnet elsewhere", put(subnet+"10.6.1.0-24", own, 0, ofB), "not a host's part"},
		{"no subnet", put(subnet+"0.0.0.0-0&fd10::-64", own, 0, ofB), "not a host's part"},
		{"a fabric that is none", put(theFabric+"/sealane/networks/none/subnets/10.5.1.0-24", own, 0, ofB), "has no config"},
		{"no lease", put(fresh, "[]", 0, ofB), "where an object belongs"},
		{"a network over another", put(beside, config46, 0, 0), "overlaps 10.5.0.0/16, of /coreos.com/network/config"},
		{"a network around another", put(beside, `{"Network":"10.0.0.0/8"}`, 0, 0), "overlaps 10.5.0.0/16"},
		{"two networks at once", txnOf([]clientv3.Op{clientv3.OpPut(beside, config4), clientv3.OpPut(other, config4)}, ifAt(beside, 0), ifAt(other, 0)), "one key at a time"},
		{"a config that is none", put(beside, "{", 0, 0), "may not put " + beside},
		{"a config that ends", put(beside, config4, 0, ofB), "does not end by itself"},

		{"without a condition", leased(txnOf([]clientv3.Op{clientv3.OpPut(fresh, own)}), ofB), "only on condition"},
		{"on condition of another key", leased(txnOf([]clientv3.Op{clientv3.OpPut(fresh, own)}, ifAt(subnet+"10.5.2.0-24", 12)), ofB), "only on condition"},
		{"if it is not there or is", leased(txnOf([]clientv3.Op{clientv3.OpPut(fresh, own)}, clientv3.Compare(clientv3.ModRevision(fresh), ">", -1)), ofB), "only on condition"},
		{"if its value is", leased(txnOf([]clientv3.Op{clientv3.OpPut(fresh, own)}, clientv3.Compare(clientv3.Value(fresh), "=", "x")), ofB), "only on condition"},
		{"if a range is", leased(txnOf([]clientv3.Op{clientv3.OpPut(fresh, own)}, ifAt(fresh, 0).WithPrefix()), ofB), "only on condition"},
		{"a range", txnOf([]clientv3.Op{clientv3.OpDelete(subnet, clientv3.WithPrefix())}, ifAt(subnet, 0)), "only on condition"},
		{"a range from its own", txnOf([]clientv3.Op{clientv3.OpDelete(subnet+"10.5.2.0-24", clientv3.WithFromKey())}, ifAt(subnet+"10.5.2.0-24", 12)), "only on condition"},
		{"the token", put(keyToken, `{}`, 16, 0), "not a key that a host writes"},
		{"its record", put(keyHosts+"b", `{}`, 2, 0), "not a key that a host writes"},
		{"a's record", del(keyHosts+"a", 1), "not a key that a host writes"},
		{"elsewhere", put("/elsewhere", "x", 0, 0), "only on condition"},
		{"the root", put(theFabric, "x", 0, 0), "only on condition"},
		{"a network of no name", put(theFabric+"/sealane/networks/../config", config4, 0, 0), "not a key that a host writes"},
		{"read all", txnOf([]clientv3.Op{clientv3.OpGet("\x00", clientv3.WithFromKey())}), "read the cluster's own keys only"},
		{"much", put(fresh, strings.Repeat(" ", maxValue)+own, 0, ofB), "up to"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			s := stage()
			b, err := domain(theFabric).bid(c.txn)
			if err == nil && !b.holds(s) {
				t.Fatal("its conditions do not hold")
			}
			if err == nil {
				err = b.judge(stageHost("b"), s)
			}
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestReservationStays has b give back a lease that was a reservation before.
func TestReservationStays(t *testing.T) {
	key := subnet + "10.5.3.0-24"
	for bare, good := range map[string]bool{
		`{"PublicIP":"192.0.2.2","PublicIPv6":null}`:                      true,
		`{"PublicIP":"192.0.2.1"}`:                                        false,
		`{"PublicIP":"192.0.2.2","BackendType":"vxlan"}`:                  false,
		`{"PublicIP":"192.0.2.2","PublicIPv6":"fd00::1","BackendData":1}`: false,
	} {
		s := stage()
		s.keys[key].Value = []byte(leaseText("b", "192.0.2.2", macB))
		b, err := domain(theFabric).bid(txnOf([]clientv3.Op{clientv3.OpPut(key, bare)}, ifAt(key, 13)))
		if err == nil {
			err = b.judge(stageHost("b"), s)
		}
		if (err == nil) != good {
			t.Errorf("%s: %v", bare, err)
		}
	}
}

// TestManySubnets has b take one after the other.
func TestManySubnets(t *testing.T) {
	s := stage()
	delete(s.keys, subnet+"10.5.3.0-24")
	for i := range 10 {
		key := fmt.Sprintf("%s10.5.%d.0-24", subnet, 100+i)
		b, err := domain(theFabric).bid(leased(txnOf([]clientv3.Op{clientv3.OpPut(key, leaseText("b", "192.0.2.2", macB))}, ifAt(key, 0)), ofB))
		if err != nil {
			t.Fatal(err)
		}
		err = b.judge(stageHost("b"), s)
		if have := i + 1; (err == nil) != (have < maxSubnets) {
			t.Fatalf("with %d: %v", have, err)
		}
		if err != nil {
			return
		}
		s.keys[key] = &mvccpb.KeyValue{Key: []byte(key), Value: b.wishes[0].put.Value, ModRevision: s.rev, Lease: ofB}
	}
}

func TestReadable(t *testing.T) {
	for _, c := range []struct {
		key, end string
		want     bool
	}{
		{theFabric + "/config", "", true},
		{theFabric + "/", clientv3.GetPrefixRangeEnd(theFabric + "/"), true},
		{subnet, clientv3.GetPrefixRangeEnd(subnet), true},
		{keyHosts, clientv3.GetPrefixRangeEnd(keyHosts), true},
		{root + "/", clientv3.GetPrefixRangeEnd(root + "/"), true},
		{theFabric, clientv3.GetPrefixRangeEnd(theFabric), false},
		{theFabric + "/", "\x00", false},
		{theFabric + "/", "\xff", false},
		{theFabric + "/", "/coreos.com/network1", false},
		{"", "\x00", false},
		{"\x00", "\x00", false},
		{"/", "0", false},
		{"/sealane/clusters", "", false},
		{"/secret", "", false},
	} {
		if got := domain(theFabric).readable([]byte(c.key), []byte(c.end)); got != c.want {
			t.Errorf("%q to %q: %v", c.key, c.end, got)
		}
	}
}

// FuzzRights has b send any transaction: if it is allowed and its conditions hold,
// nothing has changed that is not b's, but configs that can be read.
func FuzzRights(f *testing.F) {
	for _, seed := range []*pb.TxnRequest{
		leased(txnOf([]clientv3.Op{clientv3.OpPut(subnet+"10.5.2.0-24", leaseText("b", "192.0.2.2", macB))}, ifAt(subnet+"10.5.2.0-24", 12)), ofB),
		leased(txnOf([]clientv3.Op{clientv3.OpPut(subnet+"10.5.1.0-24", leaseText("b", "192.0.2.2", macB))}, ifAt(subnet+"10.5.1.0-24", 11)), ofB),
		txnOf([]clientv3.Op{clientv3.OpDelete(subnet, clientv3.WithPrefix()), clientv3.OpGet(theFabric + "/config")}, ifAt(subnet, 0)),
		txnOf([]clientv3.Op{clientv3.OpPut(theFabric+"/config", config46)}, ifAt(theFabric+"/config", 10)),
	} {
		text, err := seed.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte{0, 1, 1, 3, 1, 2, 1, 2})
	f.Add([]byte{0, 8, 1, 0, 1, 1, 2, 1, 3, 2, 0, 5, 5, 9, 1})
	f.Fuzz(func(t *testing.T, text []byte) {
		var r pb.TxnRequest
		if r.Unmarshal(text) != nil {
			r = *program(text)
		}
		before := stage()
		b, err := domain(theFabric).bid(&r)
		if err != nil || !b.holds(before) || b.judge(stageHost("b"), before) != nil {
			return
		}
		after := scene{keys: applied(b.pinned("b", before, true), before)}
		for key, was := range before.keys {
			holds, vacant, _ := tenant(stageHost("b"), before.said(key))
			now := after.keys[key]
			if strings.HasPrefix(key, subnet) && (holds || vacant) || key == theFabric+"/config" {
				continue
			}
			if now == nil || string(now.Value) != string(was.Value) || now.Lease != was.Lease {
				t.Errorf("%s: has changed", key)
			}
		}
		for key, now := range after.keys {
			if before.keys[key] == now {
				continue
			}
			if holds, _, who := tenant(stageHost("b"), after.said(key)); strings.Contains(key, "/subnets/") && !holds {
				t.Errorf("%s: is %s now", key, who)
			} else if !strings.Contains(key, "/subnets/") && !strings.HasSuffix(key, "/config") && !strings.HasPrefix(key, ov) {
				t.Errorf("%s: was made", key)
			}
		}
	})
}

// program makes a transaction of numbers, five for each operation.
func program(numbers []byte) *pb.TxnRequest {
	keys := []string{subnet + "10.5.1.0-24", subnet + "10.5.2.0-24", subnet + "10.5.3.0-24", subnet + "10.5.4.0-24", subnet + "10.5.5.0-24", subnet + "10.5.6.0-24",
		subnet + "10.5.1.128-25", subnet + "10.5.1.0-24&fd10::-64", theFabric + "/config", keyToken, keyHosts + "b", subnet, theFabric + "/sealane/networks/n/config"}
	values := []string{leaseText("b", "192.0.2.2", macB), leaseText("a", "192.0.2.1", macA), leaseText("b", "192.0.2.1", macB), leaseText("b", "192.0.2.2", macA),
		`{"PublicIP":"192.0.2.2"}`, config4, config46, "{"}
	leases := []int64{ofB, ofA, 0}
	t := &pb.TxnRequest{}
	for ; len(numbers) >= 5; numbers = numbers[5:] {
		kind, key, value, rev, lease := numbers[0], keys[int(numbers[1])%len(keys)], values[int(numbers[2])%len(values)], int64(numbers[3]%20), leases[int(numbers[4])%len(leases)]
		op := clientv3.OpPut(key, value)
		switch kind % 4 {
		case 1:
			op = clientv3.OpDelete(key)
		case 2:
			op = clientv3.OpDelete(key, clientv3.WithPrefix())
		}
		if kind&16 != 0 { // as it is there
			rev = stage().revOf(key)
		}
		more := leased(txnOf([]clientv3.Op{op}, ifAt(key, rev)), lease)
		t.Success = append(t.Success, more.Success...)
		if kind&32 == 0 {
			t.Compare = append(t.Compare, more.Compare...)
		}
	}
	return t
}

// applied is what etcd makes of a transaction whose conditions hold.
func applied(t *pb.TxnRequest, s scene) map[string]*mvccpb.KeyValue {
	out := maps.Clone(s.keys)
	for _, op := range t.Success {
		if p := op.GetRequestPut(); p != nil {
			out[string(p.Key)] = &mvccpb.KeyValue{Key: p.Key, Value: p.Value, Lease: p.Lease}
		}
		d := op.GetRequestDeleteRange()
		if d == nil {
			continue
		}
		for key := range s.keys {
			end := string(d.RangeEnd)
			if key == string(d.Key) || end != "" && key >= string(d.Key) && (end == "\x00" || key < end) {
				delete(out, key)
			}
		}
	}
	return out
}
