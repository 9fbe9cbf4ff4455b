package linux

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/feature/featuretest"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/lab/openvswitch"
)

func TestConformance(t *testing.T) {
	kerneltest.Run(t, func(t *testing.T) kerneltest.Fixture {
		c := Config{RunDir: host(t), Journal: &journal.Memory{}}
		ovs := openvswitch.Here(t)
		c.OVSDB = ovs.Socket()
		o := &outside{Config: c, dir: t.TempDir(), ovs: ovs}
		o.k = open(t, c)
		return kerneltest.Fixture{Kernel: o.k, Journal: c.Journal, RunDir: c.RunDir, Outside: o, Require: func(t *testing.T, features ...string) { featuretest.Require(t, features...) }}
	})
}

// outside is what the suite asks of somebody else, done with ip and nft.
type outside struct {
	Config
	k   *Linux
	dir string // for namespaces that are not ours

	ovs     openvswitch.OVS
	running running
}

func (o *outside) Reopen(t *testing.T) kernel.Kernel {
	if err := o.k.Close(); err != nil {
		t.Fatal(err)
	}
	o.k = open(t, o.Config)
	return o.k
}

func (o *outside) Bridge(t *testing.T, name string) {
	run(t, "ip link add %s type bridge", name)
	run(t, "ip link set %s up", name)
}

func (o *outside) Wire(t *testing.T, name string, up bool) {
	run(t, "ip link add %s type veth peer name far-%s", name, name)
	run(t, "ip link set far-%s up", name)
	o.SetUp(t, name, up)
}

func (o *outside) OnWire(t *testing.T, dev, name string) {
	run(t, "ip link add %s link %s type macvlan mode bridge", name, dev)
	o.SetUp(t, name, true)
}

func (o *outside) SetUp(t *testing.T, dev string, up bool) {
	run(t, "ip link set %s %s", dev, map[bool]string{true: "up", false: "down"}[up])
}

func (o *outside) Addr(t *testing.T, dev string, p netip.Prefix) {
	run(t, "ip address add %s dev %s", p, dev)
}

func (o *outside) AddrIn(t *testing.T, ns kstate.NS, dev string, p netip.Prefix) {
	run(t, "nsenter --net=%s ip address add %s dev %s", ns.Path, p, dev)
}

func (o *outside) SetMAC(t *testing.T, ns kstate.NS, dev, mac string) {
	run(t, "nsenter --net=%s ip link set %s address %s", ns.Path, dev, mac)
}

func (o *outside) Route(t *testing.T, dst netip.Prefix, dev string) {
	run(t, "ip route add %s dev %s", dst, dev)
}

func (o *outside) Unroute(t *testing.T, ns kstate.NS, dev string, p netip.Prefix) {
	enter := ""
	if !ns.IsHost() {
		enter = "nsenter --net=" + ns.Path + " "
	}
	run(t, "%sip route del %s dev %s proto kernel", enter, p.Masked(), dev)
}

func (o *outside) DefaultIn(t *testing.T, ns kstate.NS, via netip.Addr, dev string) {
	run(t, "nsenter --net=%s ip route add default via %s dev %s proto static onlink", ns.Path, via, dev)
}

func (o *outside) Delete(t *testing.T, dev string) { run(t, "ip link delete %s", dev) }

func (o *outside) Unplug(t *testing.T, dev string) { run(t, "ip link set %s nomaster", dev) }

func (o *outside) Plug(t *testing.T, dev, bridge string) {
	run(t, "ip link set %s master %s", dev, bridge)
}

func (o *outside) Sort(t *testing.T, bridge string) {
	run(t, "ip link set %s type bridge vlan_filtering 1", bridge)
}

func (o *outside) Untag(t *testing.T, dev string) { run(t, "bridge vlan del dev %s vid 1-4094", dev) }

func (o *outside) Shape(t *testing.T, dev string) {
	run(t, "tc qdisc replace dev %s root bfifo limit 100000", dev)
}

func (o *outside) Shaped(t *testing.T, dev string) bool {
	return strings.Contains(run(t, "tc qdisc show dev %s root", dev), "bfifo")
}

func (o *outside) Unshape(t *testing.T, dev string) {
	run(t, "tc qdisc del dev %s root", dev)
	if strings.Contains(run(t, "tc qdisc show dev %s", dev), "clsact") {
		run(t, "tc qdisc del dev %s clsact", dev)
	}
}

func (o *outside) Flush(t *testing.T) { run(t, "nft flush ruleset") }

func (o *outside) Chain(t *testing.T, c kstate.Chain) {
	run(t, "nft add table %s %s", c.Table.Family, c.Table.Name)
	spec := ""
	if typ, policy, drops := strings.Cut(c.Type, " policy "); c.Hook != "" {
		if !drops {
			policy = "accept"
		}
		spec = fmt.Sprintf("{ type %s hook %s priority %d ; policy %s ; }", typ, c.Hook, c.Priority, policy)
	}
	at := fmt.Sprintf("%s %s %s", c.Table.Family, c.Table.Name, c.Name)
	run(t, "nft add chain %s %s", at, spec)
	for _, r := range c.Rules {
		if _, to, ok := strings.Cut(r, "jump "); ok {
			run(t, "nft add chain %s %s %s", c.Table.Family, c.Table.Name, to)
		}
		run(t, "nft add rule %s %s", at, r)
	}
}

func (o *outside) DropTable(t *testing.T, table kstate.Table) {
	run(t, "nft delete table %s %s", table.Family, table.Name)
}

func (o *outside) NetNS(t *testing.T) kstate.NS {
	path := filepath.Join(o.dir, "other")
	run(t, "touch %s", path)
	run(t, "unshare --net=%s ip link set lo up", path)
	t.Cleanup(func() { unmountAll(t, o.dir) })
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return kstate.NS{Path: path, Inode: st.Ino}
}

func (o *outside) Take(t *testing.T, dev string, ns kstate.NS, name string) {
	run(t, "ip link set %s netns %s name %s", dev, ns.Path, name)
	run(t, "nsenter --net=%s ip link set %s up", ns.Path, name)
}

func (o *outside) Bring(t *testing.T, ns kstate.NS, name, dev string) {
	run(t, "nsenter --net=%s ip link set %s down", ns.Path, name)
	run(t, "nsenter --net=%s ip link set %s netns /proc/%d/ns/net name %s", ns.Path, name, unix.Gettid(), dev)
}

func (o *outside) DropNetNS(t *testing.T, ns kstate.NS) {
	run(t, "umount %s", ns.Path)
	run(t, "rm %s", ns.Path)
}

// Listen leaves the socket to another process: one of our own is in no hold's way.
func (o *outside) Listen(t *testing.T, proto string, at netip.AddrPort) (string, error) {
	l, err := net.Listen(proto, at.String())
	if err != nil {
		return "", err
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return "", err
	}
	defer f.Close()
	cmd := exec.Command("sleep", "60")
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return fmt.Sprintf("sleep (pid %d)", cmd.Process.Pid), nil
}

func sysctlFile(name string) string { return "/proc/sys/" + strings.ReplaceAll(name, ".", "/") }

func (o *outside) Sysctl(t *testing.T, name string) string {
	b, err := os.ReadFile(sysctlFile(name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func (o *outside) SetSysctl(t *testing.T, name, value string) {
	if err := os.WriteFile(sysctlFile(name), []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}
