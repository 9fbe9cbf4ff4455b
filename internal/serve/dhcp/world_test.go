package dhcp

import (
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab/netspace"
	"github.com/sealane/sealane/internal/model"
)

// The tests run in a network namespace of their own; the client's container and
// the server are one more each. All of them go with the process.
func TestMain(m *testing.M) { netspace.Main(m) }

const (
	clientMAC = "02:00:00:00:00:01"
	serverMAC = "02:00:00:00:00:02"
	otherMAC  = "02:00:00:00:00:03"
)

// world is a client's namespace, another machine's and a server's, whose bridge
// connects them:
//
//	client eth0 ── p0 ┐
//	                  ├ eth0 server 192.0.2.1/24 2001:db8::1/64
//	other  eth0 ── p1 ┘
type world struct {
	t                     *testing.T
	client, other, server netspace.Space
	path                  string // of a directory

	mu      sync.Mutex // protects the following
	leases  map[Key]model.Lease
	told    []string
	refuse  error
	changed chan struct{}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, client: netspace.New(t), other: netspace.New(t), server: netspace.New(t), path: t.TempDir(), leases: map[Key]model.Lease{}, changed: make(chan struct{}, 100)}
	w.run(w.server, "ip link add eth0 address %s type bridge mcast_snooping 0", serverMAC)
	for port, far := range map[string]struct {
		ns  netspace.Space
		mac string
	}{"p0": {w.client, clientMAC}, "p1": {w.other, otherMAC}} {
		w.run(w.server, "ip link add %s type veth peer name eth0 address %s netns %s", port, far.mac, far.ns.Path())
		w.run(w.server, "ip link set %s master eth0 up", port)
	}
	w.run(w.server, "ip addr add 192.0.2.1/24 dev eth0")
	w.run(w.server, "ip addr add 2001:db8::1/64 dev eth0 nodad")
	for _, ns := range []netspace.Space{w.server, w.client, w.other} {
		w.run(ns, "ip link set eth0 addrgenmode none")
		w.run(ns, "ip link set lo up")
		w.run(ns, "ip link set eth0 up")
	}
	w.run(w.server, "ip addr add fe80::ff:fe00:2/64 dev eth0 nodad")
	w.run(w.client, "ip addr add fe80::ff:fe00:1/64 dev eth0 nodad")
	return w
}

func (w *world) run(ns netspace.Space, format string, args ...any) string {
	w.t.Helper()
	return ns.Run(w.t, format, args...)
}

// start runs a program in a namespace until the test ends or stop is called.
func (w *world) start(ns netspace.Space, args ...string) (stop func()) {
	w.t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		w.t.Fatalf("%v: install what the Makefile lists", err)
	}
	cmd := ns.Command(args...)
	log, err := os.Create(filepath.Join(w.path, filepath.Base(args[0])+".log"))
	if err != nil {
		w.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the signal is of the thread's death
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
		log.Close()
	})
	w.t.Cleanup(func() {
		stop()
		if w.t.Failed() {
			text, _ := os.ReadFile(log.Name())
			w.t.Logf("%s:\n%s", args[0], text)
		}
	})
	return stop
}

// dnsmasq serves both families.
func (w *world) dnsmasq(more ...string) (stop func()) {
	return w.start(w.server, append([]string{"dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--user=root", "--pid-file=", "--port=0", "--interface=eth0",
		"--log-dhcp", "--no-ping", "--dhcp-leasefile=" + filepath.Join(w.path, "leases"), "--dhcp-authoritative"}, more...)...)
}

const (
	range4 = "--dhcp-range=192.0.2.50,192.0.2.59,255.255.255.0,10m"
	range6 = "--dhcp-range=2001:db8::50,2001:db8::59,64,10m"
)

// want is the client's wish.
func (w *world) want(is6 bool) Want {
	return Want{Key: Key{"0123456789ab", is6}, Name: "web on lan", NS: w.client.NS(), Device: "eth0", MAC: clientMAC,
		Request: model.DHCP{Hostname: "web"}}
}

// newClient returns a client that the world is told by. The host has no address.
func (w *world) newClient() *Client {
	c := New(slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})))
	c.holds = func(netip.Addr) bool { return false }
	c.Start(w)
	w.t.Cleanup(func() { c.Close() })
	return c
}

func (w *world) tell(text string) {
	w.told = append(w.told, text)
	w.changed <- struct{}{}
}

// Leased gives the interface the address, as the engine would.
func (w *world) Leased(k Key, l model.Lease) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		return w.refuse
	}
	if old, ok := w.leases[k]; ok && old.Addr != l.Addr {
		w.client.Command("ip", "addr", "del", old.Addr.String(), "dev", "eth0").Run()
	}
	w.client.Command("ip", "addr", "replace", l.Addr.String(), "dev", "eth0", "nodad").Run()
	w.leases[k] = l
	w.tell("leased " + l.Addr.String())
	return nil
}

// Lost takes it away.
func (w *world) Lost(k Key, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.client.Command("ip", "addr", "del", w.leases[k].Addr.String(), "dev", "eth0").Run()
	delete(w.leases, k)
	w.tell("lost: " + why.Error())
}

// Trouble is noted.
func (w *world) Trouble(_ Key, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if why != nil {
		w.tell("trouble: " + why.Error())
	}
}

func (w *world) lease(k Key) (model.Lease, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l, ok := w.leases[k]
	return l, ok
}

// await waits until the world was told something that begins so, and forgets what
// came before.
func (w *world) await(prefix string, timeout time.Duration) string {
	w.t.Helper()
	for end := time.After(timeout); ; {
		w.mu.Lock()
		for i, text := range w.told {
			if strings.HasPrefix(text, prefix) {
				w.told = w.told[i+1:]
				w.mu.Unlock()
				return text
			}
		}
		told := strings.Join(w.told, "\n")
		w.mu.Unlock()
		select {
		case <-w.changed:
		case <-end:
			w.t.Fatalf("not told %q within %v, but\n%s", prefix, timeout, told)
		}
	}
}
