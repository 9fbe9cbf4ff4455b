package wireguard

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// has reads what the host's device has, as `wg show` would.
func (e *end) has() state {
	e.t.Helper()
	var s state
	err := e.Do(func() error {
		n, err := openNative(slt)
		if err != nil {
			return err
		}
		defer n.close()
		s, err = n.read()
		return err
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return s
}

// harm changes the host's device as somebody else would.
func (e *end) harm(c change) {
	e.t.Helper()
	err := e.Do(func() error {
		n, err := openNative(slt)
		if err != nil {
			return err
		}
		defer n.close()
		return n.change(c)
	})
	if err != nil {
		e.t.Fatal(err)
	}
}

// quick is how long a repair may take: a second, or longer where processors are slow.
func quick() time.Duration {
	if testing.Short() {
		return 10 * time.Second
	}
	return time.Second
}

// Two hosts hear each other, also after their devices were deleted, and nothing that is
// secret is in the log.
func TestKeeper(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		w.meet()
		w.a.reach(w.b)
		w.b.reach(w.a)
		w.a.Must("ip", "link", "del", slt)
		w.a.make()
		w.a.keeper.Want([]Want{w.a.want(w.b)})
		begin := time.Now()
		w.b.reach(w.a)
		w.a.reach(w.b)
		if took := time.Since(begin); took > 3*quick() {
			t.Errorf("after the device was deleted: %v", took)
		}
		if err := w.a.keeper.Trouble(slt); err != nil {
			t.Error(err)
		}
		secrets := []string{hex.EncodeToString(w.a.key[:]), hex.EncodeToString((&Secret{42})[:]), Public(w.a.key).String(), Public(Secret{42}).String()}
		for _, s := range secrets {
			if strings.Contains(w.a.log.String(), s) {
				t.Errorf("the log has %q:\n%s", s, w.a.log)
			}
		}
		w.a.keeper.Want(nil)
		await(t, 20*time.Second, "the port is free", func() bool {
			return w.a.Do(func() error {
				c, err := net.ListenPacket("udp4", w.a.at.String())
				if err == nil {
					c.Close()
				}
				return err
			}) == nil || !w.a.served // the kernel's goes on until it is deleted
		})
	})
}

// A peer that moves is followed, whether it says so or its packets do.
func TestKeeperFollowsPeer(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		w.meet()
		w.a.reach(w.b)
		w.b.Must("ip", "addr", "del", "192.0.2.2/24", "dev", "eth0")
		w.b.Must("ip", "addr", "add", "192.0.2.22/24", "dev", "eth0")
		w.b.reach(w.a) // which tells a
		w.a.reach(w.b)
		w.b.Must("ip", "addr", "del", "192.0.2.22/24", "dev", "eth0")
		w.b.Must("ip", "addr", "add", "192.0.2.23/24", "dev", "eth0")
		w.b.at = netip.MustParseAddrPort("192.0.2.23:51820")
		w.a.keeper.Want([]Want{w.a.want(w.b)})
		w.a.reach(w.b)
	})
}

// turning is how long a test goes on sending after each half of a change of keys: a
// handshake on a busy or emulated machine is a part of it, and WireGuard's next try
// (REKEY_TIMEOUT, 5 s) is beyond.
const turning = time.Second

// Two hosts that change their keys, one after the other, lose next to nothing of what they
// send meanwhile.
func TestKeeperTurnsKey(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		w.meet()
		w.a.reach(w.b)
		w.b.reach(w.a)
		for _, turn := range []struct{ own, other *end }{{w.a, w.b}, {w.b, w.a}} {
			for _, way := range []struct{ from, to *end }{{w.a, w.b}, {w.b, w.a}} {
				ctx, cancel := context.WithCancel(t.Context())
				type result struct {
					lost, sent int
					err        error
				}
				done := make(chan result, 1)
				go func() {
					lost, sent, err := way.from.stream(ctx, way.to, time.Millisecond)
					done <- result{lost, sent, err}
				}()
				time.Sleep(100 * time.Millisecond)
				old := turn.own.want(turn.other)
				turn.own.key = NewSecret()
				turn.other.keeper.Want([]Want{turn.other.want(turn.own)}) // it hears of the key
				time.Sleep(turning)
				if turn.own.keeper.Want([]Want{old}); turn.other.keeper.Trouble(slt) != nil {
					t.Error(turn.other.keeper.Trouble(slt))
				}
				turn.own.keeper.Want([]Want{turn.own.want(turn.other)}) // it is used
				time.Sleep(turning)
				cancel()
				r := <-done
				t.Logf("%s has another key, %s sends: %d of %d lost", turn.own.Name, way.from.Name, r.lost, r.sent)
				if r.err != nil || r.lost > 2*r.sent/5 {
					t.Errorf("%+v\n%s\n%s", r, turn.own.log, turn.other.log)
				}
				w.a.reach(w.b)
				w.b.reach(w.a)
			}
		}
	})
}

// A port that another program has is said in a line, and taken when it is free.
func TestKeeperWaitsForPort(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		var c net.PacketConn
		if err := w.a.Do(func() (err error) { c, err = net.ListenPacket("udp4", ":51820"); return err }); err != nil {
			t.Fatal(err)
		}
		w.meet()
		await(t, 20*time.Second, "told of the port", func() bool {
			return fmt.Sprint(w.a.keeper.Trouble(slt)) == "wireguard slt0: UDP port 51820: another program uses it"
		})
		c.Close()
		w.a.reach(w.b)
		w.b.reach(w.a)
	})
}

// What the kernel's device has outlasts who keeps it, and is left as it is by the next
// one; what somebody else changes is back within a second.
func TestKeeperOfKernel(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		w.meet()
		w.a.reach(w.b)
		if w.a.served {
			return // which ends with its keeper, and nobody can change
		}
		if err := w.a.keeper.Close(); err != nil {
			t.Fatal(err)
		}
		w.a.reach(w.b)
		w.b.reach(w.a)
		before := w.a.has()
		w.a.keep()
		w.a.keeper.Want([]Want{w.a.want(w.b)})
		time.Sleep(2 * seldom)
		if after := w.a.has(); after.peers[w.b.key.Public()].shook != before.peers[w.b.key.Public()].shook {
			t.Error("there was another handshake")
		}
		all, other := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, Secret{9}
		for name, c := range map[string]change{
			"a peer removed":  {peers: []peerChange{{key: w.b.key.Public(), remove: true}}},
			"a peer more":     {peers: []peerChange{{key: Public{9}, allowed: &all}}},
			"other prefixes":  {peers: []peerChange{{key: w.b.key.Public(), allowed: &all}}},
			"no shared key":   {peers: []peerChange{{key: w.b.key.Public(), Shared: &Secret{}}}},
			"another key":     {Private: &other},
			"another's place": {peers: []peerChange{{key: Public{9}, allowed: &[]netip.Prefix{w.b.subnet}}}},
		} {
			w.a.harm(c)
			await(t, quick(), name+": as it was", func() bool {
				have := w.a.has()
				p := have.peers[w.b.key.Public()]
				return have.Private == w.a.key && len(have.peers) == 1 && samePrefixes(p.allowed, []netip.Prefix{w.b.subnet}) && p.Shared == Secret{42}
			})
			w.b.reach(w.a)
			w.a.reach(w.b)
		}
	})
}
