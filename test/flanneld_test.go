package script

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/feature/featuretest"
	"github.com/sealane/sealane/internal/lab"
	"github.com/sealane/sealane/internal/lab/flanneld"
)

// flannelHost is a host of flanneld's, with a pod on a bridge as flannel's CNI plugin has it made.
type flannelHost struct {
	*lab.Host
	program string
	process *lab.Process
	subnets []string // the gateways in its subnets, "10.5.7.1/24" and one of IPv6 if there is one
}

// flannelPod makes a bridge and a pod's namespace with a server.
const flannelPod = `set -e
. /run/flannel/subnet.env
ip link add cni0 type bridge
ip link set cni0 up mtu $FLANNEL_MTU
ip link add pod0 type veth peer name eth0 netns pod
ip link set pod0 master cni0 up
ip -n pod link set eth0 mtu $FLANNEL_MTU up
for gateway in $FLANNEL_SUBNET $FLANNEL_IPV6_SUBNET; do
  ip addr add $gateway dev cni0 nodad
  ip -n pod addr add ${gateway%1/*}2/${gateway#*/} dev eth0 nodad
  ip -n pod route add default via ${gateway%/*}
done
`

// flanneld adds a host with flanneld, and a pod.
func (f *fabric) flanneld(program string) *flannelHost {
	f.Helper()
	c := &flannelHost{Host: f.lab.Host("c"), program: program}
	c.Plug(f.lab.Switch("lan"), "eth0", "192.0.2.50/24", "2001:db8::50/64")
	c.Must("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	c.start(f)
	c.NetNS("pod")
	c.Must("sh", "-c", flannelPod)
	for line := range strings.Lines(c.Must("cat", "/run/flannel/subnet.env")) {
		if key, gateway, _ := strings.Cut(strings.TrimSpace(line), "="); strings.HasSuffix(key, "_SUBNET") {
			c.subnets = append(c.subnets, gateway)
		}
	}
	c.Start("ip", "netns", "exec", "pod", "lab-echo", "serve", "-tcp", "80", "-name", "pod")
	return c
}

// start starts flanneld, and waits until it has its subnets.
func (c *flannelHost) start(f *fabric) {
	f.Helper()
	c.process = c.Start(c.program, "-etcd-endpoints", "http://192.0.2.99:2379", "-iface", "eth0", "-ip-masq")
	f.eventually("flanneld is ready", 30*time.Second, func() bool { return strings.Contains(c.process.Output(), "flannel is ready") })
}

// pods are the addresses of its pod.
func (c *flannelHost) pods() (out []string) {
	for _, gateway := range c.subnets {
		addr, _, _ := strings.Cut(gateway, "/")
		out = append(out, strings.TrimSuffix(addr, "1")+"2")
	}
	return out
}

// meet waits until the containers of our hosts and flanneld's pod reach each other in
// each family, and see each other's own addresses.
func (f *fabric) meet(c *flannelHost) {
	f.Helper()
	for n, h := range f.hosts {
		for i, to := range c.pods() {
			from := f.webs[n][i]
			f.answers(h, f.enter[n], to, from, "pod")
			f.answers(c.Host, []string{"ip", "netns", "exec", "pod"}, from, to, h.Name)
		}
	}
}

// answers waits until somebody who is asked says that it is called so and sees the client.
func (f *fabric) answers(h *lab.Host, enter []string, addr, client, name string) {
	f.Helper()
	argv := append(enter, "lab-echo", "get", "-timeout", "2s", "http://"+bracketed(addr)+"/")
	f.eventually(fmt.Sprintf("%s of %s's answers %s", name, addr, client), 20*time.Second, func() bool {
		out := "\n" + h.Run(argv[0], argv[1:]...).Stdout
		return strings.Contains(out, "\nclient "+client+"\n") && strings.Contains(out, "\nname "+name+"\n")
	})
}

func bracketed(addr string) string {
	if strings.Contains(addr, ":") {
		return "[" + addr + "]"
	}
	return addr
}

// TestFlanneld: flanneld itself and our hosts share a network in one etcd, by each
// backend that the kernel has; whoever is killed keeps its subnet,
// who comes later is found, and ours takes the place of flanneld on its host.
func TestFlanneld(t *testing.T) {
	program := flanneld.Find(t)
	const families = `"EnableIPv6":true,"IPv6Network":"fd05::/48",`
	for _, c := range []struct {
		name, families, backend string
		carries                 bool // each packet, and so none while it is dead
	}{
		{"vxlan", "", `{"Type":"vxlan"}`, false},
		{"vxlan of both families", families, `{"Type":"vxlan","VNI":7,"Port":8473}`, false},
		{"vxlan by routes", "", `{"Type":"vxlan","DirectRouting":true}`, false},
		{"host-gw of both families", families, `{"Type":"host-gw"}`, false},
		{"wireguard of both families", families, `{"Type":"wireguard","PSK":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}`, false},
		{"udp", "", `{"Type":"udp","Port":8286}`, true},
		{"extension", "", `{"Type":"extension","SubnetAddCommand":"ip route add $SUBNET via $PUBLIC_IP","SubnetRemoveCommand":"ip route del $SUBNET via $PUBLIC_IP"}`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if strings.HasPrefix(c.name, "wireguard") {
				featuretest.Require(t, "wireguard")
			}
			f := newFabricOf(t, 1, `{"Network":"10.5.0.0/16",`+c.families+`"EnableNFTables":true,"Backend":`+c.backend+`}`)
			h := f.flanneld(program)
			f.meet(h)

			had := h.Must("cat", "/run/flannel/subnet.env")
			h.process.Signal(syscall.SIGKILL)
			h.process.Wait()
			if !c.carries {
				f.meet(h)
			}
			h.start(f)
			if now := h.Must("cat", "/run/flannel/subnet.env"); now != had {
				t.Errorf("flanneld killed and started has\n%swant\n%s", now, had)
			}
			subnet := f.subnet(f.host(1))
			f.host(1).Kill9()
			if !c.carries {
				f.meet(h)
			}
			f.host(1).Restart()
			if now := f.subnet(f.host(1)); now != subnet {
				t.Errorf("ours killed and started has %s, want %s", now, subnet)
			}
			f.join(2, 2)
			f.meet(h)
			f.reached(1, 2)

			// Ours takes its place.
			h.process.Signal(syscall.SIGKILL)
			h.process.Wait()
			h.Must("sh", "-c", "cd /sys/class/net; for device in cni0 flannel*; do test ! -e $device || ip link del $device; done")
			h.Must("ip", "netns", "del", "pod")
			h.Daemon("--etcd", "http://192.0.2.99:2379", "--uplink", "eth0", "--fabric-commands")
			f.eventually("the network is on c", 30*time.Second, func() bool { return h.Run("sealane", "network", "inspect", "flannel").Code == 0 })
			if got := strings.TrimSuffix(h.subnets[0], ".1/24") + ".0/24"; f.subnet(h.Host) != got {
				t.Errorf("ours in its place has %s, want %s", f.subnet(h.Host), got)
			}
			f.serve(h.Host, "web")
			f.hosts = append(f.hosts, h.Host)
			f.eventually("c is ready", 30*time.Second, func() bool { return f.status(h.Host) == "ready" })
			for _, o := range f.hosts {
				f.eventually(o.Name+" is as it is to be", 20*time.Second, func() bool { return o.Run("sealane", "diff").Stdout == "" })
			}
			f.answers(f.host(1), f.enter[0], h.pods()[0], f.webs[0][0], "c")
		})
	}
}
