package wireguard

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fake is a device that does what it is told as WireGuard does: a prefix is one peer's,
// the last that was given it.
type fake struct {
	state
	hellos int   // packets that a change of the interval sent
	fails  error // the next change
}

func newFake() *fake { return &fake{state: state{peers: map[Public]peerState{}}} }

func (f *fake) read() (state, error) {
	s := state{f.Private, f.port, map[Public]peerState{}}
	for key, p := range f.peers {
		p.allowed = slices.Clone(p.allowed)
		s.peers[key] = p
	}
	return s, nil
}

func (f *fake) change(c change) error {
	if err := f.fails; err != nil {
		f.fails = nil
		return err
	}
	if c.Private != nil {
		f.Private = *c.Private
	}
	if c.port != nil {
		f.port = *c.port
	}
	for _, p := range c.peers {
		f.apply(p)
	}
	return nil
}

func (f *fake) apply(c peerChange) {
	if c.remove {
		delete(f.peers, c.key)
		return
	}
	p := f.peers[c.key]
	if c.Shared != nil {
		p.Shared = *c.Shared
	}
	if c.endpoint.IsValid() {
		p.endpoint = c.endpoint
	}
	if c.keepalive != nil {
		if p.keepalive == 0 && *c.keepalive != 0 {
			f.hellos++
		}
		p.keepalive = *c.keepalive
	}
	if c.allowed != nil {
		for key, o := range f.peers {
			o.allowed = slices.DeleteFunc(o.allowed, func(a netip.Prefix) bool { return slices.Contains(*c.allowed, a) })
			f.peers[key] = o
		}
		p.allowed = slices.Clone(*c.allowed)
	}
	f.peers[c.key] = p
}

func (f *fake) ended() <-chan struct{} { return nil }
func (f *fake) watched() bool          { return true }
func (f *fake) close()                 {}

func (f *fake) shake(key Public, at time.Time) {
	p := f.peers[key]
	p.shook = at
	f.peers[key] = p
}

// key is the public key of a number.
func key(n byte) Public { return Public{n} }

func peerOf(n byte, at string, allowed ...string) Peer {
	p := Peer{Key: key(n), Endpoint: netip.MustParseAddrPort(at)}
	for _, a := range allowed {
		p.Allowed = append(p.Allowed, netip.MustParsePrefix(a))
	}
	return p
}

func want(peers ...Peer) Want {
	return Want{Device: "slt1", Port: 51820, Private: Secret{1}, Peers: peers}
}

// owner is who may send from a prefix.
func (f *fake) owner(prefix string) Public {
	return f.owners()[netip.MustParsePrefix(prefix)]
}

// bringTo makes the fake as wanted at a time.
func (f *fake) bringTo(t *testing.T, w Want, m *memory, now time.Time) step {
	t.Helper()
	have, _ := f.read()
	s := plan(have, w, now, m)
	if err := f.change(s.change); err != nil {
		t.Fatal(err)
	}
	return s
}

// Whatever a device has, it has what is wanted after one change, and a second look finds
// nothing to do.
func TestPlanReaches(t *testing.T) {
	a, b := peerOf(1, "192.0.2.2:51820", "10.5.2.0/24", "fd05:0:0:2::/64"), peerOf(2, "192.0.2.3:51820", "10.5.3.0/24")
	shared := want(a, b)
	shared.Shared, shared.Keepalive, shared.Port = Secret{7}, 25*time.Second, 9000
	moved := want(peerOf(1, "192.0.2.22:51820", "10.5.3.0/24"), peerOf(2, "192.0.2.3:51820", "10.5.2.0/24"))
	wants := []Want{want(), want(a), want(a, b), shared, moved, want(b), want(a), moved, shared}
	f, m, now := newFake(), newMemory(), time.Unix(1e9, 0)
	for i, w := range wants {
		f.bringTo(t, w, m, now)
		if f.Private != w.Private || f.port != w.Port || len(f.peers) != len(w.Peers) {
			t.Errorf("%d: %+v", i, f.state)
		}
		for _, p := range w.Peers {
			if got := f.peers[p.Key]; got.endpoint != p.Endpoint || got.Shared != w.Shared || got.keepalive != w.Keepalive || !samePrefixes(got.allowed, p.Allowed) {
				t.Errorf("%d: peer %v is %+v", i, p.Key[0], got)
			}
		}
		if s := f.bringTo(t, w, m, now); !s.empty() || len(s.greet) > 0 {
			t.Errorf("%d: again %+v", i, s)
		}
	}
}

// What somebody else does to a device is taken back.
func TestPlanRepairs(t *testing.T) {
	w := want(peerOf(1, "192.0.2.2:51820", "10.5.2.0/24"))
	for name, harm := range map[string]func(*fake){
		"a peer gone": func(f *fake) { delete(f.peers, key(1)) },
		"a peer more": func(f *fake) {
			f.peers[key(9)] = peerState{allowed: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}
		},
		"no prefixes":     func(f *fake) { f.peers[key(1)] = peerState{endpoint: w.Peers[0].Endpoint} },
		"another's":       func(f *fake) { f.apply(peerChange{key: key(9), allowed: &w.Peers[0].Allowed}) },
		"another secret":  func(f *fake) { f.Private = Secret{9} },
		"a shared key":    func(f *fake) { p := f.peers[key(1)]; p.Shared = Secret{9}; f.peers[key(1)] = p },
		"another port":    func(f *fake) { f.port = 1 },
		"made anew":       func(f *fake) { f.state = newFake().state },
		"a lost endpoint": func(f *fake) { p := f.peers[key(1)]; p.endpoint = netip.AddrPort{}; f.peers[key(1)] = p },
	} {
		f, m, now := newFake(), newMemory(), time.Unix(1e9, 0)
		f.bringTo(t, w, m, now)
		good, _ := f.read()
		harm(f)
		f.bringTo(t, w, m, now.Add(time.Second))
		if got, _ := f.read(); !reflect.DeepEqual(got, good) {
			t.Errorf("%s: %+v, want %+v", name, got, good)
		}
	}
}

// Where a peer was heard from prevails over what its lease says, until that changes or
// nothing is heard any more.
func TestPlanFollowsEndpoints(t *testing.T) {
	f, m, now := newFake(), newMemory(), time.Unix(1e9, 0)
	lease, heard, next := "192.0.2.2:51820", netip.MustParseAddrPort("198.51.100.7:40000"), "192.0.2.22:51820"
	f.bringTo(t, want(peerOf(1, lease, "10.5.2.0/24")), m, now)
	p := f.peers[key(1)]
	p.endpoint, p.shook = heard, now
	f.peers[key(1)] = p
	f.bringTo(t, want(peerOf(1, lease, "10.5.2.0/24")), m, now.Add(time.Second))
	if got := f.peers[key(1)].endpoint; got != heard {
		t.Errorf("heard from %v, sent to %v", heard, got)
	}
	f.bringTo(t, want(peerOf(1, next, "10.5.2.0/24")), m, now.Add(2*time.Second))
	if got := f.peers[key(1)].endpoint; got.String() != next {
		t.Errorf("moved to %v, sent to %v", next, got)
	}
	p = f.peers[key(1)]
	p.endpoint = heard
	f.peers[key(1)] = p
	f.bringTo(t, want(peerOf(1, next, "10.5.2.0/24")), m, now.Add(session+time.Second))
	if got := f.peers[key(1)].endpoint; got.String() != next {
		t.Errorf("silent at %v, sent to %v", heard, got)
	}
}

// A host's new key gets its prefixes when there was a handshake with it, and not before
// as long as the old one works.
func TestPlanSucceeds(t *testing.T) {
	const prefix = "10.5.2.0/24"
	start := time.Unix(1e9, 0)
	begin := func(shook time.Duration) (*fake, *memory) {
		f, m := newFake(), newMemory()
		f.bringTo(t, want(peerOf(1, "192.0.2.2:51820", prefix)), m, start)
		f.shake(key(1), start.Add(-shook))
		return f, m
	}
	w := want(peerOf(2, "192.0.2.2:51820", prefix))

	f, m := begin(time.Minute)
	for i := range 3 {
		now := start.Add(time.Duration(i) * time.Second)
		if s := f.bringTo(t, w, m, now); s.again != often || f.owner(prefix) != key(1) || len(f.peers) != 2 || len(s.greet) != 0 {
			t.Fatalf("%d: before a handshake: %+v, %+v", i, s, f.state)
		}
	}
	f.shake(key(2), start.Add(3*time.Second))
	if s := f.bringTo(t, w, m, start.Add(3*time.Second)); s.again == often || f.owner(prefix) != key(2) || len(f.peers) != 1 {
		t.Errorf("after it: %+v, %+v", s, f.state)
	}

	f, m = begin(time.Minute)
	f.bringTo(t, w, m, start)
	if s := f.bringTo(t, w, m, start.Add(patience)); s.again == often || f.owner(prefix) != key(2) || len(f.peers) != 1 || len(s.greet)+len(m.greet) != 1 {
		t.Errorf("without patience: %+v, %+v", s, f.state)
	}

	// Both hosts have other keys at once: nobody answers to the old ones any more.
	f, m = begin(time.Minute)
	f.bringTo(t, w, m, start)
	both := w
	both.Private = Secret{2}
	s := f.bringTo(t, both, m, start.Add(time.Second))
	late := f.bringTo(t, both, m, start.Add(time.Second+polite))
	if len(s.greet)+len(late.greet) != 1 || f.owner(prefix) != key(1) {
		t.Errorf("both at once: %+v, %+v", s, late)
	}

	f, m = begin(session)
	if s := f.bringTo(t, w, m, start); s.again == often || f.owner(prefix) != key(2) || len(f.peers) != 1 {
		t.Errorf("of a session that is over: %+v, %+v", s, f.state)
	}

	f, m = begin(time.Minute)
	f.bringTo(t, w, m, start)
	f.bringTo(t, want(), m, start.Add(time.Second))
	if len(f.peers) != 0 || len(m.since) != 0 || len(m.aimed) != 0 {
		t.Errorf("of a host that left: %+v, %+v", f.state, m)
	}
}

// What could not be done is done when it can be.
func TestBringTriesAgain(t *testing.T) {
	f, m := newFake(), newMemory()
	do := func(w Want) error {
		_, err := bring(f, w, m)
		return err
	}
	if err := do(want(peerOf(1, "192.0.2.2:51820", "10.5.2.0/24"))); err != nil {
		t.Fatal(err)
	}
	f.shake(key(1), time.Now())
	w := want(peerOf(1, "192.0.2.2:9100", "10.5.2.0/24"), peerOf(2, "192.0.2.3:9100", "10.5.3.0/24"))
	w.Port, f.fails = 9100, unix.EADDRINUSE
	if err := do(w); err == nil || err.Error() != "UDP port 9100: another program uses it" {
		t.Errorf("a port in use: %v", err)
	}
	if err := do(w); err != nil || f.port != 9100 || f.peers[key(1)].endpoint != w.Peers[0].Endpoint || f.owner("10.5.3.0/24") != key(2) {
		t.Errorf("afterwards: %v, %+v", err, f.state)
	}
}

// Of two hosts that hear of each other at once one greets, and the other only if that was
// in vain.
func TestPlanIsPolite(t *testing.T) {
	now := time.Unix(1e9, 0)
	secrets := []Secret{NewSecret(), NewSecret()}
	var first []bool
	for i, own := range secrets {
		f, m := newFake(), newMemory()
		w := want(Peer{Key: secrets[1-i].Public(), Endpoint: netip.MustParseAddrPort("192.0.2.2:51820")})
		w.Private, w.Peers[0].Allowed = own, []netip.Prefix{netip.MustParsePrefix("10.5.2.0/24")}
		s := f.bringTo(t, w, m, now)
		first = append(first, len(s.greet) == 1)
		if len(s.greet) == 1 {
			continue
		}
		if s.again != polite {
			t.Errorf("looks again after %v", s.again)
		}
		if late := f.bringTo(t, w, m, now.Add(polite)); len(late.greet) != 1 {
			t.Errorf("nobody greets: %+v", late)
		}
		f, m = newFake(), newMemory()
		f.bringTo(t, w, m, now)
		f.shake(w.Peers[0].Key, now)
		if late := f.bringTo(t, w, m, now.Add(polite)); len(late.greet) != 0 {
			t.Errorf("greeted after a handshake: %+v", late)
		}
	}
	f, m := newFake(), newMemory()
	f.bringTo(t, want(), m, now)
	if s := f.bringTo(t, want(peerOf(1, "192.0.2.2:51820", "10.5.2.0/24")), m, now); len(s.greet) != 0 || s.again != settled {
		t.Errorf("of a newcomer: %+v", s)
	}
	if first[0] == first[1] {
		t.Errorf("who greets at once: %v", first)
	}
}

// Whom a device has no session with is greeted, once, and all are when its own key is
// another; the interval of packets to them is what it was afterwards.
func TestBringGreets(t *testing.T) {
	for _, keepalive := range []time.Duration{0, 5 * time.Second} {
		w, f, m := want(peerOf(1, "192.0.2.2:51820", "10.5.2.0/24"), peerOf(2, "192.0.2.3:51820", "10.5.3.0/24")), newFake(), newMemory()
		w.Keepalive = keepalive
		bring := func(least, most int) {
			t.Helper()
			f.hellos = 0
			for again := time.Duration(1); again > 0; time.Sleep(again) {
				var err error
				if again, err = bring(f, w, m); err != nil {
					t.Fatal(err)
				}
			}
			if f.hellos < least || f.hellos > most || f.peers[key(1)].keepalive != keepalive {
				t.Errorf("keepalive %v: %d greeted, %+v", keepalive, f.hellos, f.state)
			}
		}
		bring(2, 4)
		bring(0, 0)
		w.Private = Secret{2}
		bring(2, 2)
		w.Peers = append(w.Peers, peerOf(3, "192.0.2.4:51820", "10.5.4.0/24"))
		bring(1, 2)
	}
}
