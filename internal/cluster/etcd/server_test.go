package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/sealane/sealane/internal/cluster/etcd"
)

// envInside says that the tests are in a network namespace of their own.
const envInside = "SEALANE_ETCD_TEST_INSIDE"

// TestMain runs the tests where nothing but them is on the network.
func TestMain(m *testing.M) {
	if os.Getenv(envInside) == "" {
		os.Exit(inside())
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "lo: %v: %s\n", err, out)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// inside runs this test binary again, in namespaces of its own.
func inside() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), envInside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// lastPort is the last that a test has; the namespace has no others.
var lastPort atomic.Int32

func newURL(scheme string) string {
	return fmt.Sprintf("%s://127.0.0.1:%d", scheme, 20000+lastPort.Add(1))
}

// member is an etcd server in this process.
type member struct {
	t    *testing.T
	cfg  *embed.Config
	etcd *embed.Etcd
	url  string
}

// newMember starts a server that is a cluster by itself.
func newMember(t *testing.T, configure ...func(*embed.Config)) *member {
	t.Helper()
	m := &member{t: t, cfg: embed.NewConfig(), url: newURL("http")}
	m.cfg.Dir = t.TempDir()
	peer := []url.URL{parse(t, newURL("http"))}
	client := []url.URL{parse(t, m.url)}
	m.cfg.ListenClientUrls, m.cfg.AdvertiseClientUrls = client, client
	m.cfg.ListenPeerUrls, m.cfg.AdvertisePeerUrls = peer, peer
	m.cfg.InitialCluster = m.cfg.InitialClusterFromName(m.cfg.Name)
	m.cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	m.cfg.UnsafeNoFsync, m.cfg.TickMs, m.cfg.ElectionMs = true, 20, 200
	for _, c := range configure {
		c(m.cfg)
	}
	m.start()
	t.Cleanup(m.stop)
	return m
}

func parse(t *testing.T, s string) url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return *u
}

func (m *member) start() {
	m.t.Helper()
	e, err := embed.StartEtcd(m.cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	m.etcd = e
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(time.Minute):
		m.t.Fatal("etcd is not ready")
	}
}

func (m *member) stop() {
	if m.etcd != nil {
		m.etcd.Close()
		m.etcd = nil
	}
}

// admin is etcd's own client.
func admin(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop(), DialTimeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// compact has a server forget what happened up to now.
func compact(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	resp, err := c.Get(ctx, "/")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Compact(ctx, resp.Header.Revision); err != nil && !strings.Contains(err.Error(), "compacted") {
		t.Fatal(err)
	}
}

// dial returns a store that is closed with the test.
func dial(t *testing.T, c etcd.Config) *etcd.Store {
	t.Helper()
	s, err := etcd.Dial(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// wire is a way to a server that can be cut.
type wire struct {
	t      *testing.T
	url    string // of this end
	target string // HOST:PORT

	mu       sync.Mutex // protects the following
	listener net.Listener
	conns    []net.Conn
}

func newWire(t *testing.T, target string) *wire {
	w := &wire{t: t, url: newURL("http"), target: strings.TrimPrefix(target, "http://")}
	w.set(true)
	t.Cleanup(func() { w.set(false) })
	return w
}

// set cuts the wire or mends it.
func (w *wire) set(whole bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !whole {
		if w.listener != nil {
			w.listener.Close()
		}
		for _, c := range w.conns {
			c.Close()
		}
		w.conns, w.listener = nil, nil
		return
	}
	l, err := net.Listen("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.listener = l
	go w.accept(l)
}

func (w *wire) accept(l net.Listener) {
	for {
		a, err := l.Accept()
		if err != nil {
			return
		}
		b, err := net.Dial("tcp", w.target)
		if err != nil {
			a.Close()
			continue
		}
		w.mu.Lock()
		if w.listener != l {
			a.Close()
			b.Close()
		}
		w.conns = append(w.conns, a, b)
		w.mu.Unlock()
		for _, p := range [][2]net.Conn{{a, b}, {b, a}} {
			go func() {
				_, _ = io.Copy(p[0], p[1])
				p[0].Close()
				p[1].Close()
			}()
		}
	}
}
