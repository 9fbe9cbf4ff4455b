package wireguard

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/serve/keep"
	"github.com/sealane/sealane/internal/serve/notice"
)

// keeping is a device that is kept, of either kind.
type keeping interface {
	// read returns what it has; os.ErrNotExist: it is gone.
	read() (state, error)
	change(change) error
	// ended is closed when it has ended by itself; nil: read says so.
	ended() <-chan struct{}
	// watched says that others can change it, so that it is to be looked at.
	watched() bool
	close()
}

// Keeper keeps devices as wanted, each as soon as it is there, and again when it has
// been deleted and made anew. The devices are somebody else's.
type Keeper struct {
	log  *slog.Logger
	open func(Want) (keeping, error)
	kept *keep.Keeper[Want]
}

// How often a device is looked at: while a key waits for a handshake, and otherwise.
// It is at most a share of the time, for one of thousands of peers takes milliseconds.
const (
	often  = 10 * time.Millisecond
	seldom = 500 * time.Millisecond
	failed = time.Second // after a change that the device refused
	share  = 30
)

// NewKeeper returns a keeper that keeps none yet. Its devices are of the caller's
// network namespace, which is the process'.
func NewKeeper(log *slog.Logger) *Keeper {
	complaint := notice.New(log, "wireguard")
	open := func(w Want) (keeping, error) {
		if w.Served {
			return serve(w.Device, logger(log, complaint, w.Device))
		}
		return openNative(w.Device)
	}
	k := &Keeper{log: log, open: open}
	k.kept = keep.New(k.run)
	return k
}

// Want says how devices are to be from now on, and that they may be others than
// before. It does not wait for them; Trouble tells of those that cannot be so.
func (k *Keeper) Want(list []Want) {
	all := map[string]Want{}
	for _, w := range list {
		all[w.Device] = w
	}
	k.kept.Want(all)
}

// Trouble says why a device is not as wanted; nil if it is, and of one that is not kept.
func (k *Keeper) Trouble(device string) error { return k.kept.Trouble(device) }

// Close ends it. Devices of the kernel go on; those that were served drop what is sent
// there.
func (k *Keeper) Close() error {
	k.kept.Close()
	return nil
}

// run opens a device and attends to it. It reports whether that ever was as wanted.
func (k *Keeper) run(t *keep.Thing[Want]) (well bool) {
	w := t.Wanted()
	dev, err := k.open(w)
	if err != nil {
		k.note(t, w, err)
		return false
	}
	defer dev.close()
	return k.attend(t, dev, w.Served)
}

// attend keeps an open device as wanted. It returns when that is over, and whether it
// ever was so.
func (k *Keeper) attend(t *keep.Thing[Want], dev keeping, served bool) (lasted bool) {
	for m := newMemory(); ; {
		w := t.Wanted()
		if w.Served != served {
			return lasted
		}
		began := time.Now()
		again, err := bring(dev, w, m)
		took := time.Since(began)
		k.note(t, w, err)
		if err == nil && !lasted {
			k.log.Info("wireguard device ready", "device", w.Device, "key", w.Private.Public().String(), "port", w.Port, "peers", len(w.Peers), "served", served)
		}
		lasted = lasted || err == nil
		if errors.Is(err, os.ErrNotExist) || err != nil && served {
			return lasted
		}
		var tick <-chan time.Time
		switch {
		case again > 0:
			tick = time.After(max(again, 2*took))
		case err != nil:
			tick = time.After(failed)
		case dev.watched():
			tick = time.After(max(seldom, share*took))
		}
		select {
		case <-t.Unwanted():
			return lasted
		case <-dev.ended():
			return lasted
		case <-t.News():
		case <-tick:
		}
	}
}

// bring makes a device as wanted, as far as it can be now. The rest is for the next
// time, and again is when that is; 0: whenever.
func bring(dev keeping, w Want, m *memory) (again time.Duration, err error) {
	have, err := dev.read()
	if err != nil {
		return 0, err
	}
	s := plan(have, w, time.Now(), m)
	if !s.empty() {
		err = dev.change(s.change)
	}
	if err != nil {
		*m = *newMemory() // all of it is still to be done
		return 0, inUse(err, w)
	}
	if len(s.greet) == 0 {
		return s.again, nil
	}
	if err := dev.change(change{peers: s.greet}); err != nil {
		return 0, err
	}
	back := make([]peerChange, len(s.greet))
	for i, g := range s.greet {
		back[i] = peerChange{key: g.key, keepalive: &w.Keepalive}
	}
	return s.again, dev.change(change{peers: back})
}

// inUse says whose fault it is that there is no socket.
func inUse(err error, w Want) error {
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("UDP port %d: another program uses it", w.Port)
	}
	return err
}

// note keeps what is wrong for Trouble, and tells it once. A device that is not there
// is about to be, or to be wanted no more.
func (k *Keeper) note(t *keep.Thing[Want], w Want, err error) {
	if err != nil {
		err = fmt.Errorf("wireguard %s: %w", w.Device, err)
	}
	if t.Note(err) && err != nil && !errors.Is(err, os.ErrNotExist) {
		k.log.Warn("wireguard", "err", err)
	}
}
