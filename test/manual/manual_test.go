// Package manual writes docs/generated from a running system, and fails when
// the pages, the explanations and the system drift apart.
//
// pages/ has the pages as templates: prose, the commands to run and places for
// what they led to. why/ has the explanations, each after the line that it is
// about. A host of the lab runs the commands; what its kernel then holds beyond
// what it held before is put into the page, line by line, with its explanation.
// A line without an explanation fails the test, and so does an explanation
// without a line, a line that its page does not show, and a page that leaves
// something behind when its networks and sandboxes are removed.
//
//	go test ./test/manual -update
package manual

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/feature/featuretest"
	"github.com/sealane/sealane/internal/lab"
)

var update = flag.Bool("update", false, "write docs/generated anew")

// generated is where the pages go.
const generated = "../../docs/generated"

// order has the pages that others are compared with before those.
// last are those that refer to all others. elsewhere are those that another test
// writes. paired are those about networks over hosts, of which there are two.
var (
	order     = []string{"firewall", "bridge", "ports", "none", "overlay", "service"}
	last      = []string{"iptables", "README"}
	elsewhere = []string{"cni"}
	paired    = []string{"overlay", "service", "mesh"}
)

func TestMain(m *testing.M) { lab.Main(m, "sealane", "sealane-cni", "sealaned") }

func TestManual(t *testing.T) {
	featuretest.Require(t, feature.Nftables, feature.Holds, feature.NSID, feature.IPv6, feature.Veth, feature.Bridge)
	m := &manual{t: t, why: readWhy(t, "why"), pages: map[string]*page{}}
	m.boot()
	names := slices.Clone(order)
	for _, f := range list(t, "pages") {
		if name := strings.TrimSuffix(f, ".md"); !slices.Contains(order, name) && !slices.Contains(last, name) {
			names = append(names, name)
		}
	}
	names = append(names, last...)
	var text string
	for _, name := range names {
		book := m
		if slices.Contains(paired, name) {
			book = m.pair()
		}
		text = book.write(name)
		m.compare(name+".md", text)
		book.clear(name)
	}
	for _, name := range slices.Concat(names[:len(names)-1], elsewhere) { // the last one is the index
		if !strings.Contains(text, "("+name+".md)") {
			t.Errorf("pages/README.md: no link to %s.md", name)
		}
	}
	for _, f := range list(t, generated) {
		if !slices.Contains(slices.Concat(names, elsewhere), strings.TrimSuffix(f, ".md")) {
			t.Errorf("%s/%s: no such page in pages/", generated, f)
		}
	}
	if t.Failed() {
		return // a page cut short needs fewer explanations
	}
	for _, line := range m.why.unused() {
		t.Errorf("why: nothing looks like this any more: %s", line)
	}
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// compare holds a page against the file, or writes it.
func (m *manual) compare(name, text string) {
	m.t.Helper()
	path := filepath.Join(generated, name)
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			m.t.Fatal(err)
		}
		return
	}
	old, _ := os.ReadFile(path)
	if d := cmp.Diff(string(old), text); d != "" {
		m.t.Errorf("%s is out of date (go test ./test/manual -update writes it anew; see that its prose still holds):\n%s", path, d)
	}
}

// manual is the book while it is written.
type manual struct {
	t     *testing.T
	why   *explanations
	pages map[string]*page

	host     *lab.Host
	peer     *lab.Host         // another host of the same cluster; nil: there is none
	devices  map[string]link   // a new device of each kind
	settings map[string]string // of a host without a daemon
	empty    *snapshot         // a host with a daemon and nothing else
	own      string            // the networks that it has then
	across   *manual           // the other host's; nil: there is none
}

// boot starts the host and its daemon.
//
//	a eth0 203.0.113.1 .2 2001:db8:ffff::1 ── lan
func (m *manual) boot() {
	l := lab.New(m.t)
	bare := l.Host("bare")
	bare.Must("sh", "-c", `ip link add bridge type bridge && ip link add veth type veth peer peer && ip link set veth master bridge
ip link add vxlan type vxlan id 1 dstport 4789 && ip link set vxlan master bridge`)
	v := read(m.t, bare.Must("bash", "-c", look))
	m.devices = map[string]link{"loopback": v.links["lo"], "bridge": v.links["bridge"], "port": v.links["veth"], "veth": v.links["peer"], "vxlan": v.links["vxlan"]}
	delete(m.devices["loopback"], "state") // the lab sets it up
	m.settings = v.settings

	m.host = l.Host("a")
	m.host.Plug(l.Switch("lan"), "eth0", "203.0.113.1/24", "203.0.113.2/24", "2001:db8:ffff::1/64")
	m.host.Must("bash", "-c", plain)
	before := m.look()
	m.host.Daemon()
	m.empty = m.look()
	m.pages[""] = &page{manual: m, now: before}
}

// pair starts two hosts that share an etcd, which runs on the second. The first is number 1.
//
//	a eth0 203.0.113.1 ─┬─ lan ── 203.0.113.254, which nobody has
//	b eth0 203.0.113.2 ─┘
func (m *manual) pair() *manual {
	lab.Needs(m.t, "etcd")
	l := lab.New(m.t)
	lan := l.Switch("lan")
	pair := &manual{t: m.t, why: m.why, pages: m.pages, devices: m.devices, settings: m.settings, host: l.Host("a"), peer: l.Host("b")}
	for h, addr := range map[*lab.Host]string{pair.host: "203.0.113.1/24", pair.peer: "203.0.113.2/24"} {
		h.Plug(lan, "eth0", addr)
		h.Route("default", "203.0.113.254")
		h.Must("bash", "-c", plain)
	}
	const url = "http://203.0.113.2:2379"
	pair.peer.Start("etcd", "--data-dir", "/run/etcd", "--listen-peer-urls", "http://127.0.0.1:2380", "--listen-client-urls", url, "--advertise-client-urls", url)
	for _, h := range []*lab.Host{pair.host, pair.peer} {
		h.Daemon("--etcd", url, "--uplink", "eth0", "--node-name", h.Name)
		pair.numbered(h, url)
	}
	pair.empty, pair.own = pair.look(), pair.host.Must("sealane", "network", "ls", "-q")
	far := *pair
	far.host, far.peer = pair.peer, pair.host
	far.empty, pair.across = far.look(), &far
	return pair
}

// numbered waits until a host has a number in the cluster: the next one gets the next.
func (m *manual) numbered(h *lab.Host, url string) {
	m.t.Helper()
	number := fmt.Sprintf(`etcdctl --endpoints %s get --prefix / --keys-only | grep -c /numbers/`, url)
	want := map[*lab.Host]string{m.host: "1", m.peer: "2"}[h]
	for end := time.Now().Add(clearTimeout); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if strings.TrimSpace(m.peer.Run("bash", "-c", number).Stdout) == want {
			return
		}
	}
	m.t.Fatalf("host %s has no number\n%s", h.Name, h.DaemonLog())
}

// plain makes a host the same on every machine: bridged frames stay out of the
// packet filter of IP where there is br_netfilter, new devices look at where senders
// are as distributions have them do, and there is one resolver.
const plain = `set -e
echo 2 > /proc/sys/net/ipv4/conf/default/rp_filter
for f in /proc/sys/net/bridge/bridge-nf-call-*; do test ! -e $f || echo 0 > $f; done
echo nameserver 203.0.113.53 > /run/resolv.conf
mount --bind /run/resolv.conf /etc/resolv.conf`

// clearTimeout is how long what a page made may take to go.
const clearTimeout = 2 * time.Minute

// clear removes what a page made, and sees that nothing is left. Chains that only
// some networks need stay until the daemon starts anew.
func (m *manual) clear(name string) {
	m.t.Helper()
	for _, h := range []*lab.Host{m.peer, m.host} {
		if h != nil {
			h.Must("bash", "-c", `set -e
for s in $(sealane ps -aq); do sealane rm -f $s; done`)
		}
	}
	m.host.Must("sealane", "network", "update", "-o", "icc=", "bridge")
	if m.peer != nil {
		m.prune()
	}
	m.host.Restart()
	var left []string
	for end := time.Now().Add(clearTimeout); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		m.host.Must("sealane", "network", "prune")
		now := m.look()
		left = append(now.beyond(m.empty), m.empty.beyond(now)...)
		if len(left) == 0 {
			return
		}
	}
	m.t.Fatalf("%s: left behind or missing after its networks and sandboxes are gone:\n%s", name, strings.Join(left, "\n"))
}

// prune removes networks over hosts until there are none: they go when it is known here
// that the other host's endpoints are gone.
func (m *manual) prune() {
	m.t.Helper()
	for end := time.Now().Add(clearTimeout); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		m.host.Must("bash", "-c", `for s in $(sealane service ls -q); do sealane service rm $s; done
for n in $(sealane network ls -q --filter driver=overlay); do sealane network rm $n; done; true`)
		if m.host.Must("sealane", "network", "ls", "-q") == m.own {
			return
		}
	}
	m.t.Fatalf("networks are left:\n%s", m.host.Must("sealane", "network", "ls"))
}
