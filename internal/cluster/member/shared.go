package member

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/model"
)

// What a host may write of overlay networks, by the certificate of its name. All of it
// is on condition that the key is as it was read; several keys may change at once, and
// are judged by what there is then:
//
//	key                      put                                             delete
//	hosts/HOST               its own, under its name, at no other's address  its own
//	                         and by no other's key
//	alive/HOST               its own, with an etcd lease of that host        its own
//	endpoints/ID/HOST/END    its own: addresses that it claims, and a MAC    its own, or of a host
//	                         that is no other's                              that is no more
//	addresses/ID/ADDR        for itself, of the network, where nothing is,   its own, or of a network
//	                         over its own, or over what was of a host or a   or a service that is no
//	                         service that is no more; for a service that     more
//	                         has it
//	services/ID/NAME         with addresses and ports that it claims         yes
//	numbers/N                its own, where nothing is or what was of a      its own, or of a host
//	                         host that is no more; one for each host         that is no more
//	ports/PROTO/PORT         for a service that publishes it, where no       if no service has it
//	                         other has it
//	held/HOST                its own                                         its own
//	networks/ID              with its name and its VNI, over no other's      if no other host has
//	                         subnets; those and the VNI stay while other     endpoints on it, and no
//	                         hosts have endpoints on it                      service is
//	names/NAME, vnis/N       for the network that has it                     if it has it no more
//	order                    yes                                             no
//
// A claim without an endpoint rests: it has an etcd lease of that host, and goes.

// sharedRoot is where, below a domain, the keys of overlay networks are.
const sharedRoot = "/sealane/overlay/"

// SharedPrefix is where overlay networks have their keys, without a slash at its end,
// for the prefix of the fabrics' keys.
func SharedPrefix(fabrics string) string {
	return strings.TrimRight(strings.TrimRight(fabrics, "/")+sharedRoot, "/")
}

// shared is the text of a key of overlay networks.
func (d domain) shared(k overlay.Key) string { return string(d) + sharedRoot + k.String() }

// errMixed is about what would be judged by two rules at once.
var errMixed = errors.New("fabrics and overlay networks change one after the other")

// then is what is under a key once a bid was done; nil: nothing is.
func (b bid) then(s scene, k overlay.Key) []byte {
	key := b.domain.shared(k)
	for _, w := range b.wishes {
		switch {
		case w.key == key && w.put == nil:
			return nil
		case w.key == key:
			return w.put.Value
		}
	}
	if kv := s.keys[key]; kv != nil {
		return kv.Value
	}
	return nil
}

// network is a network once a bid was done.
func (b bid) network(s scene, id model.ID) (n overlay.Network, ok bool) {
	text := b.then(s, overlay.Key{Kind: overlay.KindNetwork, Network: id})
	if text == nil {
		return n, false
	}
	n, err := overlay.ParseNetwork(text)
	return n, err == nil && n.ID == id
}

// aboutShared adds the ranges of keys that what is new is judged by, see about.
func (b bid) aboutShared(w wish, out map[string]string) {
	within := func(keys string) {
		p := string(b.domain) + sharedRoot + keys
		out[p] = clientv3.GetPrefixRangeEnd(p)
	}
	one := func(k overlay.Key) { out[b.domain.shared(k)] = "" }
	k := w.shared
	switch k.Kind {
	case overlay.KindNetwork, overlay.KindName, overlay.KindVNI:
		for _, kind := range []overlay.Kind{overlay.KindNetwork, overlay.KindName, overlay.KindVNI, overlay.KindHost} {
			within(string(kind) + "/")
		}
		if k.Kind == overlay.KindNetwork {
			within("endpoints/" + string(k.Network) + "/")
			within("services/" + string(k.Network) + "/")
		}
	case overlay.KindService:
		for _, k := range w.aboutService() {
			one(k)
		}
	case overlay.KindPort:
		if w.put == nil {
			return
		}
		if c, err := overlay.ParsePortClaim(w.put.Value); err == nil {
			one(c.Key())
		}
	case overlay.KindHost, overlay.KindNumber:
		within("hosts/")
		within("numbers/")
	case overlay.KindAddress:
		within("hosts/")
		within("services/" + string(k.Network) + "/")
		one(overlay.Key{Kind: overlay.KindNetwork, Network: k.Network})
	case overlay.KindEndpoint:
		within("hosts/")
		one(overlay.Key{Kind: overlay.KindNetwork, Network: k.Network})
		e, err := w.endpoint()
		if err != nil {
			return
		}
		for _, a := range e.Addrs {
			one(overlay.Key{Kind: overlay.KindAddress, Network: k.Network, Addr: a})
		}
		if !derived(e) {
			within("endpoints/" + string(k.Network) + "/")
		}
	}
}

// endpoint reads the endpoint that a wish puts.
func (w wish) endpoint() (*overlay.Endpoint, error) {
	if w.put == nil {
		return nil, errors.New("it goes")
	}
	return overlay.ParseEndpoint(w.shared, w.put.Value)
}

// derived says whether an endpoint's MAC is made of an address of its own, which it has
// alone.
func derived(e *overlay.Endpoint) bool {
	return slices.ContainsFunc(e.Addrs, func(a netip.Addr) bool { return model.MACFor(a) == e.MAC })
}

// judgeShared judges one key of overlay networks.
func (b bid) judgeShared(host Record, w wish, s scene) error {
	k := w.shared
	if w.put != nil {
		if err := checkLife(host, w); err != nil {
			return err
		}
	}
	switch k.Kind {
	case overlay.KindHost, overlay.KindAlive:
		return b.judgeHost(host, w, s)
	case overlay.KindEndpoint:
		return b.judgeEndpoint(host, w, s)
	case overlay.KindAddress:
		return b.judgeAddress(host, w, s)
	case overlay.KindNetwork:
		return b.judgeNetwork(host, w, s)
	case overlay.KindName, overlay.KindVNI:
		return b.judgeClaim(w, s)
	case overlay.KindService:
		return b.judgeService(w, s)
	case overlay.KindNumber:
		return b.judgeNumber(host, w, s)
	case overlay.KindPort:
		return b.judgePort(w, s)
	case overlay.KindHeld:
		return judgeHeld(host, w)
	case overlay.KindOrder:
		if w.put == nil || len(w.put.Value) > maxOrder {
			return errors.New("it is put, and short")
		}
		return nil
	}
	return errors.New("it is not a key that a host writes")
}

// maxOrder is the longest value in bytes of keys that say nothing.
const maxOrder = 64

// checkLife says why a value may not end by itself, or has to. A claim that rests ends.
func checkLife(host Record, w wish) error {
	ends := w.shared.Kind == overlay.KindAlive
	if w.shared.Kind == overlay.KindAddress {
		c, err := overlay.ParseClaim(w.put.Value)
		if err != nil {
			return err
		}
		ends = c.Endpoint == "" && c.Service == ""
	}
	switch {
	case ends && !host.owns(w.put.Lease):
		return errors.New("it ends without its host: it has to have a lease of etcd's of this host's")
	case !ends && w.put.Lease != 0:
		return errors.New("it does not end by itself")
	}
	return nil
}

// judgeHost judges what hosts say of themselves.
func (b bid) judgeHost(host Record, w wish, s scene) error {
	switch {
	case w.shared.Host != host.ID:
		return fmt.Errorf("it is that of %s: this host joined as %s", w.shared.Host, host.ID)
	case w.put == nil:
		return nil
	case w.shared.Kind == overlay.KindAlive:
		if len(w.put.Value) > maxOrder {
			return errors.New("it is short")
		}
		return nil
	}
	h, err := overlay.ParseHost(w.put.Value)
	if err != nil {
		return err
	}
	if h.ID != host.ID || h.Name != host.Name {
		return fmt.Errorf("it names another host, %s (%s): this one joined as %s (%s)", h.Name, h.ID, host.Name, host.ID)
	}
	return cmp.Or(b.checkNumber(h, s), b.checkKey(host, h, s), b.checkPublic(host, h, s))
}

// checkKey refuses a host by another's key, or at another's address inside the tunnel of
// encrypted networks: what is for one of them could not be told from what is for the other.
func (b bid) checkKey(host Record, h overlay.Host, s scene) error {
	for _, key := range s.under(string(b.domain) + sharedRoot + "hosts/") {
		o, err := overlay.ParseHost(s.keys[key].Value)
		if err != nil || o.ID == host.ID || h.Key == "" {
			continue
		}
		if o.Key == h.Key || o.Inner == h.Inner {
			return fmt.Errorf("key %s, inner %s: is that of %s", h.Key, h.Inner, o.Name)
		}
	}
	return nil
}

// checkPublic refuses a host at another's address, as checkApart does for fabrics.
func (b bid) checkPublic(host Record, h overlay.Host, s scene) error {
	for _, a := range []netip.Addr{h.Public4, h.Public6} {
		if !a.IsValid() || slices.Contains(host.Addrs, a) {
			continue
		}
		for _, key := range s.under(keyHosts) {
			if o := s.said(key); o.host.Name != host.Name && slices.Contains(o.host.Addrs, a) {
				return fmt.Errorf("address %s is that of %s", a, o.host.Name)
			}
		}
		for _, key := range s.under(string(b.domain) + sharedRoot + "hosts/") {
			o, err := overlay.ParseHost(s.keys[key].Value)
			if err == nil && o.ID != host.ID && (o.Public4 == a || o.Public6 == a) {
				return fmt.Errorf("address %s is that of %s", a, o.Name)
			}
		}
	}
	return nil
}

// lives says whether a host is of the cluster, and has not gone from overlay networks.
func (b bid) lives(s scene, id string) bool {
	return s.keys[b.domain.shared(overlay.Key{Kind: overlay.KindHost, Host: id})] != nil &&
		slices.ContainsFunc(s.under(keyHosts), func(key string) bool { return s.said(key).host.ID == id })
}

// judgeEndpoint judges what hosts say of their containers: others send there.
func (b bid) judgeEndpoint(host Record, w wish, s scene) error {
	k := w.shared
	switch {
	case k.Host != host.ID && (w.put != nil || b.lives(s, k.Host)):
		return fmt.Errorf("it is that of host %s", k.Host)
	case w.put == nil:
		return nil
	}
	e, err := w.endpoint()
	if err != nil {
		return err
	}
	n, ok := b.network(s, k.Network)
	if !ok {
		return errors.New("there is no such network")
	}
	for _, a := range e.Addrs {
		c, err := overlay.ParseClaim(b.then(s, overlay.Key{Kind: overlay.KindAddress, Network: k.Network, Addr: a}))
		if err != nil || c != (overlay.Claim{Host: host.ID, Endpoint: e.ID}) {
			return fmt.Errorf("address %s is not claimed by it", a)
		}
	}
	switch {
	case e.MAC == model.MACForID(model.MACBridge, k.Network):
		return fmt.Errorf("mac %s is the gateway's", e.MAC)
	case derived(e):
		return nil
	case model.MayBeDerived(e.MAC, n.Subnets):
		return fmt.Errorf("mac %s may be that of another address", e.MAC)
	}
	return b.checkMAC(host, e, s)
}

// checkMAC refuses the MAC of another host's endpoint.
func (b bid) checkMAC(host Record, e *overlay.Endpoint, s scene) error {
	for _, key := range s.under(string(b.domain) + sharedRoot + "endpoints/" + string(e.Network) + "/") {
		k, ok := overlay.ParseKey(strings.TrimPrefix(key, string(b.domain)+sharedRoot))
		if !ok || k.Host == host.ID {
			continue
		}
		if o, err := overlay.ParseEndpoint(k, s.keys[key].Value); err == nil && o.MAC == e.MAC {
			return fmt.Errorf("mac %s is that of an endpoint of host %s", e.MAC, k.Host)
		}
	}
	return nil
}

// judgeAddress judges claims.
func (b bid) judgeAddress(host Record, w wish, s scene) error {
	now := s.keys[w.key]
	n, there := b.network(s, w.shared.Network)
	was, err := claimOf(now)
	served := there && b.serves(s, n.ID, was.Service, w.shared.Addr)
	if w.put == nil {
		switch {
		case served:
			return fmt.Errorf("it is that of service %s", was.Service)
		case there && (err != nil || was.Host != host.ID && was.Service == ""):
			return errors.New("it is not claimed by this host")
		}
		return nil
	}
	if err == nil && was.Host != host.ID && b.lives(s, was.Host) {
		return fmt.Errorf("it is claimed by host %s", was.Host)
	}
	c, err := overlay.ParseClaim(w.put.Value)
	if err == nil && served && c != was {
		return fmt.Errorf("it is that of service %s", was.Service)
	}
	subnet, ok := n.Subnet(w.shared.Addr)
	switch {
	case err != nil:
		return err
	case c.Service == "" && c.Host != host.ID:
		return fmt.Errorf("it names another host, %s", c.Host)
	case !there:
		return errors.New("there is no such network")
	case c.Service != "" && !b.serves(s, n.ID, c.Service, w.shared.Addr):
		return fmt.Errorf("service %s does not have it", c.Service)
	case !ok || subnet.Reserved(w.shared.Addr) || w.shared.Addr == subnet.Gateway:
		return errors.New("no container has it")
	}
	return nil
}

func claimOf(kv *mvccpb.KeyValue) (overlay.Claim, error) {
	if kv == nil {
		return overlay.Claim{}, errors.New("nobody has it")
	}
	return overlay.ParseClaim(kv.Value)
}

// judgeNetwork judges networks: any host makes, changes and removes them.
func (b bid) judgeNetwork(host Record, w wish, s scene) error {
	id := w.shared.Network
	if w.put == nil {
		if other := b.others(host, id, s); other != "" {
			return fmt.Errorf("host %s has endpoints on it", other)
		}
		if err := b.checkServed(nil, id, s); err != nil {
			return err
		}
		for _, key := range append(s.under(string(b.domain)+sharedRoot+"names/"), s.under(string(b.domain)+sharedRoot+"vnis/")...) {
			k, ok := overlay.ParseKey(strings.TrimPrefix(key, string(b.domain)+sharedRoot))
			if ok && string(b.then(s, k)) == string(id) {
				return fmt.Errorf("%s stays its own", k)
			}
		}
		return nil
	}
	n, err := overlay.ParseNetwork(w.put.Value)
	if err != nil {
		return err
	}
	if n.ID != id {
		return fmt.Errorf("it is another's, %s", n.ID)
	}
	for _, k := range []overlay.Key{{Kind: overlay.KindName, Name: n.Name}, {Kind: overlay.KindVNI, VNI: n.VNI}} {
		if string(b.then(s, k)) != string(id) {
			return fmt.Errorf("%s is not its own", k)
		}
	}
	if err := b.checkMoved(host, n, s); err != nil {
		return err
	}
	if err := b.checkServed(&n, id, s); err != nil {
		return err
	}
	return b.checkSubnets(n, s)
}

// others names another host that has endpoints on a network, or "".
func (b bid) others(host Record, id model.ID, s scene) string {
	for _, key := range s.under(string(b.domain) + sharedRoot + "endpoints/" + string(id) + "/") {
		k, ok := overlay.ParseKey(strings.TrimPrefix(key, string(b.domain)+sharedRoot))
		if ok && k.Host != host.ID && b.lives(s, k.Host) {
			return k.Host
		}
	}
	return ""
}

// checkMoved refuses to move a network away from under others' containers.
func (b bid) checkMoved(host Record, n overlay.Network, s scene) error {
	kv := s.keys[b.domain.shared(overlay.Key{Kind: overlay.KindNetwork, Network: n.ID})]
	if kv == nil {
		return nil
	}
	was, err := overlay.ParseNetwork(kv.Value)
	if encrypted(was) && !encrypted(n) && err == nil {
		return errors.New("it stays encrypted")
	}
	same := err == nil && was.VNI == n.VNI && slices.EqualFunc(was.Subnets, n.Subnets, func(x, y model.Subnet) bool {
		return x.Prefix == y.Prefix && x.Gateway == y.Gateway
	})
	if other := b.others(host, n.ID, s); !same && other != "" {
		return fmt.Errorf("host %s has endpoints on it: its subnets and its VNI stay", other)
	}
	return nil
}

// encrypted says whether a network's packets between hosts are.
func encrypted(n overlay.Network) bool {
	o, err := model.ParseOptions(model.DriverOverlay, n.Options)
	return err == nil && o.Encrypted
}

// checkSubnets refuses a network over another's addresses.
func (b bid) checkSubnets(n overlay.Network, s scene) error {
	for _, o := range b.networks(s) {
		if o.ID == n.ID {
			continue
		}
		for _, p := range o.Subnets {
			for _, q := range n.Subnets {
				if p.Prefix.Overlaps(q.Prefix) {
					return fmt.Errorf("its subnet %s overlaps %s, of network %s", q.Prefix, p.Prefix, o.Name)
				}
			}
		}
	}
	return nil
}

// networks are those that there are once a bid was done, and can be read.
func (b bid) networks(s scene) []overlay.Network {
	keys := s.under(string(b.domain) + sharedRoot + "networks/")
	for _, w := range b.wishes {
		if w.shared.Kind == overlay.KindNetwork && s.keys[w.key] == nil {
			keys = append(keys, w.key)
		}
	}
	var out []overlay.Network
	for _, key := range keys {
		k, _ := overlay.ParseKey(strings.TrimPrefix(key, string(b.domain)+sharedRoot))
		if n, ok := b.network(s, k.Network); ok {
			out = append(out, n)
		}
	}
	return out
}

// judgeClaim judges whose a name or a VNI is.
func (b bid) judgeClaim(w wish, s scene) error {
	has := func(id string) bool {
		n, ok := b.network(s, model.ID(id))
		return ok && (w.shared.Kind == overlay.KindName && n.Name == w.shared.Name || w.shared.Kind == overlay.KindVNI && n.VNI == w.shared.VNI)
	}
	if w.put != nil {
		if !has(string(w.put.Value)) {
			return errors.New("the network that it names does not have it")
		}
		return nil
	}
	if now := s.keys[w.key]; now != nil && has(string(now.Value)) {
		return fmt.Errorf("network %s has it", now.Value)
	}
	return nil
}
