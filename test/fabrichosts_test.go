package script

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
)

// fabric is hosts on one link that share a network by an etcd, each with a container
// in its own subnet.
//
//	h1 192.0.2.1 10.5.1.0/24 ─┐
//	…                         ├─ lan ── 192.0.2.99 e (etcd)
//	h5 192.0.2.5 10.5.5.0/24 ─┘
type fabric struct {
	*testing.T
	lab    *lab.Lab
	e      *lab.Host
	etcd   *lab.Process
	hosts  []*lab.Host
	config string
	webs   [][]string // of each host's container: its addresses,
	enter  [][]string // and how to get into it, also while the daemon is dead
}

// newFabric returns n hosts of which each reaches each other's container, by vxlan.
func newFabric(t *testing.T, n int) *fabric {
	return newFabricOf(t, n, `{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}`)
}

// newFabricOf is newFabric with a config, of 10.5.0.0/16 and perhaps fd05::/48.
func newFabricOf(t *testing.T, n int, config string) *fabric {
	lab.Needs(t, "etcd", "etcdctl", "nsenter")
	l := lab.New(t)
	f := &fabric{T: t, lab: l, e: l.Host("e"), config: config}
	f.e.Plug(l.Switch("lan"), "eth0", "192.0.2.99/24")
	f.startEtcd()
	f.ctl("put", "/coreos.com/network/config", config)
	for i := range n {
		f.join(i+1, i+1)
	}
	f.reached(f.all()...)
	return f
}

// join adds a host with a daemon that asks for the nth subnet, and a container. What
// was the subnet of its flanneld, it prefers (subnet.env).
func (f *fabric) join(i, subnet int) *lab.Host {
	f.Helper()
	h := f.lab.Host(fmt.Sprint("h", i))
	h.Plug(f.lab.Switch("lan"), "eth0", fmt.Sprintf("192.0.2.%d/24", i), fmt.Sprintf("2001:db8::%d/64", i))
	h.Must("sh", "-c", fmt.Sprintf("mkdir /run/flannel; printf 'FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.%d.1/24\n%s' >/run/flannel/subnet.env", subnet, f.before6(subnet)))
	f.hosts = append(f.hosts, h)
	h.Daemon("--etcd", "http://192.0.2.99:2379", "--uplink", "eth0", "--fabric-commands")
	f.eventually("the network is on "+h.Name, 30*time.Second, func() bool { return h.Run("sealane", "network", "inspect", "flannel").Code == 0 })
	if got := f.subnet(h); got != fmt.Sprintf("10.5.%d.0/24", subnet) {
		f.Fatalf("%s: subnet %s, want the %dth", h.Name, got, subnet)
	}
	f.serve(h, "web")
	addrs := h.Must("sealane", "inspect", "--format", "{{range .Endpoints}}{{range .Addresses}}{{.Addr}} {{end}}{{end}}", "web")
	f.webs, f.enter = append(f.webs, strings.Fields(addrs)), append(f.enter, f.inside(h, "web"))
	return h
}

// before6 is what else subnet.env has where the network has IPv6.
func (f *fabric) before6(subnet int) string {
	if !strings.Contains(f.config, "IPv6Network") {
		return ""
	}
	return fmt.Sprintf("FLANNEL_IPV6_NETWORK=fd05::/48\nFLANNEL_IPV6_SUBNET=fd05:0:0:%d::1/64\n", subnet)
}

// serve starts a container that says which host's it is.
func (f *fabric) serve(h *lab.Host, name string) {
	f.Helper()
	h.Must("sealane", "run", "-d", "--name", name, "--network", "flannel", "--", "lab-echo", "serve", "-tcp", "80", "-name", h.Name)
}

func (f *fabric) all() (out []int) {
	for i := range f.hosts {
		out = append(out, i+1)
	}
	return out
}

func (f *fabric) host(i int) *lab.Host { return f.hosts[i-1] }

// subnet is the one of a host's, by its own words.
func (f *fabric) subnet(h *lab.Host) string {
	return strings.TrimSpace(h.Run("sealane", "network", "inspect", "--format", "{{(index .Subnets 0).Prefix}}", "flannel").Stdout)
}

// status is what a host says of the network: its state and the message.
func (f *fabric) status(h *lab.Host) string {
	return strings.TrimSpace(h.Run("sealane", "network", "inspect", "--format", "{{.Status.State}} {{.Status.Message}}", "flannel").Stdout)
}

// ctl is etcdctl beside etcd, also when nobody else reaches that.
func (f *fabric) ctl(args ...string) string {
	f.Helper()
	return f.e.Must("etcdctl", append([]string{"--endpoints", "http://127.0.0.1:2379"}, args...)...)
}

// etcdData is where etcd keeps what it knows, on its host.
const etcdData = "/var/lib/etcd"

func (f *fabric) startEtcd() {
	f.Helper()
	f.etcd = f.e.Start("etcd", "--data-dir", etcdData, "--unsafe-no-fsync", "--listen-peer-urls", "http://127.0.0.1:2380",
		"--listen-client-urls", "http://0.0.0.0:2379", "--advertise-client-urls", "http://192.0.2.99:2379")
	f.eventually("etcd answers", time.Minute, func() bool {
		return f.e.Run("etcdctl", "--endpoints", "http://127.0.0.1:2379", "get", "/").Code == 0
	})
}

func (f *fabric) stopEtcd(sig syscall.Signal) {
	f.etcd.Signal(sig)
	f.etcd.Wait()
}

// leases is what etcd holds: the hosts by their subnets, "192.0.2.1" by "10.5.1.0-24".
func (f *fabric) leases() map[string]string {
	f.Helper()
	out := map[string]string{}
	const prefix = "/coreos.com/network/subnets/"
	lines := strings.Split(f.ctl("get", "--prefix", prefix), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		_, at, _ := strings.Cut(lines[i+1], `"PublicIP":"`)
		at, _, _ = strings.Cut(at, `"`)
		out[strings.TrimPrefix(lines[i], prefix)] = at
	}
	return out
}

// key is where the lease of the nth subnet is.
func key(subnet int) string { return fmt.Sprintf("/coreos.com/network/subnets/10.5.%d.0-24", subnet) }

// eventually waits until something is so.
func (f *fabric) eventually(what string, timeout time.Duration, ok func() bool) {
	f.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > timeout {
			f.Fatalf("not after %v: %s", timeout, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
	f.Logf("after %v: %s", time.Since(begin).Round(time.Millisecond), what)
}

// inside is the command that runs another one in a container's network.
func (f *fabric) inside(h *lab.Host, container string) []string {
	f.Helper()
	path := strings.TrimSpace(h.Must("sealane", "inspect", "--format", "{{.NetNS}}", container))
	return []string{"nsenter", "--net=" + path}
}

// ask is the name of the host whose container answers at an address; "" for none.
func (f *fabric) ask(from *lab.Host, addr string) string {
	f.Helper()
	argv := append(f.inside(from, "web"), "lab-echo", "get", "-timeout", "2s", "http://"+addr+"/")
	for line := range strings.Lines(from.Run(argv[0], argv[1:]...).Stdout) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "name "); ok {
			return name
		}
	}
	return ""
}

// reached waits until containers of some hosts reach each other.
func (f *fabric) reached(hosts ...int) {
	f.Helper()
	for _, i := range hosts {
		f.eventually(fmt.Sprintf("h%d reaches all of %v", i, hosts), 30*time.Second, func() bool {
			return !slices.ContainsFunc(hosts, func(j int) bool { return i != j && f.ask(f.host(i), fmt.Sprintf("10.5.%d.2", j)) == "" })
		})
	}
}

// pair is echo requests from a container to another's host, and a connection.
type pair struct {
	from, to      int
	pings, stream *lab.Process
}

// pace is between two requests of each.
const pace = 20 * time.Millisecond

// traffic starts something between each two of some hosts.
func (f *fabric) traffic(hosts ...int) (pairs []pair) {
	f.Helper()
	for n, i := range hosts {
		enter := f.inside(f.host(i), "web")
		start := func(args ...string) *lab.Process {
			return f.host(i).Start(enter[0], slices.Concat(enter[1:], []string{"lab-echo"}, args)...)
		}
		for _, j := range hosts[n+1:] {
			addr := fmt.Sprintf("10.5.%d.2", j)
			pairs = append(pairs, pair{i, j, start("pings", "-for", "10m", "-every", pace.String(), addr),
				start("stream", "-for", "10m", "-every", pace.String(), "http://"+addr+"/")})
		}
	}
	time.Sleep(500 * time.Millisecond)
	return pairs
}

// lostNothing ends the traffic, prints what was lost of it, and fails if that was
// anything between hosts that could reach each other all the time: those not away.
func (f *fabric) lostNothing(pairs []pair, away ...int) {
	f.Helper()
	for _, p := range pairs {
		p.pings.Signal(syscall.SIGTERM)
		p.stream.Signal(syscall.SIGTERM)
		if slices.Contains(away, p.from) || slices.Contains(away, p.to) { // it may wait for an answer that never comes
			time.AfterFunc(2*time.Second, func() { p.stream.Signal(syscall.SIGKILL) })
		}
	}
	for _, p := range pairs {
		cut := slices.Contains(away, p.from) || slices.Contains(away, p.to)
		var sent, lost int
		if _, err := fmt.Sscanf(waitOutput(p.pings), "sent %d\nlost %d", &sent, &lost); err != nil && !cut {
			f.Errorf("h%d to h%d: %s", p.from, p.to, p.pings.Output())
		}
		said := waitOutput(p.stream)
		f.Logf("h%d to h%d: %d requests, %d lost (%v); connection: %s", p.from, p.to, sent, lost, time.Duration(lost)*pace, strings.Join(strings.Fields(said), " "))
		if cut {
			continue
		}
		if sent == 0 || lost > 0 {
			f.Errorf("h%d to h%d: %s", p.from, p.to, strings.Join(strings.Fields(p.pings.Output()), " "))
		}
		if p.stream.Wait() != 0 {
			f.Errorf("h%d to h%d: the connection broke: %s", p.from, p.to, said)
		}
	}
}

func waitOutput(p *lab.Process) string {
	p.Wait()
	return p.Output()
}

// settled checks that hosts have nothing to do.
func (f *fabric) settled(hosts ...int) {
	f.Helper()
	for _, i := range hosts {
		f.eventually(fmt.Sprintf("h%d is ready and has nothing to do", i), 30*time.Second, func() bool {
			return f.host(i).Run("sealane", "diff").Stdout == "" && strings.TrimSpace(f.status(f.host(i))) == "ready"
		})
	}
}
