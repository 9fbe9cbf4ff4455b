package vm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab/openvswitch"
)

// machine is the guest itself as a host: its first network namespace is where the
// kernel puts NICs whose namespace ends, and nowhere else can that be seen.
//
//	guest: eth0, eth2 ── wire ── eth1 192.0.2.2 in namespace peer
type machine struct {
	*testing.T
	daemon *exec.Cmd
	log    *os.File
}

func newMachine(t *testing.T) *machine {
	log, err := os.Create(t.TempDir() + "/daemon")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{T: t, log: log}
	t.Cleanup(func() {
		if b, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("daemon:\n%s", b)
		}
	})
	m.sh("ip netns add peer && ip link set eth1 netns peer && ip -n peer link set eth1 up && ip -n peer addr add 192.0.2.2/24 dev eth1")
	t.Cleanup(func() {
		m.sh("ip -n peer link set eth1 netns 1 && ip netns del peer")
	})
	m.start()
	t.Cleanup(func() { m.kill() })
	return m
}

// sh runs a script, which must work, and returns what it prints.
func (m *machine) sh(format string, args ...any) string {
	m.Helper()
	out, err := m.try(format, args...)
	if err != nil {
		m.Fatalf("%s: %v\n%s", fmt.Sprintf(format, args...), err, out)
	}
	return out
}

func (m *machine) try(format string, args ...any) (string, error) {
	out, err := exec.Command("bash", "-ec", fmt.Sprintf(format, args...)).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// start starts the daemon and waits until it answers.
func (m *machine) start() {
	m.Helper()
	m.daemon = exec.Command("sealane", "daemon")
	m.daemon.Stdout, m.daemon.Stderr = m.log, m.log
	if err := m.daemon.Start(); err != nil {
		m.Fatal(err)
	}
	m.until("the daemon answers", "sealane ps")
}

func (m *machine) kill() {
	m.daemon.Process.Kill()
	m.daemon.Wait()
}

// until waits for a script to work.
func (m *machine) until(what, script string) {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), 60*time.Second)
	defer cancel()
	for {
		out, err := m.try("%s", script)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			m.Fatalf("%s: not so: %s\n%s", what, script, out)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// atHome is a script that works while eth2 is as it was.
var atHome = fmt.Sprintf("ip -o link show dev eth2 | grep -q 'mtu 1500.* group default .*%s' && ip -4 -o addr show dev eth2 | grep -q '198.51.100.1/24 '", nicMAC(2))

// A real NIC comes home under its own name, with its addresses: when the endpoint
// goes, when the container's namespace ends, under a name that is free or one that
// is taken, and when that happens while no daemon is there.
func TestNICComesHome(t *testing.T) {
	m := newMachine(t)
	m.sh("ip link set eth2 up && ip addr add 198.51.100.1/24 dev eth2")
	m.sh("%s", atHome)
	m.sh("sealane network create -d phys -o parent=eth2 --subnet 192.0.2.0/24 nic")
	for i, c := range []struct {
		name string
		end  func(ns string)
	}{
		{"lan0", func(ns string) { m.sh("sealane network disconnect nic netns:/run/netns/%s", ns) }},
		{"lan0", func(ns string) { m.sh("ip netns del %s", ns) }},
		{"eth0", func(ns string) { m.sh("ip netns del %s", ns) }},
		{"eth0", func(ns string) {
			m.kill()
			m.sh("ip netns del %s", ns)
			m.until("the kernel puts it here", "ip link show group 24227 | grep -q .")
			m.start()
		}},
	} {
		ns := fmt.Sprint("c", i)
		m.sh("ip netns add %s", ns)
		m.sh("sealane network connect --ip 192.0.2.7 --ifname %s nic netns:/run/netns/%s", c.name, ns)
		m.until("it talks", "ip netns exec "+ns+" lab-echo ping 192.0.2.2")
		if out, err := m.try("ip link show dev eth2"); err == nil {
			t.Errorf("it is still here: %s", out)
		}
		c.end(ns)
		m.until(fmt.Sprintf("%d: it is at home", i), atHome)
		m.try("sealane network disconnect nic netns:/run/netns/%s", ns)
		m.try("sealane rm -f $(sealane ps -aq)")
		m.try("ip netns del %s", ns)
	}
	m.sh("sealane network rm nic")
	m.sh("%s", atHome)
	m.sh("ip addr flush dev eth2")
}

// The same by commands of pipework, with an address from a DHCP server; and with
// containers that die while they get the NIC.
func TestNICOfPipework(t *testing.T) {
	m := newMachine(t)
	m.sh("ip link set eth2 up && ip addr add 198.51.100.1/24 dev eth2")
	m.sh("ip netns exec peer dnsmasq --conf-file=/dev/null --user=root --pid-file=/run/dnsmasq.pid --port=0 --interface=eth1 --no-ping --dhcp-leasefile=/run/leases --dhcp-range=192.0.2.50,192.0.2.59,255.255.255.0,10m")
	t.Cleanup(func() { m.sh("kill $(cat /run/dnsmasq.pid)") })
	const leased = "ip -n c -4 -o addr show dev eth1 | grep -q ' 192.0.2.5./24 ' && ip netns exec c lab-echo ping 192.0.2.2"
	m.sh("ip netns add c && sealane pipework --direct-phys eth2 netns:/run/netns/c dhcp")
	m.sh(leased)
	m.sh("ip netns del c && ip netns add c")
	m.until("the next container of that name has it", leased)
	m.sh("sealane pipework --undo phys:eth2 netns:/run/netns/c && ip netns del c")
	m.until("it is at home", atHome)
	for i := range 8 {
		out, _ := m.try(`unshare -n sleep 60 &
pid=$!; (sleep 0.%d; kill -9 $pid) & sealane pipework --direct-phys eth2 pid:$pid 192.0.2.7/24`, i)
		if n := strings.Count(out, "pipework: "); n > 1 || strings.Contains(out, "+ ") {
			t.Errorf("%d: want at most one clear line: %s", i, out)
		}
		m.until(fmt.Sprintf("%d: it is at home, and nothing is left", i), atHome+` && test -z "$(sealane ps -aq; sealane network ls -q -f type=custom; sealane diff)"`)
	}
	m.sh("ip addr flush dev eth2")
}

// A NIC whose kernel merges what comes in stops that while it is a port of a bridge of
// Open vSwitch in user space, which drops merged frames.
func TestNICUnderUserSwitch(t *testing.T) {
	m := newMachine(t)
	ovs := openvswitch.OVS{Dir: "/run/openvswitch", DB: "/var/lib/openvswitch/conf.db", Bash: func(script string) (string, error) { return m.try("%s", script) }}
	if err := ovs.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, p := range []string{openvswitch.Switch, openvswitch.Server} {
			if err := ovs.End(p, "TERM"); err != nil {
				t.Errorf("%s: %v", p, err)
			}
		}
	})
	server := exec.Command("ip", "netns", "exec", "peer", "lab-echo", "serve", "-tcp", "80")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Process.Kill(); server.Wait() })
	// The wire is slow: have the kernel wait for what it may merge, as if much came at once.
	m.sh("echo 2000000 >/sys/class/net/eth2/gro_flush_timeout && echo 20 >/sys/class/net/eth2/napi_defer_hard_irqs")
	t.Cleanup(func() {
		m.sh("echo 0 >/sys/class/net/eth2/gro_flush_timeout; echo 0 >/sys/class/net/eth2/napi_defer_hard_irqs")
	})
	m.sh("ip addr add 192.0.2.7/24 dev eth2 && ip link set eth2 up && ovs-vsctl add-br br1 -- set bridge br1 datapath_type=netdev")
	t.Cleanup(func() { m.sh("ovs-vsctl del-br br1; ip addr flush dev eth2") })
	const fetch = "lab-echo get -timeout 15s http://192.0.2.2/bytes/3000000 | wc -c"
	m.until("the server answers", "lab-echo get http://192.0.2.2/")
	for _, step := range []string{"sealane uplink attach eth2 br1", "sealane uplink detach eth2"} {
		m.sh("%s", step)
		if got, _ := m.try(fetch); got != "3000000" {
			t.Errorf("after %s: %s", step, got)
		}
	}
}
