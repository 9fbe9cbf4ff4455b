package flannel

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealane/sealane/internal/cluster"
)

// All tests that run leasers do so in bubbles, where a day is a moment.

// host is one with a leaser that runs.
type host struct {
	*Leaser
	t    *testing.T
	way  *cluster.Memory
	stop func()

	mu     sync.Mutex // protects the following
	view   View
	views  int
	losses []Loss
	agree  bool
	puts   int // that its store was asked for
}

// slow is a store that takes its time and counts.
type slow struct {
	cluster.Store
	h     *host
	delay func() time.Duration
	first func() // before the first Commit
	fault func() int
}

// What a fault may be.
const (
	lostBefore = 1
	lostAfter  = 2
	notAllowed = 3
)

func (s *slow) wait(ctx context.Context) {
	if s.delay != nil {
		select {
		case <-time.After(s.delay()):
		case <-ctx.Done():
		}
	}
}

func (s *slow) List(ctx context.Context, prefix string) (cluster.Snapshot, error) {
	s.wait(ctx)
	return s.Store.List(ctx, prefix)
}

func (s *slow) Commit(ctx context.Context, x cluster.Txn) (int64, bool, error) {
	s.h.mu.Lock()
	if len(x.If) != 1 || x.If[0].Rev != math.MaxInt64 { // that is a question: see prove
		s.h.puts += len(x.Put) + len(x.Delete)
	}
	first := s.first
	s.first = nil
	s.h.mu.Unlock()
	if first != nil {
		first()
	}
	s.wait(ctx)
	fault := 0
	if s.fault != nil {
		fault = s.fault()
	}
	if fault == lostBefore {
		return 0, false, fmt.Errorf("lost on the way there: %w", cluster.ErrAway)
	}
	if fault == notAllowed {
		return 0, false, fmt.Errorf("%w: permission denied", cluster.ErrRefused)
	}
	rev, done, err := s.Store.Commit(ctx, x)
	if fault == lostAfter {
		return 0, false, fmt.Errorf("lost on the way back: %w", cluster.ErrAway)
	}
	return rev, done, err
}

// newStore returns a store with a config.
func newStore(t *testing.T, config string) *cluster.Memory {
	m := cluster.NewMemory(time.Now)
	put(t, m, "config", config, 0)
	return m
}

func put(t *testing.T, m *cluster.Memory, name, value string, ttl time.Duration) {
	t.Helper()
	p := cluster.Put{Key: Prefix + "/" + name, Value: []byte(value), TTL: ttl}
	if _, _, err := m.Commit(context.Background(), cluster.Txn{Put: []cluster.Put{p}}); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, m *cluster.Memory, name string) {
	t.Helper()
	if _, _, err := m.Commit(context.Background(), cluster.Txn{Delete: []string{Prefix + "/" + name}}); err != nil {
		t.Fatal(err)
	}
}

// content is what is below subnets/, with "lasting" behind reservations.
func content(t *testing.T, m *cluster.Memory) map[string]string {
	t.Helper()
	s, err := m.List(t.Context(), Prefix+"/subnets/")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range s.Entries {
		text := string(e.Value)
		if e.Lasting {
			text += " lasting"
		}
		out[strings.TrimPrefix(e.Key, Prefix+"/subnets/")] = text
	}
	return out
}

// public is a host's value: of vxlan for what the config enables.
func public(i int, c Config) (Value, error) {
	v := Value{BackendType: c.Backend.Type()}
	var err error
	if c.EnableIPv4 {
		v.Public4 = netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)})
		v.BackendData, err = VXLANData{1, []byte{2, 0, 0, 0, byte(i >> 8), byte(i)}}.Marshal()
	}
	if c.EnableIPv6 && err == nil {
		v.Public6 = netip.MustParseAddr(fmt.Sprintf("fd77::%x", i))
		v.BackendV6Data, err = VXLANData{1, []byte{2, 6, 0, 0, byte(i >> 8), byte(i)}}.Marshal()
	}
	return v, err
}

// start starts a host's leaser and waits for what it does at once.
func start(t *testing.T, m *cluster.Memory, i int, change func(*Options, *slow)) *host {
	h := launch(t, m, i, change)
	settle()
	return h
}

func launch(t *testing.T, m *cluster.Memory, i int, change func(*Options, *slow)) *host {
	h := &host{t: t, way: m.Another()}
	s := &slow{Store: h.way, h: h}
	o := Options{
		Store: s, Node: Node{ID: fmt.Sprintf("n-%d", i), Name: fmt.Sprintf("host%d", i)},
		Describe: func(c Config) (Value, error) { return public(i, c) },
		Report:   h.report, Agree: h.asked,
		Rand: rand.New(rand.NewPCG(uint64(i), 1)),
	}
	if change != nil {
		change(&o, s)
	}
	h.Leaser = New(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); h.Run(ctx) }()
	h.stop = func() { cancel(); <-done }
	t.Cleanup(h.stop)
	return h
}

// settle lets what is under way come to rest.
func settle() { pass(2 * time.Second) }

// pass lets time pass, and then what is under way come to rest.
func pass(d time.Duration) { time.Sleep(d); synctest.Wait() }

func (h *host) report(v View) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.view = v
	h.views++
}

func (h *host) asked(l Loss) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.losses = append(h.losses, l)
	return h.agree
}

func (h *host) now() (v View, views, puts int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.view, h.views, h.puts
}

// asks is what the host was asked.
func (h *host) asks() []Loss {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.losses)
}

// name is the key of the host's lease.
func (h *host) name() string {
	v, _, _ := h.now()
	return v.Own.Key
}

func (h *host) setAgree(agree bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.agree = agree
}

// own is the host's subnet as its view has it, or "".
func (h *host) own() string {
	v, _, _ := h.now()
	if v.Own == nil {
		return ""
	}
	return v.Own.Subnet.String()
}

func (h *host) want(own string) {
	h.t.Helper()
	if got := h.own(); got != own {
		v, _, _ := h.now()
		h.t.Fatalf("%s has %q, want %q: %s, %+v", h.o.Node.ID, got, own, v.LastError, v.Loss)
	}
}

// peers are those of the view, as "SUBNET PUBLIC".
func (h *host) peers() []string {
	v, _, _ := h.now()
	out := []string{}
	for _, p := range v.Peers {
		out = append(out, p.Subnet.String()+" "+p.Value.Public4.String())
	}
	return out
}

func (h *host) problems() []string {
	v, _, _ := h.now()
	out := []string{}
	for _, p := range v.Problems {
		out = append(out, p.Key+": "+p.Text)
	}
	return out
}

func equal(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
