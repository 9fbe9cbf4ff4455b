package overlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/model"
)

// All tests that run directories do so in bubbles, where an hour is a moment.

const prefix = "/net/sealane/overlay"

// host is one with a directory that runs.
type host struct {
	*Directory
	t    *testing.T
	way  *cluster.Memory
	stop func()

	mu    sync.Mutex // protects the following
	now   *View
	views int
}

// start runs the directory of host number n.
func start(t *testing.T, m *cluster.Memory, n int, change ...func(*Options)) *host {
	t.Helper()
	h := &host{t: t, way: m.Another(), now: &View{}}
	o := Options{
		Store: h.way, Prefix: prefix, ID: fmt.Sprintf("n-%d", n),
		Host: func() (Host, error) {
			return Host{Name: fmt.Sprintf("host%d", n), Public4: netip.AddrFrom4([4]byte{192, 0, 2, byte(n)})}, nil
		},
		Report: func(v *View) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.now = v
			h.views++
		},
	}
	for _, c := range change {
		c(&o)
	}
	h.Directory = New(o)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { h.Run(ctx) })
	h.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(h.stop)
	return h
}

func newMemory() *cluster.Memory { return cluster.NewMemory(time.Now) }

// quiet waits until all has been done that is to be done at once.
func quiet() {
	time.Sleep(time.Second)
	synctest.Wait()
}

func (h *host) view() *View {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

// content is what a store has, without what is alive, in which order it was done, and
// the numbers of hosts.
func content(t *testing.T, m *cluster.Memory) map[string]string {
	t.Helper()
	m.Pass(0)
	s, err := m.Another().List(t.Context(), prefix+"/")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range s.Entries {
		if k := strings.TrimPrefix(e.Key, prefix+"/"); k != "order" && !strings.HasPrefix(k, "alive/") && !strings.HasPrefix(k, "numbers/") {
			out[k] = unnumbered.ReplaceAllString(string(e.Value), "")
		}
	}
	return out
}

// unnumbered is the number of a host in its record.
var unnumbered = regexp.MustCompile(`,"number":[0-9]+`)

// put puts a value behind everybody's back.
func put(t *testing.T, m *cluster.Memory, key, value string) {
	t.Helper()
	if _, _, err := m.Another().Commit(t.Context(), cluster.Txn{Put: []cluster.Put{{Key: prefix + "/" + key, Value: []byte(value)}}}); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, m *cluster.Memory, key string) {
	t.Helper()
	if _, _, err := m.Another().Commit(t.Context(), cluster.Txn{Delete: []string{prefix + "/" + key}}); err != nil {
		t.Fatal(err)
	}
}

// net is a network of the tests.
func net(id, name string, prefixes ...string) Network {
	n := Network{ID: model.ID(id), Name: name}
	for _, p := range prefixes {
		at := netip.MustParsePrefix(p)
		n.Subnets = append(n.Subnets, model.Subnet{Prefix: at, Gateway: at.Addr().Next()})
	}
	return n
}

func (h *host) create(n Network) Network {
	h.t.Helper()
	n, err := h.Create(h.t.Context(), n)
	if err != nil {
		h.t.Fatal(err)
	}
	return n
}

// end is an endpoint of the tests.
func end(network, id string, addrs ...string) Endpoint {
	e := Endpoint{Network: model.ID(network), ID: model.ID(id), MAC: "02:42:0a:00:00:01", Sandbox: Sandbox{Name: "box-" + id}}
	for _, a := range addrs {
		e.Addrs = append(e.Addrs, netip.MustParseAddr(a))
	}
	return e
}

// these wants fixed addresses.
func these(addrs ...netip.Addr) func(func(netip.Addr) bool) ([]netip.Addr, error) {
	return func(func(netip.Addr) bool) ([]netip.Addr, error) { return addrs, nil }
}

func (h *host) claimed(e Endpoint) Endpoint {
	h.t.Helper()
	want := these(e.Addrs...)
	if len(e.Addrs) == 0 {
		want = nil
	}
	addrs, err := h.Claim(h.t.Context(), e, want)
	if err != nil {
		h.t.Fatal(err)
	}
	e.Addrs = addrs
	return e
}

// fails says what is wrong if an error is not of a kind and with a text.
func fails(t *testing.T, err error, kind model.Kind, text string) {
	t.Helper()
	if err == nil || model.KindOf(err) != kind || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v: %v, want %v: %s", model.KindOf(err), err, kind, text)
	}
}

// faulty is a store whose Commits are lost at times, on the way there or back.
type faulty struct {
	cluster.Store
	fault func() int
}

func (f *faulty) Commit(ctx context.Context, x cluster.Txn) (int64, bool, error) {
	fault := f.fault()
	if fault == 1 {
		return 0, false, fmt.Errorf("lost on the way there: %w", cluster.ErrAway)
	}
	rev, done, err := f.Store.Commit(ctx, x)
	if fault == 2 && err == nil {
		return 0, false, fmt.Errorf("lost on the way back: %w", cluster.ErrAway)
	}
	return rev, done, err
}

func away(err error) bool { return errors.Is(err, cluster.ErrAway) }
