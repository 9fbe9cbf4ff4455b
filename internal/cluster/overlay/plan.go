package overlay

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/model"
)

// maxBatch is how many conditions, and how many changes, go in one transaction.
const maxBatch = 64

// unit is done whole or not at all.
type unit struct {
	ifs    map[Key]int64
	puts   map[Key]value
	delete []Key
}

// value is what is put.
type value struct {
	text []byte
	ttl  time.Duration
}

func newUnit() unit { return unit{ifs: map[Key]int64{}, puts: map[Key]value{}} }

// put has a key put that was last put at a revision.
func (u unit) put(k Key, rev int64, text []byte, ttl time.Duration) {
	u.ifs[k], u.puts[k] = rev, value{text, ttl}
}

// gone has a key deleted that was last put at a revision.
func gone(k Key, rev int64) unit { return unit{ifs: map[Key]int64{k: rev}, delete: []Key{k}} }

func (u unit) size() int { return max(len(u.ifs), len(u.puts)+len(u.delete)) }

// batches puts units together for transactions.
func batches(units []unit) [][]unit {
	var out [][]unit
	size := 0
	for _, u := range units {
		if n := u.size(); len(out) == 0 || size+n > maxBatch {
			out, size = append(out, nil), n
		} else {
			size += n
		}
		out[len(out)-1] = append(out[len(out)-1], u)
	}
	return out
}

// txn is units as one transaction.
func txn(prefix string, units ...unit) cluster.Txn {
	all := newUnit()
	for _, u := range units {
		maps.Copy(all.ifs, u.ifs)
		maps.Copy(all.puts, u.puts)
		all.delete = append(all.delete, u.delete...)
	}
	var t cluster.Txn
	for k, rev := range all.ifs {
		t.If = append(t.If, cluster.If{Key: prefix + k.String(), Rev: rev})
	}
	for k, v := range all.puts {
		t.Put = append(t.Put, cluster.Put{Key: prefix + k.String(), Value: v.text, TTL: v.ttl})
	}
	for _, k := range all.delete {
		t.Delete = append(t.Delete, prefix+k.String())
	}
	return t
}

// plan is what has to be done so that what is there is as it is meant to be.
type plan struct {
	o       Options
	real    stock
	units   []unit
	trouble []string
	rest    time.Duration // until there may be more to do
	missing map[model.ID]int
}

func newPlan(o Options, r stock) *plan {
	return &plan{o: o, real: r, rest: late, missing: map[model.ID]int{}}
}

func (p *plan) complain(format string, args ...any) {
	p.trouble = append(p.trouble, fmt.Sprintf(format, args...))
}

// self keeps what this host is.
func (p *plan) self(host []byte) {
	k := Key{Kind: KindHost, Host: p.o.ID}
	if i := p.real.items[k]; host != nil && (i == nil || !i.entry.Lasting || !bytes.Equal(i.entry.Value, host)) {
		u := newUnit()
		u.put(k, p.real.rev(k), host, 0)
		p.units = append(p.units, u)
	}
}

// alive keeps that this host is alive, which was put last at a time, and says whether it
// has to be put.
func (p *plan) alive(words []byte, now, put time.Time) (due bool) {
	k := Key{Kind: KindAlive, Host: p.o.ID}
	every := p.o.TTL / 3
	left := every - now.Sub(put)
	i := p.real.items[k]
	if due = i == nil || i.entry.Lasting || left <= 0; due {
		u := newUnit()
		u.put(k, p.real.rev(k), words, p.o.TTL)
		p.units = append(p.units, u)
		left = every
	}
	p.rest = min(p.rest, left)
	return due
}

// endpoint keeps an endpoint and its claims, but for addresses that others have.
func (p *plan) endpoint(w *want, owners map[Key]Key) {
	network := p.real.items[Key{Kind: KindNetwork, Network: w.Network}]
	if network == nil {
		p.missing[w.Network]++
		return
	}
	u, key := newUnit(), w.Key()
	var have []netip.Addr
	for _, a := range w.Addrs {
		at := Key{Kind: KindAddress, Network: w.Network, Addr: a}
		if first := owners[at]; first != key {
			p.complain("%s: %s and %s of this host have it", at, first.Endpoint, w.ID)
		} else if p.claim(u, at, w) {
			have = append(have, a)
		}
	}
	text, err := w.record(have)
	if err != nil {
		p.complain("%s: %v", key, err)
		return
	}
	if i := p.real.items[key]; i == nil || !i.entry.Lasting || !bytes.Equal(i.entry.Value, text) {
		u.put(key, p.real.rev(key), text, 0)
	}
	if len(u.puts) > 0 {
		u.on(network)
		p.units = append(p.units, u)
	}
}

// record is a record with some of an endpoint's addresses.
func (w *want) record(have []netip.Addr) ([]byte, error) {
	all := len(have) == len(w.Addrs)
	if all && w.text != nil {
		return w.text, nil
	}
	e := w.Endpoint
	e.Addrs = have
	if err := e.Validate(); err != nil {
		return nil, err
	}
	text, err := e.Marshal()
	if all {
		w.text = text
	}
	return text, err
}

// on has a unit happen only while a network is there. If it was about to be removed,
// it is not any more.
func (u unit) on(network *item) {
	u.ifs[network.key] = network.entry.Rev
	if n := network.net; network.err == nil && n.leaving {
		n.leaving = false
		if text, err := n.Marshal(); err == nil {
			u.put(network.key, network.entry.Rev, text, 0)
		}
	}
}

// claim keeps an address, unless another host has it.
func (p *plan) claim(u unit, at Key, w *want) bool {
	c := Claim{Host: w.Host, Endpoint: w.ID}
	i := p.real.items[at]
	switch {
	case i == nil:
	case i.err != nil: // no host reads it
	case i.claim == c && i.entry.Lasting:
		u.ifs[at] = i.entry.Rev
		return true
	case i.claim.Host == c.Host:
	default:
		other := i.claim.holder(at.Network)
		if p.real.items[other] != nil {
			p.complain("%s: %s of this host has it too; it is claimed by %s", at, w.title(), p.real.who(i))
			return false
		}
		u.ifs[other] = 0
	}
	text, err := c.Marshal()
	if err != nil {
		return false
	}
	u.put(at, p.real.rev(at), text, 0)
	return true
}

// who names the holder of a claim.
func (r stock) who(i *item) string {
	return whose(i.claim, r.items[Key{Kind: KindHost, Host: i.claim.Host}], r.items[Key{Kind: KindEndpoint, Network: i.key.Network, Host: i.claim.Host, Endpoint: i.claim.Endpoint}])
}

// whose names the holder of a claim, by its host and its endpoint as far as they are
// there.
func whose(c Claim, host, endpoint *item) string {
	if c.Service != "" {
		return "service " + c.Service
	}
	name, at := string(c.Endpoint), c.Host
	if endpoint != nil {
		if e, err := ParseEndpoint(endpoint.key, endpoint.entry.Value); err == nil {
			name = e.title()
		}
	}
	if host != nil {
		if h, err := ParseHost(host.entry.Value); err == nil && h.Name != "" {
			at = h.Name
		}
	}
	if c.Endpoint == "" {
		return fmt.Sprintf("host %s, which had it until lately: free within a minute", at)
	}
	return fmt.Sprintf("%s of host %s", name, at)
}

// rid removes what is this host's but not meant to be.
func (p *plan) rid(all map[Key]*want, owners map[Key]Key, made map[Key]*pending, unused map[Key]bool) {
	var left []*item
	for k, i := range p.real.mine {
		endpoint := Key{Kind: KindEndpoint, Network: k.Network, Host: p.o.ID, Endpoint: i.claim.Endpoint}
		_, owned := owners[k]
		making := made[endpoint] != nil && made[endpoint].want == nil
		if k.Kind == KindEndpoint && all[k] == nil && made[k] == nil || k.Kind == KindAddress && !owned && !making {
			left = append(left, i)
		}
	}
	slices.SortFunc(left, func(a, b *item) int { return byKey(a.key, b.key) })
	for _, i := range left {
		endpoint := Key{Kind: KindEndpoint, Network: i.key.Network, Host: p.o.ID, Endpoint: i.claim.Endpoint}
		network := p.real.items[Key{Kind: KindNetwork, Network: i.key.Network}]
		switch {
		case i.key.Kind == KindEndpoint, unused[endpoint], network == nil:
			p.units = append(p.units, gone(i.key, i.entry.Rev))
		case i.claim.Endpoint != "" || i.entry.Lasting:
			p.settle(i.key, i.entry.Rev)
		}
	}
}

// settle lets an address rest.
func (p *plan) settle(at Key, rev int64) {
	text, err := Claim{Host: p.o.ID}.Marshal()
	if err != nil {
		return
	}
	u := newUnit()
	u.put(at, rev, text, p.o.Rest)
	p.units = append(p.units, u)
}

// absent tells of networks that are gone.
func (p *plan) absent() {
	for id, n := range p.missing {
		p.complain("%s: is not there any more: what %d endpoints of this host have is not kept", Key{Kind: KindNetwork, Network: id}, n)
	}
}

// claimed says whether an endpoint has an address.
func (p *plan) claimed(endpoint Key) bool {
	for _, i := range p.real.claims[endpoint.Network] {
		if i.err == nil && i.claim == (Claim{Host: endpoint.Host, Endpoint: endpoint.Endpoint}) {
			return true
		}
	}
	return false
}

// byKey orders keys by their text.
func byKey(a, b Key) int { return bytes.Compare([]byte(a.String()), []byte(b.String())) }
