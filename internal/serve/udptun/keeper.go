package udptun

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sealane/sealane/internal/serve/keep"
	"github.com/sealane/sealane/internal/serve/udptun/shortcut"
)

// Want is a tunnel that is to be open.
type Want struct {
	Device string
	Config
}

// same says whether a tunnel of one config is one of another but for its peers,
// which may change while it is open.
func (c Config) same(o Config) bool {
	return slices.Equal(c.Local, o.Local) && c.Port == o.Port && slices.Equal(c.Subnets, o.Subnets) && c.Queues == o.Queues
}

// Keeper keeps tunnels open: it opens each as soon as its device is there, and again
// when the device has been deleted and made anew. The devices are somebody else's.
type Keeper struct {
	log  *slog.Logger
	open func(device string, c Config) (*Tunnel, error)
	cut  func(shortcut.Config) (*shortcut.Shortcut, error)
	kept *keep.Keeper[Config]
	once sync.Once   // what a former process left is looked at
	ends atomic.Bool // shortcuts stay
}

// NewKeeper returns a keeper that keeps none yet. Its tunnels are of the caller's
// network namespace, which is the process'.
func NewKeeper(log *slog.Logger) *Keeper {
	k := &Keeper{log: log, open: Open, cut: shortcut.Open}
	k.kept = keep.New(k.run)
	return k
}

// Want says which tunnels are to be open from now on, one a device, and that their
// devices may be others than before. It does not wait for them; Trouble tells of those
// that cannot be opened.
func (k *Keeper) Want(list []Want) {
	all := map[string]Config{}
	for _, w := range list {
		all[w.Device] = w.Config
	}
	k.once.Do(func() { k.sweep(slices.Collect(maps.Keys(all))) })
	k.kept.Want(all)
}

func (k *Keeper) sweep(devices []string) {
	if err := shortcut.Sweep(devices...); err != nil {
		k.log.Warn("udp tunnels: shortcuts of former ones", "err", err)
	}
}

// Trouble says why the tunnel of a device carries nothing, or not for all its peers;
// nil if it does, and of a device that is not kept.
func (k *Keeper) Trouble(device string) error { return k.kept.Trouble(device) }

// Close closes all tunnels. Their devices stay, with the shortcuts, and drop what does
// not take those.
func (k *Keeper) Close() error {
	k.ends.Store(true)
	k.kept.Close()
	return nil
}

// run opens a tunnel and keeps its peers as wanted, until it has ended or is to be
// another one.
func (k *Keeper) run(t *keep.Thing[Config]) (well bool) {
	open := t.Wanted()
	tunnel, err := k.open(t.Name, open)
	k.note(t, err)
	if err != nil {
		return false
	}
	k.log.Info("udp tunnel open", "device", t.Name, "local", open.Local, "peers", len(open.Peers))
	short := k.shorten(t.Name, open, tunnel)
	defer short.end()
	for {
		select {
		case <-t.Unwanted():
			short.remove()
			_ = tunnel.Close() // never fails
			k.log.Info("udp tunnel closed", "device", t.Name)
			return true
		case <-tunnel.Done():
			short.remove()
			k.log.Info("udp tunnel ended", "device", t.Name, "err", tunnel.Err())
			return true
		case <-t.News():
		}
		w := t.Wanted()
		if !w.same(open) {
			short.remove()
			_ = tunnel.Close()
			return true
		}
		if !slices.Equal(w.Peers, open.Peers) {
			k.note(t, tunnel.SetPeers(w.Peers))
			open = w
		}
		short.keep()
	}
}

// note keeps what is wrong for Trouble, and tells it once. A device that is not there
// is about to be, or the tunnel to be wanted no more.
func (k *Keeper) note(t *keep.Thing[Config], err error) {
	if t.Note(err) && err != nil && !errors.Is(err, errNotPersistent) {
		k.log.Warn("udp tunnel", "device", t.Name, "err", err)
	}
}
