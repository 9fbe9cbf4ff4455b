package script

import (
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFabricDaemonKilled kills a daemon. Packets do not notice, nor that it comes back,
// which finds what happened meanwhile.
func TestFabricDaemonKilled(t *testing.T) {
	f := newFabric(t, 5)
	pairs := f.traffic(f.all()...)
	h := f.host(2)
	h.Kill9()
	time.Sleep(time.Second)
	f.ctl("put", key(77), `{"PublicIP":"192.0.2.77","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"76:8a:00:46:cd:77"}}`)
	f.eventually("h1 has heard of another", 20*time.Second, func() bool { return f.host(1).Must("ip", "route", "show", "10.5.77.0/24") != "" })
	h.Restart()
	f.eventually("h2 too", 20*time.Second, func() bool { return h.Must("ip", "route", "show", "10.5.77.0/24") != "" })
	time.Sleep(time.Second)
	f.lostNothing(pairs)
	f.settled(f.all()...)
}

// TestFabricHostGone takes a host away whole: its daemon and its cable. It has its
// subnet until its lease ends; the others then know nothing of it, and lose nothing.
func TestFabricHostGone(t *testing.T) {
	f := newFabric(t, 5)
	pairs := f.traffic(f.all()...)
	f.host(5).Kill9()
	f.host(5).Cut("eth0")
	time.Sleep(time.Second)
	if out := f.host(1).Must("ip", "route", "show", "10.5.5.0/24"); out == "" {
		t.Error("its subnet is nobody's while its lease lasts")
	}
	// As etcd does when the time of a lease is over.
	var id string
	for line := range strings.Lines(f.ctl("get", "--write-out", "fields", key(5))) {
		if n, ok := strings.CutPrefix(line, `"Lease" : `); ok {
			id = strings.TrimSpace(n)
		}
	}
	var n int64
	if _, err := fmt.Sscan(id, &n); err != nil || n == 0 {
		t.Fatalf("lease of %s: %q: does not end", key(5), id)
	}
	f.ctl("lease", "revoke", fmt.Sprintf("%x", n))
	for _, i := range []int{1, 2, 3, 4} {
		f.eventually(fmt.Sprintf("h%d has no way there", i), 30*time.Second, func() bool {
			h := f.host(i)
			return h.Must("ip", "route", "show", "10.5.5.0/24") == "" && !strings.Contains(h.Must("bridge", "fdb", "show"), "dst 192.0.2.5 ")
		})
	}
	f.lostNothing(pairs, 5)
	f.settled(1, 2, 3, 4)
}

// TestFabricWithoutEtcd cuts etcd from all hosts. They go on, daemons that start then
// too, with new containers; nobody is another's when it is back.
func TestFabricWithoutEtcd(t *testing.T) {
	f := newFabric(t, 5)
	before := f.leases()
	pairs := f.traffic(f.all()...)
	f.e.Cut("eth0")
	f.eventually("h1 notices", 30*time.Second, func() bool {
		return strings.TrimSpace(f.host(1).Must("sealane", "network", "inspect", "--format", "{{.Fabric.InTouch}}", "flannel")) == "false"
	})
	f.host(3).Kill9()
	f.host(3).Restart()
	f.serve(f.host(3), "more")
	f.eventually("h4 reaches a new container of h3", 20*time.Second, func() bool { return f.ask(f.host(4), "10.5.3.3") == "h3" })
	f.e.Mend("eth0")
	for _, i := range f.all() {
		f.eventually(fmt.Sprintf("h%d is in touch again", i), 30*time.Second, func() bool {
			return strings.TrimSpace(f.host(i).Must("sealane", "network", "inspect", "--format", "{{.Fabric.InTouch}}", "flannel")) == "true"
		})
	}
	time.Sleep(time.Second)
	f.lostNothing(pairs)
	if after := f.leases(); !maps.Equal(before, after) {
		t.Errorf("leases: %v, were %v", after, before)
	}
	f.settled(f.all()...)
}

// TestFabricOldEtcd gives etcd back what it held before three of five hosts joined. They
// write their leases again, and nobody is forgotten meanwhile.
func TestFabricOldEtcd(t *testing.T) {
	f := newFabric(t, 2)
	f.stopEtcd(syscall.SIGTERM)
	f.e.Must("cp", "-a", etcdData, "/var/lib/copy")
	f.startEtcd()
	for i := 3; i <= 5; i++ {
		f.join(i, i)
	}
	f.reached(f.all()...)
	before := f.leases()
	pairs := f.traffic(f.all()...)
	f.stopEtcd(syscall.SIGKILL)
	f.e.Must("sh", "-c", "rm -r "+etcdData+" && cp -a /var/lib/copy "+etcdData)
	f.startEtcd()
	f.eventually("all leases are there", 30*time.Second, func() bool { return maps.Equal(before, f.leases()) })
	time.Sleep(2 * time.Second)
	f.lostNothing(pairs)
	f.settled(f.all()...)
}

// TestFabricCompacted compacts etcd while a daemon is dead and another one cannot
// reach it: what they missed they find all the same.
func TestFabricCompacted(t *testing.T) {
	f := newFabric(t, 5)
	other := func(n int) string {
		return fmt.Sprintf(`{"PublicIP":"192.0.2.%d","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"76:8a:00:46:cd:%d"}}`, n, n)
	}
	f.ctl("put", key(70), other(70))
	way := func(i, subnet int) bool {
		return f.host(i).Must("ip", "route", "show", fmt.Sprintf("10.5.%d.0/24", subnet)) != ""
	}
	for _, i := range f.all() {
		f.eventually(fmt.Sprintf("h%d knows of one that will go", i), 30*time.Second, func() bool { return way(i, 70) })
	}
	pairs := f.traffic(f.all()...)
	f.host(2).Kill9()
	f.host(3).Must("nft", "add table inet away { chain in { type filter hook input priority 0; ip saddr 192.0.2.99 drop; }; }")
	f.ctl("del", key(70))
	for n := 71; n < 80; n++ {
		f.ctl("put", key(n), other(n))
	}
	f.ctl("del", key(71))
	var revision int
	for line := range strings.Lines(f.ctl("get", "--write-out", "fields", key(1))) {
		if n, ok := strings.CutPrefix(line, `"Revision" : `); ok {
			fmt.Sscan(n, &revision)
		}
	}
	f.ctl("compact", fmt.Sprint(revision))
	f.ctl("defrag")
	time.Sleep(6 * time.Second) // h3's connection is given up
	if way(3, 79) {
		t.Error("h3 was to know nothing of what happened")
	}
	f.host(2).Restart()
	f.host(3).Must("nft", "delete table inet away")
	for _, i := range f.all() {
		f.eventually(fmt.Sprintf("h%d has the ways of now", i), 30*time.Second, func() bool { return !way(i, 70) && !way(i, 71) && way(i, 72) && way(i, 79) })
	}
	f.lostNothing(pairs)
	f.settled(f.all()...)
}

// TestFabricHostReturns has hosts come back whose leases have ended, and whose subnets
// other hosts have: one with a container, and one without.
func TestFabricHostReturns(t *testing.T) {
	f := newFabric(t, 5)
	full, empty := f.host(4), f.host(5)
	empty.Must("sealane", "rm", "-f", "web")
	pairs := f.traffic(1, 2, 3)
	for i, h := range f.hosts[3:] {
		h.Kill9()
		h.Cut("eth0")
		f.ctl("del", key(4+i))
	}
	f.eventually("h1 has no way there", 20*time.Second, func() bool {
		return f.host(1).Must("ip", "route", "show", "10.5.4.0/24")+f.host(1).Must("ip", "route", "show", "10.5.5.0/24") == ""
	})
	f.join(6, 4)
	f.join(7, 5)
	f.eventually("h1 reaches who came in their place", 20*time.Second, func() bool {
		return f.ask(f.host(1), "10.5.4.2") == "h6" && f.ask(f.host(1), "10.5.5.2") == "h7"
	})
	for _, h := range f.hosts[3:5] {
		h.Mend("eth0")
		h.Restart()
	}

	// With a container: it keeps its address, and the host says what is wrong.
	f.eventually("h4 says that its subnet is another's", 30*time.Second, func() bool {
		return strings.HasPrefix(f.status(full), "conflict subnet 10.5.4.0/24: is held by h6")
	})
	t.Logf("h4: %s", f.status(full))
	if out := full.Must("sealane", "exec", "web", "--", "ip", "-o", "-4", "addr", "show", "dev", "eth0"); !strings.Contains(out, " 10.5.4.2/24 ") {
		t.Errorf("h4's container has lost its address:\n%s", out)
	}
	// Without: it has another subnet at once.
	f.eventually("h5 has another subnet", 30*time.Second, func() bool {
		s := f.subnet(empty)
		return s != "" && s != "10.5.5.0/24" && f.status(empty) == "ready"
	})
	f.serve(empty, "web")
	addr := strings.TrimSuffix(f.subnet(empty), "0/24") + "2"
	f.eventually("h1 reaches h5 at "+addr, 20*time.Second, func() bool { return f.ask(f.host(1), addr) == "h5" })

	// The others know whom they have known; it comes to rest when the container goes.
	if got := f.ask(f.host(1), "10.5.4.2"); got != "h6" {
		t.Errorf("10.5.4.2 is %q, want h6", got)
	}
	full.Must("sealane", "rm", "-f", "web")
	f.eventually("h4 has another subnet", 20*time.Second, func() bool { return f.subnet(full) != "10.5.4.0/24" && f.status(full) == "ready" })
	f.serve(full, "web")
	addr = strings.TrimSuffix(f.subnet(full), "0/24") + "2"
	f.eventually("h1 reaches h4 at "+addr, 20*time.Second, func() bool { return f.ask(f.host(1), addr) == "h4" })
	f.lostNothing(pairs)
	f.settled(f.all()...)
}
