package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/compile"
	driver "github.com/sealane/sealane/internal/driver/overlay"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/wireguard"
)

// Encrypted overlay networks go through one device of WireGuard's on each host, which
// the daemon serves where the kernel has none. A host has a key as long as the cluster
// has such a network; it says the public one, and its address inside the tunnel, in its
// record. Its private key is kept as fabrics' are, and is another after as long a time.
//
// Whom the device takes packets from is known also while the cluster's store is away:
// it is in the store of this host, once for all networks.
const (
	cipherSecret = "overlay"       // whose key it is: no fabric's, for those have a slash
	metaCipher   = "overlay peers" // in meta
)

// cipherPeer is another host of the cluster that has a key.
type cipherPeer struct {
	ID    string         `json:"id"`
	Key   string         `json:"key"` // public, in base64
	Inner netip.Addr     `json:"inner"`
	At    netip.AddrPort `json:"at"` // UDP
}

// settleCipher has this host be known by a key, and know the others', while the cluster
// has encrypted networks. The caller holds work.
func (e *Engine) settleCipher(ctx context.Context, v *overlay.View) error {
	d := e.draft("encrypted networks", "settle")
	s, has := e.secretOf(cipherSecret)
	var err error
	switch wanted := e.ciphers(v); {
	case !wanted && !has:
		return nil
	case !wanted:
		d.meta[metaSecret+cipherSecret], d.meta[metaCipher] = "", ""
		s = secret{}
	case !has:
		if s, err = e.ensureSecret(ctx, cipherSecret); err != nil {
			return err
		}
		fallthrough
	default:
		text, err := json.Marshal(e.peersOf(v))
		if err != nil {
			return err
		}
		d.meta[metaCipher] = string(text)
	}
	e.sayKey(s)
	if _, goes := d.meta[metaSecret+cipherSecret]; !goes && d.meta[metaCipher] == e.meta[metaCipher] {
		return nil
	}
	if err := d.commit(ctx); err != nil {
		return err
	}
	e.wantTunnels()
	return nil
}

// ciphers reports whether the cluster has an encrypted network, or this host still has.
func (e *Engine) ciphers(v *overlay.View) bool {
	for _, n := range e.intent.Networks {
		if n.Overlay != nil && n.Options.Encrypted {
			return true
		}
	}
	for _, p := range v.Networks {
		if o, err := model.ParseOptions(model.DriverOverlay, p.Options); err == nil && o.Encrypted {
			return true
		}
	}
	return false
}

// sayKey has the others told by which key this host is known, or is about to be.
func (e *Engine) sayKey(s secret) {
	key := ""
	for _, private := range []wireguard.Secret{s.Next, s.Private} {
		if private != (wireguard.Secret{}) && key == "" {
			key = private.Public().String()
		}
	}
	o := &e.overlays
	o.mu.Lock()
	dir, same := o.dir, o.key == key
	o.key = key
	o.mu.Unlock()
	if dir != nil && !same {
		dir.Refresh()
	}
}

// OverlayKey returns the public key, in base64, that this host's packets of encrypted
// overlay networks are known by, or are about to be; "": there is none.
func (e *Engine) OverlayKey() string {
	e.overlays.mu.Lock()
	defer e.overlays.mu.Unlock()
	return e.overlays.key
}

// peersOf lists the other hosts that have keys and can be sent to, by ID. Of several that
// say one key, the first has it that was heard of lately.
func (e *Engine) peersOf(v *overlay.View) []cipherPeer {
	self := e.cfg.Cluster.Node.ID
	own := v.Hosts[self]
	taken := map[string]bool{own.Key: true}
	if s, ok := e.secretOf(cipherSecret); ok {
		taken[s.Private.Public().String()] = true
	}
	out := []cipherPeer{}
	for _, alive := range []bool{true, false} {
		for _, id := range slices.Sorted(maps.Keys(v.Hosts)) {
			h := v.Hosts[id]
			at, ok := meeting(own.Host, h.Host)
			if id == self || h.ID != id || h.Alive != alive || h.Key == "" || taken[h.Key] || !ok {
				continue
			}
			taken[h.Key] = true
			out = append(out, cipherPeer{id, h.Key, h.Inner, netip.AddrPortFrom(at, model.CipherPort)})
		}
	}
	slices.SortFunc(out, func(a, b cipherPeer) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// meeting returns where a host finds another: by IPv4 if both have it.
func meeting(own, other overlay.Host) (netip.Addr, bool) {
	if own.Public4.IsValid() && other.Public4.IsValid() {
		return other.Public4, true
	}
	return other.Public6, own.Public6.IsValid() && other.Public6.IsValid()
}

// inners says where hosts are inside the tunnel, by their IDs.
func inners(peers []cipherPeer) map[string]netip.Addr {
	at := map[string]netip.Addr{}
	for _, p := range peers {
		at[p.ID] = p.Inner
	}
	return at
}

// seal has a network's packets go through the tunnel.
func (e *Engine) seal(o *model.Overlay) error {
	if o.MTU < driver.MinUplink {
		return fmt.Errorf("option encrypted: uplink %s: its MTU is %d, and %d is needed", o.Uplink, o.MTU, driver.MinUplink)
	}
	o.Port, o.Local, o.Served = model.SealedPort, overlay.InnerOf(e.cfg.Cluster.Node.ID), e.serves()
	return nil
}

// wantCipher is the device of encrypted networks as it is to be, if there is one. The
// caller holds work.
func (e *Engine) wantCipher() []wireguard.Want {
	s, ok := e.secretOf(cipherSecret)
	var on *model.Network
	for _, n := range e.intent.Networks {
		if n.Overlay != nil && n.Options.Encrypted && (!n.Absent() || compile.Published(n)) {
			on = n
		}
	}
	if !ok || on == nil {
		return nil
	}
	w := wireguard.Want{Device: model.CipherDevice, Served: on.Overlay.Served, Port: model.CipherPort, Private: s.Private}
	var peers []cipherPeer
	if text := e.meta[metaCipher]; text != "" && json.Unmarshal([]byte(text), &peers) != nil {
		return nil // which this wrote
	}
	for _, p := range peers {
		if key, err := wireguard.ParsePublic(p.Key); err == nil {
			w.Peers = append(w.Peers, wireguard.Peer{Key: key, Endpoint: p.At, Allowed: []netip.Prefix{netip.PrefixFrom(p.Inner, p.Inner.BitLen())}})
		}
	}
	return []wireguard.Want{w}
}

// cipherTrouble says why an encrypted network's packets are not carried, or nil.
func (e *Engine) cipherTrouble(n *model.Network) error {
	if !n.Options.Encrypted || n.Absent() && !compile.Published(n) || e.cfg.WireGuard == nil {
		return nil
	}
	return e.cfg.WireGuard.Trouble(model.CipherDevice)
}

// turnCipher has this host use another private key when the one it has was used for long
// enough, in three steps, each at another look: the next one is made and said; it is in
// the cluster's store; it is used.
func (e *Engine) turnCipher(ctx context.Context) error {
	o := &e.overlays
	e.work.Lock()
	defer e.work.Unlock()
	s, ok := e.secretOf(cipherSecret)
	if !ok {
		return nil
	}
	d := e.draft("encrypted networks", "use another key")
	if s.Next == (wireguard.Secret{}) {
		if e.cfg.Now().Sub(s.made) < model.KeyLife-stagger(s.Private.Public(), model.KeyLife/8) {
			return nil
		}
		s.Next = wireguard.NewSecret()
		err := errors.Join(d.keepSecret(cipherSecret, s), d.commit(ctx))
		if err == nil {
			e.sayKey(s)
		}
		return err
	}
	o.mu.Lock()
	before := o.told
	o.told = o.view != nil && o.view.InTouch && o.view.Hosts[e.cfg.Cluster.Node.ID].Key == s.Next.Public().String()
	ready := before && o.told
	if ready {
		o.told = false
	}
	o.mu.Unlock()
	if !ready {
		return nil
	}
	s.Private, s.Next, s.made = s.Next, wireguard.Secret{}, e.cfg.Now().UTC()
	if err := errors.Join(d.keepSecret(cipherSecret, s), d.commit(ctx)); err != nil {
		return err
	}
	e.wantTunnels()
	e.cfg.Log.Info("overlay: another key in use", "key", s.Private.Public().String())
	return nil
}
