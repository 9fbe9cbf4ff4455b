package member

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/model"
)

// domain is where a cluster's fabrics have their keys: a prefix without a slash at its end.
type domain string

// besideRoot is where, below a domain, there are fabrics each under a prefix of its own.
const besideRoot = "/sealane/networks/"

// readable says whether a host may read a key, or a range of etcd's.
func (d domain) readable(key, end []byte) bool {
	for _, p := range []string{string(d) + "/", root + "/"} {
		if strings.HasPrefix(string(key), p) {
			return len(end) == 0 || string(end) != "\x00" && string(end) <= clientv3.GetPrefixRangeEnd(p)
		}
	}
	return false
}

// maxValue is the longest value of a host's in bytes: a lease has a few hundred.
const maxValue = 32 << 10

// place is what a key is to a fabric, or to overlay networks.
type place struct {
	fabric string      // the prefix of its keys
	subnet string      // a lease's name; "": it is the config
	shared overlay.Key // with a kind: of overlay networks, and of no fabric
}

// place reads a key that hosts may write.
func (d domain) place(key string) (p place, ok bool) {
	if rest, is := strings.CutPrefix(key, string(d)+sharedRoot); is {
		p.shared, ok = overlay.ParseKey(rest)
		return p, ok
	}
	rest, ok := strings.CutPrefix(key, string(d)+"/")
	if p.fabric = string(d); !ok {
		return p, false
	}
	if beside, ok := strings.CutPrefix(key, string(d)+besideRoot); ok {
		name := ""
		if name, rest, _ = strings.Cut(beside, "/"); model.CheckName(name) != nil {
			return p, false
		}
		p.fabric += besideRoot + name
	}
	if rest == "config" {
		return p, true
	}
	p.subnet, ok = strings.CutPrefix(rest, "subnets/")
	return p, ok && p.subnet != "" && !strings.Contains(p.subnet, "/")
}

// isShared says whether a key is of overlay networks.
func (p place) isShared() bool { return p.shared.Kind != "" }

// config and subnets are keys of a fabric.
func (p place) config() string  { return p.fabric + "/config" }
func (p place) subnets() string { return p.fabric + "/subnets/" }

// wish is a key that a host wants to change.
type wish struct {
	place
	key string
	put *pb.PutRequest // nil: it is to go
}

// bid is a transaction of a host's: what it wants, if keys were last put when it says.
type bid struct {
	domain domain
	pins   map[string]int64 // revisions; 0: the key is not there
	wishes []wish
	do     []*pb.RequestOp
}

// errShape is why most transactions are refused that no daemon of ours makes.
var errShape = errors.New("a host changes a key only on condition that it is as it was read, and has no other plan")

// errPuts is about two that would be judged as if the other was not.
var errPuts = errors.New("a host puts one key at a time")

// bid reads a transaction.
func (d domain) bid(t *pb.TxnRequest) (b bid, err error) {
	b = bid{domain: d, pins: map[string]int64{}, do: t.Success}
	if len(t.Failure) > 0 {
		return b, errShape
	}
	for _, c := range t.Compare {
		rev, ok := pinOf(c)
		if !ok || !d.readable(c.Key, nil) {
			return b, errShape
		}
		if was, twice := b.pins[string(c.Key)]; twice && was != rev {
			return b, errShape
		}
		b.pins[string(c.Key)] = rev
	}
	for _, op := range t.Success {
		if err := b.add(d, op); err != nil {
			return b, err
		}
	}
	return b, nil
}

// pinOf reads a condition: at which revision a key was put.
func pinOf(c *pb.Compare) (rev int64, ok bool) {
	if c == nil || c.Result != pb.Compare_EQUAL || len(c.RangeEnd) > 0 {
		return 0, false
	}
	switch u := c.TargetUnion.(type) {
	case *pb.Compare_ModRevision:
		return u.ModRevision, c.Target == pb.Compare_MOD && u.ModRevision >= 0
	case *pb.Compare_CreateRevision:
		return 0, c.Target == pb.Compare_CREATE && u.CreateRevision == 0
	case *pb.Compare_Version:
		return 0, c.Target == pb.Compare_VERSION && u.Version == 0
	}
	return 0, false
}

// add takes one operation.
func (b *bid) add(d domain, op *pb.RequestOp) error {
	w := wish{}
	switch {
	case op.GetRequestRange() != nil:
		if r := op.GetRequestRange(); !d.readable(r.Key, r.RangeEnd) {
			return fmt.Errorf("%q: %w", r.Key, errRead)
		}
		return nil
	case op.GetRequestPut() != nil:
		w.put = op.GetRequestPut()
		if w.key = string(w.put.Key); w.put.IgnoreLease || w.put.IgnoreValue {
			return errShape
		}
		if len(w.put.Value) > maxValue {
			return fmt.Errorf("%q: %d bytes: up to %d fit", w.key, len(w.put.Value), maxValue)
		}
	case op.GetRequestDeleteRange() != nil:
		r := op.GetRequestDeleteRange()
		if w.key = string(r.Key); len(r.RangeEnd) > 0 {
			return errShape
		}
	default:
		return errShape
	}
	var ok bool
	if w.place, ok = d.place(w.key); !ok {
		return fmt.Errorf("%q: is not a key that a host writes", w.key)
	}
	if _, pinned := b.pins[w.key]; !pinned {
		return fmt.Errorf("%s: %w", w.key, errShape)
	}
	if len(b.wishes) > 0 && b.wishes[0].isShared() != w.isShared() {
		return fmt.Errorf("%s: %w", w.key, errMixed)
	}
	if !w.isShared() && w.put != nil && slices.ContainsFunc(b.wishes, func(o wish) bool { return o.put != nil }) {
		return fmt.Errorf("%s: %w", w.key, errPuts)
	}
	b.wishes = append(b.wishes, w)
	return nil
}

var errRead = errors.New("hosts read the cluster's own keys only")

// scene is what there is at one revision, as far as a bid is about it.
type scene struct {
	rev  int64
	keys map[string]*mvccpb.KeyValue // what is not there is not in it
	memo memo                        // may be nil
}

// memo is what values say that were read before, by key: to read those of thousands of
// hosts for each takes long.
type memo map[string]*said

// said is what a value says: of a lease, of a fabric, or of a host.
type said struct {
	rev     int64
	lease   flannel.Value
	devices []string
	config  flannel.Config
	host    Record
	err     error
}

// maxMemo is how many are kept, at most.
const maxMemo = 100_000

// said reads what is under a key; nil: nothing is.
func (s scene) said(key string) *said {
	kv := s.keys[key]
	if kv == nil {
		return nil
	}
	if x := s.memo[key]; x != nil && x.rev == kv.ModRevision {
		return x
	}
	x := &said{rev: kv.ModRevision}
	switch {
	case strings.HasPrefix(key, keyHosts):
		x.err = json.Unmarshal(kv.Value, &x.host)
	case strings.HasSuffix(key, "/config"):
		x.config, x.err = flannel.ParseConfig(kv.Value)
	default:
		if x.lease, x.err = flannel.ParseValue(kv.Value); x.err == nil {
			x.devices = x.lease.Devices()
		}
	}
	if s.memo != nil {
		if len(s.memo) >= maxMemo {
			clear(s.memo)
		}
		s.memo[key] = x
	}
	return x
}

// revOf is when a key was last put; 0: it is not there.
func (s scene) revOf(key string) int64 {
	if kv := s.keys[key]; kv != nil {
		return kv.ModRevision
	}
	return 0
}

// under returns the keys with a prefix, in order.
func (s scene) under(prefix string) []string {
	var out []string
	for k := range maps.Keys(s.keys) {
		if strings.HasPrefix(k, prefix) {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

// holds says whether a bid's conditions do.
func (b bid) holds(s scene) bool {
	for k, rev := range b.pins {
		if s.revOf(k) != rev {
			return false
		}
	}
	return true
}

// drops says whether a key goes.
func (b bid) drops(key string) bool {
	return slices.ContainsFunc(b.wishes, func(w wish) bool { return w.put == nil && w.key == key })
}

// renews says whether a bid does no more than to put again what is there, or to delete
// of fabrics; of overlay networks, only what says that a host is alive.
func (b bid) renews(s scene) bool {
	return !slices.ContainsFunc(b.wishes, func(w wish) bool {
		kv := s.keys[w.key]
		return w.isShared() && w.shared.Kind != overlay.KindAlive || w.put != nil && (kv == nil || string(kv.Value) != string(w.put.Value))
	})
}

// asks is what a bid of a host's is about, as a transaction that reads it: the host and
// the keys; if all is asked for, so are all hosts, and the fabrics that it puts leases in,
// and all fabrics if it puts a config.
func (b bid) asks(host string, all bool) *pb.TxnRequest {
	ranges := map[string]string{keyHosts + host: ""}
	for k := range b.pins {
		ranges[k] = ""
	}
	if all {
		maps.Copy(ranges, b.about())
	}
	t := &pb.TxnRequest{}
	for _, k := range slices.Sorted(maps.Keys(ranges)) {
		r := &pb.RangeRequest{Key: []byte(k), RangeEnd: []byte(ranges[k])}
		t.Success = append(t.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}})
	}
	return t
}

// about is the ranges of keys that what is new is judged by, by their begin: "" is one key.
func (b bid) about() map[string]string {
	out := map[string]string{keyHosts: clientv3.GetPrefixRangeEnd(keyHosts)}
	for _, w := range b.wishes {
		switch beside := string(b.domain) + besideRoot; {
		case w.isShared():
			b.aboutShared(w, out)
		case w.put == nil:
		case w.subnet == "":
			out[string(b.domain)+"/config"] = ""
			out[beside] = clientv3.GetPrefixRangeEnd(beside)
		default:
			out[w.config()] = ""
			out[w.subnets()] = clientv3.GetPrefixRangeEnd(w.subnets())
		}
	}
	return out
}

// sceneOf reads the answer to asks.
func sceneOf(r *pb.TxnResponse, m memo) scene {
	s := scene{rev: r.Header.GetRevision(), keys: map[string]*mvccpb.KeyValue{}, memo: m}
	for _, op := range r.Responses {
		for _, kv := range op.GetResponseRange().GetKvs() {
			s.keys[string(kv.Key)] = kv
		}
	}
	return s
}

// pinned is the transaction that was judged: it is not done if anything that it was
// judged by has changed since.
func (b bid) pinned(host string, s scene, all bool) *pb.TxnRequest {
	t := &pb.TxnRequest{Success: b.do}
	pins := maps.Clone(b.pins)
	pins[keyHosts+host] = s.revOf(keyHosts + host)
	for _, k := range slices.Sorted(maps.Keys(pins)) {
		t.Compare = append(t.Compare, &pb.Compare{
			Target: pb.Compare_MOD, Result: pb.Compare_EQUAL, Key: []byte(k), TargetUnion: &pb.Compare_ModRevision{ModRevision: pins[k]},
		})
	}
	if !all {
		return t
	}
	about := b.about()
	for _, k := range slices.Sorted(maps.Keys(about)) {
		if _, pinned := pins[k]; pinned && about[k] == "" {
			continue
		}
		t.Compare = append(t.Compare, &pb.Compare{
			Target: pb.Compare_MOD, Result: pb.Compare_LESS, Key: []byte(k), RangeEnd: []byte(about[k]),
			TargetUnion: &pb.Compare_ModRevision{ModRevision: s.rev + 1},
		})
	}
	return t
}

// undone is a transaction that does nothing, and whose condition never holds.
func undone() *pb.TxnRequest {
	return &pb.TxnRequest{Compare: []*pb.Compare{{
		Target: pb.Compare_MOD, Result: pb.Compare_LESS, Key: []byte(keyTurn), TargetUnion: &pb.Compare_ModRevision{ModRevision: 0},
	}}}
}
