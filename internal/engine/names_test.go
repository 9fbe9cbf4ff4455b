package engine

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/announce"
	"github.com/sealane/sealane/internal/serve/dns"
)

// book is a resolver that only keeps what it is told.
type book struct {
	mu      sync.Mutex // protects the following
	views   map[string]dns.View
	repairs int
	deaf    bool // all lack their rules
}

func (b *book) Put(key string, v dns.View) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.views[key] = v
	return nil
}

// Remove takes its time, as in a namespace where other work is being done.
func (b *book) Remove(key string) error {
	time.Sleep(30 * time.Millisecond)
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.views, key)
	return nil
}

func (b *book) Set(views map[string]dns.View) error {
	for key, v := range views {
		b.Put(key, v)
	}
	return nil
}

func (b *book) SetServers([]netip.AddrPort) {}

func (b *book) Repair() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.repairs++
	return nil
}

func (b *book) Mend(string) (bool, error) { return b.deaf, nil }

func (b *book) has(id model.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.views[string(id)]
	return ok
}

// withNames returns a rig whose engine has a resolver.
func withNames(t *testing.T) (*rig, *book) {
	r, b := bare(t), &book{views: map[string]dns.View{}}
	r.quiet = true
	r.prepare()
	r.cfg.Names = b
	r.e = New(r.cfg)
	r.ok(r.e.Start(r.ctx))
	return r, b
}

// TestDeaf: of a sandbox that has the resolver it is said that its rules were missing.
func TestDeaf(t *testing.T) {
	r, b := withNames(t)
	r.network("app")
	r.sandbox("web", SandboxSpec{Networks: []EndpointSpec{{Network: "app"}}})
	r.sandbox("plain", SandboxSpec{Networks: []EndpointSpec{{Network: model.NetworkBridge}}})
	b.deaf = true
	for name, want := range map[string]bool{"web": true, "plain": false} {
		if got, err := r.e.Drift(r.ctx, name); err != nil || got.Deaf != want {
			t.Errorf("%s: deaf %v, %v", name, got.Deaf, err)
		}
	}
}

// TestResolverStaysAfterReconnect leaves the last network and comes back while
// the resolver is still leaving the sandbox.
func TestResolverStaysAfterReconnect(t *testing.T) {
	r, b := withNames(t)
	r.network("app")
	sb := r.sandbox("web", SandboxSpec{Networks: []EndpointSpec{{Network: "app"}}})
	for range 2 {
		r.ok(r.e.Disconnect(r.ctx, "web", "app"))
		must3(r)(r.e.Connect(r.ctx, "web", EndpointSpec{Network: "app"}, nil))
	}
	time.Sleep(150 * time.Millisecond)
	if !b.has(sb.ID) {
		t.Error("nobody resolves")
	}
	r.ok(r.e.Disconnect(r.ctx, "web", "app"))
	r.e.Close()
	if b.has(sb.ID) {
		t.Error("somebody resolves")
	}
}

// must3 is must for what returns two values.
func must3(r *rig) func(*model.Sandbox, *model.Endpoint, error) {
	return func(_ *model.Sandbox, _ *model.Endpoint, err error) { r.Helper(); r.ok(err) }
}

// TestNameInAnswers has a sandbox whose name is none that can be asked for: of
// its others the first is what no other sandbox has.
func TestNameInAnswers(t *testing.T) {
	sb := &model.Sandbox{ID: "0123456789ab", Name: strings.Repeat("x", 64), Hostname: "host"}
	h := dnsHost(sb, &model.Endpoint{Aliases: []string{"shared"}})
	if h.Names[1] != "0123456789ab" || len(h.Names) != 4 {
		t.Errorf("%q", h.Names)
	}
}

// herald is an Announcer that counts what is still to be said of each device.
type herald map[string]int

func (h herald) Announce(e announce.Endpoint) error { h[e.Device] = e.Count; return nil }

func (h herald) Cancel(device string) { delete(h, device) }

// TestCrowdIsNotAnnouncedTo: what few would have heard, a crowd need not, but
// for hardware addresses that only the user knows.
func TestCrowdIsNotAnnouncedTo(t *testing.T) {
	r := bare(t)
	r.quiet, r.crowd = true, 0
	r.prepare()
	h := herald{}
	r.cfg.Announcer = h
	r.e = New(r.cfg)
	r.ok(r.e.Start(r.ctx))
	r.network("app", "10.1.0.0/16")
	chosen := r.sandbox("chosen", SandboxSpec{Networks: []EndpointSpec{{Network: "app", MAC: "02:00:00:00:00:09"}}}).Endpoints[0].Device()
	for i := range crowd - 1 {
		r.sandbox(fmt.Sprint("sb", i), SandboxSpec{Networks: on("app")})
	}
	r.equal("to be announced", len(h), fmt.Sprint(crowd))
	last := r.sandbox("one-more", SandboxSpec{Networks: on("app")}).Endpoints[0].Device()
	r.equal("to be announced to a crowd", h, fmt.Sprint(herald{chosen: announceCount, last: 0}))
}

// TestRepairsInABusyTime: what nothing hints at is looked after in regular intervals, also
// where something else hints all the time.
func TestRepairsInABusyTime(t *testing.T) {
	inTime(t, func(r *rig) {
		b := &book{views: map[string]dns.View{}}
		r.cfg.Names = b
		r.e = New(r.cfg)
		r.begin()
		for range 40 {
			r.e.Kick("a container")
			r.wait(5 * time.Second)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.repairs < 5 || b.repairs > 7 {
			t.Errorf("%d repairs in 200 s", b.repairs)
		}
	})
}
