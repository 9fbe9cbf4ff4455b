package udptun

import (
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/serve/udptun/shortcut"
)

// keep keeps the tunnel of a host, whose openings it counts.
func (e *end) keep() (k *Keeper, opened *atomic.Int32) {
	k, opened = NewKeeper(slog.New(slog.DiscardHandler)), &atomic.Int32{}
	k.open = func(device string, c Config) (t *Tunnel, err error) {
		if doErr := e.Do(func() error { t, err = Open(device, c); return nil }); doErr != nil {
			return nil, doErr
		}
		if err == nil {
			opened.Add(1)
		}
		return t, err
	}
	k.cut = func(c shortcut.Config) (s *shortcut.Shortcut, err error) {
		if doErr := e.Do(func() error { s, err = shortcut.Open(c); return nil }); doErr != nil {
			return nil, doErr
		}
		return s, err
	}
	e.t.Cleanup(func() { k.Close() })
	return k, opened
}

func (e *end) want(peers ...Peer) Want {
	return Want{device, Config{Local: []netip.Addr{netip.MustParseAddr(e.local)}, Subnets: e.subnet, Queues: 1, Peers: peers}}
}

// await waits until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so: %s", what)
		}
	}
}

// A device that is made anew is carried for again.
func TestKeeperFollowsDevice(t *testing.T) {
	w := newWorld(t)
	w.b.open(1, w.a.peers()...)
	k, opened := w.a.keep()
	w.a.Must("ip", "link", "del", device)
	want := w.a.want(w.b.peers()...)
	for round := range int32(2) {
		k.Want([]Want{want})
		await(t, "told that the device is not there", func() bool {
			err := k.Trouble(device)
			return err != nil && err.Error() == "udp tunnel flannel0: no persistent device of that name"
		})
		if err := w.a.Do(func() error { return makeDevice(w.a.addr(0), w.a.addr(1)) }); err != nil {
			t.Fatal(err)
		}
		k.Want([]Want{want})
		await(t, "open", func() bool { return opened.Load() == round+1 && k.Trouble(device) == nil })
		transfer(t, w.a, w.b, w.b.addr(0), pattern(1<<20))
		w.a.Must("ip", "link", "del", device)
	}
}

// Peers change while packets go on; another config is another tunnel.
func TestKeeperFollowsWants(t *testing.T) {
	w := newWorld(t)
	b := w.b.open(1, w.a.peers()...)
	k, opened := w.a.keep()
	k.Want([]Want{w.a.want()})
	await(t, "open", func() bool { return opened.Load() == 1 })
	if w.a.Run("lab-echo", "ping", "-timeout", "200ms", w.b.addr(0)).Code == 0 {
		t.Error("there is no peer, and it answers")
	}
	k.Want([]Want{w.a.want(w.b.peers()...)})
	await(t, "a peer", func() bool { return w.a.Run("lab-echo", "ping", "-timeout", "100ms", w.b.addr(0)).Code == 0 })
	bad := w.a.want(Peer{})
	k.Want([]Want{bad})
	await(t, "told of a bad peer", func() bool { return k.Trouble(device) != nil })
	w.a.Must("lab-echo", "ping", w.b.addr(0)) // the peers are as they were
	k.Want([]Want{w.a.want(w.b.peers()...)})
	await(t, "no trouble", func() bool { return k.Trouble(device) == nil })
	if n := opened.Load(); n != 1 {
		t.Errorf("opened %d times", n)
	}

	b.Close()
	other := w.a.want(w.b.peers()...)
	other.Port = 9000
	k.Want([]Want{other})
	await(t, "opened anew", func() bool { return opened.Load() == 2 })
	wire := w.b.packets(w.b.local + ":9000")
	from := w.a.packets("10.5.1.0:5000")
	if _, err := from.WriteToUDPAddrPort([]byte("data"), netip.MustParseAddrPort("10.5.2.7:9")); err != nil {
		t.Fatal(err)
	}
	wire.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, source, err := wire.ReadFromUDPAddrPort(make([]byte, 2000)); err != nil || source.Port() != 9000 {
		t.Errorf("from %v: %v", source, err)
	}

	k.Want(nil)
	await(t, "its port is free", func() bool { return w.a.Run("ss", "-Hlun", "sport", "=", "9000").Stdout == "" })
	if w.a.Run("ip", "link", "show", device).Code != 0 {
		t.Error("the device has gone")
	}
}

// What keeps a tunnel from being opened is told, and it is tried again.
func TestKeeperTriesAgain(t *testing.T) {
	w := newWorld(t)
	w.b.open(1, w.a.peers()...)
	k, opened := w.a.keep()
	taken := w.a.packets(w.a.local + ":8285")
	k.Want([]Want{w.a.want(w.b.peers()...)})
	await(t, "told that the port is taken", func() bool {
		err := k.Trouble(device)
		return err != nil && strings.Contains(err.Error(), "192.0.2.1:8285: address already in use")
	})
	taken.Close()
	await(t, "open", func() bool { return opened.Load() == 1 && k.Trouble(device) == nil })
	w.a.Must("lab-echo", "ping", w.b.addr(0))
	k.Close()
	k.Want([]Want{w.a.want(w.b.peers()...)})
	if w.a.Run("lab-echo", "ping", "-timeout", "200ms", w.b.addr(0)).Code == 0 {
		t.Error("closed, and it carries")
	}
	if err := k.Trouble("nobody0"); err != nil {
		t.Error(err)
	}
}
