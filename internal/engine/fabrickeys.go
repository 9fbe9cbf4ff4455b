package engine

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"time"

	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/driver/fabric"
	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/wireguard"
)

// WireGuard keeps the devices of backend wireguard. *wireguard.Keeper is one. It is
// told when Tunnels is.
type WireGuard interface {
	Want([]wireguard.Want)
	Trouble(device string) error
}

// What a host knows of an encrypted fabric and tells nobody is in the store's meta, apart
// from the network: that one is shown, compared and logged.
//
// A private key is used for model.KeyLife. The next one is announced in the lease before
// it is used; hosts that have heard of it take both meanwhile (see wireguard.plan):
//
//	due ── next made ── lease put ── a second ── next used, the old one forgotten
type secret struct {
	Private, Next wireguard.Secret // Next is zero, or about to be used
	Shared        wireguard.Secret // of the config
	made          time.Time        // when Private came into use
}

// secretText is it as it is stored.
type secretText struct {
	Private, Next, Shared []byte
	Made                  time.Time
}

const metaSecret = "wireguard " // and the fabric's key

// secretOf reads what is known of a fabric, or false. The caller holds work.
func (e *Engine) secretOf(key string) (s secret, ok bool) {
	var t secretText
	text := e.meta[metaSecret+key]
	if text == "" || json.Unmarshal([]byte(text), &t) != nil || len(t.Private) != len(s.Private) {
		return s, false
	}
	copy(s.Private[:], t.Private)
	copy(s.Next[:], t.Next)
	copy(s.Shared[:], t.Shared)
	s.made = t.Made
	return s, true
}

// keepSecret stores it with the draft.
func (d *draft) keepSecret(key string, s secret) error {
	text, err := json.Marshal(secretText{s.Private[:], s.Next[:], s.Shared[:], s.made})
	d.meta[metaSecret+key] = string(text)
	return err
}

// forgetSecret has it overwritten with the draft.
func (d *draft) forgetSecret(n *model.Network) {
	if name := metaSecret + n.Fabric.Key; d.e.meta[name] != "" {
		d.meta[name] = ""
	}
}

// ensureSecret returns what is known of a fabric, with a new private key if there was
// none. The caller holds work.
func (e *Engine) ensureSecret(ctx context.Context, key string) (secret, error) {
	s, ok := e.secretOf(key)
	if ok {
		return s, nil
	}
	s = secret{Private: wireguard.NewSecret(), made: e.cfg.Now().UTC()}
	d := e.draft("fabric "+key, "make a key")
	if err := d.keepSecret(key, s); err != nil {
		return s, err
	}
	return s, d.commit(ctx)
}

// describeKey adds to a lease what peers of backend wireguard need of this host, in
// flanneld's words: of mode separate the device for IPv6 has a port of its own. (Of the
// others too flanneld says ListenPortV6 for IPv6, where it does not listen; we say the
// port at which we do.) The caller holds work.
func (e *Engine) describeKey(key string, c flannel.Config, w flannel.WireGuard, v *flannel.Value) error {
	s, err := e.ensureSecret(e.ctx, key)
	if err != nil {
		return err
	}
	told := s.Private
	if s.Next != (wireguard.Secret{}) {
		told = s.Next
	}
	b := backendOfWireGuard(w)
	for _, half := range []struct {
		is6, on bool
		to      *json.RawMessage
	}{{false, c.EnableIPv4, &v.BackendData}, {true, c.EnableIPv6, &v.BackendV6Data}} {
		if !half.on {
			continue
		}
		if *half.to, err = (flannel.WireGuardData{PublicKey: told.Public().String(), Port: b.UDPPort(half.is6)}).Marshal(); err != nil {
			return err
		}
	}
	return nil
}

// backendOfWireGuard is a config's backend in our words, without what is secret.
func backendOfWireGuard(w flannel.WireGuard) model.Backend {
	return model.Backend{Type: model.BackendWireGuard, Port: w.ListenPort, Port6: w.ListenPortV6, MTU: w.MTU,
		Mode: model.WireGuardMode(w.Mode), Keepalive: w.PersistentKeepaliveInterval}
}

// askedWireGuard is what was asked for in Flannel's words. The port for IPv6 is the one
// after that for IPv4, as Flannel's are.
func askedWireGuard(b model.Backend) (flannel.Backend, error) {
	const usual, last = 51820, 65535
	port := cmp.Or(b.Port, usual)
	if port == last {
		return nil, fmt.Errorf("backend wireguard: option port: %d at most: the one after it is for IPv6", last-1)
	}
	return flannel.WireGuard{ListenPort: port, ListenPortV6: port + 1, Mode: string(cmp.Or(b.Mode, model.WireGuardSeparate)), PersistentKeepaliveInterval: b.Keepalive}, nil
}

// spares reports whether a host of a fabric can do without an address of a family: its
// packets go to others between addresses of the other one.
func spares(b flannel.Backend, is6 bool) bool {
	w, ok := b.(flannel.WireGuard)
	return ok && (w.Mode == string(model.WireGuardAuto) || w.Mode == string(model.WireGuardIPv4) && is6 || w.Mode == string(model.WireGuardIPv6) && !is6)
}

// keysOf takes from another host's lease where it listens, and by which key it is known.
// With one tunnel for both families it is the key for IPv6 that counts, and flannelds
// listen at the config's port, whatever they say.
func keysOf(p *model.Peer, l flannel.Lease, f *model.Fabric) {
	b := &f.Backend
	if d, err := flannel.ParseWireGuard(l.Value.BackendData); err == nil {
		p.Key4, p.Port4 = d.PublicKey, d.Port
	}
	if d, err := flannel.ParseWireGuard(l.Value.BackendV6Data); err == nil {
		p.Key6, p.Port6 = d.PublicKey, d.Port
	}
	if b.Separate() {
		return
	}
	p.Key4 = cmp.Or(p.Key6, p.Key4)
	p.Key6 = p.Key4
	p.Port4 = cmp.Or(p.Port4, p.Port6)
	if l.Value.Node == nil {
		p.Port4 = b.Port
	}
	p.Port6 = p.Port4
}

// encrypt adds to a fabric what its devices need, and keeps the secret of its config.
func (d *draft) encrypt(ctx context.Context, key string, c flannel.Config, f *model.Fabric) error {
	w, ok := c.Backend.(flannel.WireGuard)
	if !ok {
		return nil
	}
	s, err := d.e.ensureSecret(ctx, key)
	if err != nil {
		return err
	}
	shared, err := base64.StdEncoding.DecodeString(w.PSK)
	if err != nil || len(shared) != 0 && len(shared) != len(s.Shared) {
		return errors.New("PSK: 32 bytes in base64 belong there") // which it was read for
	}
	was := s.Shared
	s.Shared = wireguard.Secret{}
	if copy(s.Shared[:], shared); s.Shared != was {
		err = d.keepSecret(key, s)
	}
	f.PublicKey, f.Served = s.Private.Public().String(), d.e.serves()
	distinctKeys(f)
	return err
}

// serves reports whether this process has to be the other end of such devices.
func (e *Engine) serves() bool {
	return e.cfg.Feature != nil && errors.Is(e.cfg.Feature(feature.WireGuard), kernel.ErrUnsupported)
}

// distinctKeys takes a key from hosts that have another's, or this one's: to the device
// both would be one.
func distinctKeys(f *model.Fabric) {
	whose := map[bool]map[string]int{false: {f.PublicKey: -1}, true: {f.PublicKey: -1}}
	for i := range f.Peers {
		p := &f.Peers[i]
		for is6, key := range map[bool]*string{false: &p.Key4, true: &p.Key6} {
			seen := whose[is6]
			if at, taken := seen[*key]; taken && at != i {
				*key = ""
			} else {
				seen[*key] = i
			}
		}
	}
}

// wantEncrypted says how devices of backend wireguard are to be. The caller holds work.
func (e *Engine) wantEncrypted() {
	if e.cfg.WireGuard == nil {
		return
	}
	var list []wireguard.Want
	for _, n := range e.intent.Networks {
		if n.Fabric == nil || n.Fabric.Backend.Type != model.BackendWireGuard {
			continue
		}
		if s, ok := e.secretOf(n.Fabric.Key); ok {
			list = append(list, encrypted(n, s)...)
		}
	}
	e.cfg.WireGuard.Want(append(list, e.wantCipher()...))
}

// encrypted is a network's devices as they are to be, one or two.
func encrypted(n *model.Network, s secret) []wireguard.Want {
	f := n.Fabric
	var out []wireguard.Want
	for _, is6 := range []bool{false, true} {
		_, ok := n.Subnet(is6)
		if !ok || n.Tunnel(is6) == "" {
			continue
		}
		if len(out) == 0 || out[0].Device != n.Tunnel(is6) {
			out = append(out, wireguard.Want{Device: n.Tunnel(is6), Served: f.Served, Port: uint16(f.Backend.UDPPort(is6)),
				Private: s.Private, Shared: s.Shared, Keepalive: time.Duration(f.Backend.Keepalive) * time.Second})
		}
		w := &out[len(out)-1]
		for i := range f.Peers {
			w.Peers = addPeer(w.Peers, f, &f.Peers[i], is6)
		}
	}
	return out
}

// addPeer adds what is a peer's of a family.
func addPeer(list []wireguard.Peer, f *model.Fabric, p *model.Peer, is6 bool) []wireguard.Peer {
	sub, has := p.Subnet(is6)
	if !has || fabric.Unreached(f, p, is6) != "" {
		return list
	}
	key, err := wireguard.ParsePublic(p.Key(is6))
	if err != nil {
		return list // which the lease was read for
	}
	for i := range list {
		if list[i].Key == key {
			list[i].Allowed = append(list[i].Allowed, sub)
			return list
		}
	}
	return append(list, wireguard.Peer{Key: key, Endpoint: fabric.Endpoint(f, p, is6), Allowed: []netip.Prefix{sub}})
}

// Of a key that is to be another's place.
const (
	keyCheck = 5 * time.Second // how often it is seen whether one is due
	keyGrace = time.Second     // for others to hear of the next one before it is used
)

// tendKey has this host use another private key when the one it has was used for long
// enough.
func (e *Engine) tendKey(l *lease) {
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-time.After(keyCheck):
		}
		next, err := e.keyDue(l)
		if err == nil && next != (wireguard.Public{}) {
			err = e.turnKey(l, next)
		}
		if err != nil && l.ctx.Err() == nil {
			e.cfg.Log.Error("fabric: another key", "key", l.key, "err", err, "again", keyCheck)
		}
	}
}

// keyDue makes the next key if it is time, and returns its public one; zero: there is
// none.
func (e *Engine) keyDue(l *lease) (next wireguard.Public, err error) {
	e.work.Lock()
	defer e.work.Unlock()
	n := e.fabricNetwork(l.key)
	if n == nil || n.Fabric.Backend.Type != model.BackendWireGuard {
		return next, nil
	}
	s, ok := e.secretOf(l.key)
	life := cmp.Or(n.Options.Backend.KeyLife, model.KeyLife)
	if life > 0 {
		life -= stagger(s.Private.Public(), life/8)
	}
	switch {
	case !ok:
		return next, nil
	case s.Next != (wireguard.Secret{}): // from before a restart
		return s.Next.Public(), nil
	case life == model.KeyForever || e.cfg.Now().Sub(s.made) < life:
		return next, nil
	}
	s.Next = wireguard.NewSecret()
	d := e.draft(n.Ref(), "make another key")
	if err := d.keepSecret(l.key, s); err != nil {
		return next, err
	}
	return s.Next.Public(), d.commit(l.ctx)
}

// stagger is a time below most that hosts that came at the same time have different
// ones of.
func stagger(key wireguard.Public, most time.Duration) time.Duration {
	return time.Duration(binary.NativeEndian.Uint64(key[:]) % uint64(most))
}

// turnKey announces the next key, and uses it when the others have heard of it.
func (e *Engine) turnKey(l *lease, next wireguard.Public) error {
	l.leaser.Refresh()
	if err := e.announced(l, next.String()); err != nil {
		return err
	}
	select {
	case <-l.ctx.Done():
		return l.ctx.Err()
	case <-time.After(keyGrace):
	}
	e.work.Lock()
	defer e.work.Unlock()
	n, d := e.fabricNetwork(l.key), e.draft("fabric "+l.key, "use another key")
	s, ok := e.secretOf(l.key)
	if n == nil || !ok || s.Next.Public() != next {
		return nil // it was left, or all is another's
	}
	s.Private, s.Next, s.made = s.Next, wireguard.Secret{}, e.cfg.Now().UTC()
	if err := d.keepSecret(l.key, s); err != nil {
		return err
	}
	changed, f := *n, *n.Fabric
	f.PublicKey = next.String()
	changed.Fabric, d.networks[n.ID] = &f, &changed
	if err := d.commit(l.ctx); err != nil {
		return err
	}
	e.cfg.Log.Info("fabric: another key in use", "network", n.Name, "key", f.PublicKey)
	return nil
}

// announced waits until the store has this host's lease with a public key. What the
// leaser reports may still be on its way there.
func (e *Engine) announced(l *lease, public string) error {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, keyCheck) {
		select {
		case <-l.ctx.Done():
			return l.ctx.Err()
		case <-time.After(pause):
		}
		ctx, cancel := context.WithTimeout(l.ctx, keyCheck)
		s, err := e.cfg.Cluster.Store.List(ctx, path.Join(l.key, "subnets")+"/")
		cancel()
		if err != nil {
			continue // etcd is away: that is said elsewhere
		}
		for _, entry := range s.Entries {
			v, err := flannel.ParseValue(entry.Value)
			if err != nil || v.Node == nil || v.Node.ID != e.cfg.Cluster.Node.ID {
				continue
			}
			for _, half := range []json.RawMessage{v.BackendData, v.BackendV6Data} {
				if d, err := flannel.ParseWireGuard(half); err == nil && d.PublicKey == public {
					return nil
				}
			}
		}
	}
}
