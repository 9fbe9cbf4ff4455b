package member

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/model"
)

// Keys in the store.
//
//	/sealane/cluster/token           how new hosts get in: admission
//	/sealane/cluster/hosts/NAME      a host: Record
//	/sealane/cluster/turn            put with each change of hosts: one after the other
//	/sealane/cluster/revoked/SERIAL  a certificate that is refused, until it ends
const (
	root       = "/sealane/cluster"
	keyToken   = root + "/token"
	keyTurn    = root + "/turn"
	keyHosts   = root + "/hosts/"
	keyRevoked = root + "/revoked/"
)

// maxMembers is how many hosts run an etcd.
const maxMembers = 5

// Record is a host of the cluster.
type Record struct {
	Name         string        `json:"name"`
	ID           string        `json:"id"`        // by which leases of fabrics name it
	Number       uint32        `json:"number"`    // of no other host: the upper half of the IDs of its leases of etcd's
	Addrs        []netip.Addr  `json:"addresses"` // of its certificate; the first is where its etcd is
	Member       bool          `json:"member"`    // it runs an etcd
	Joined       time.Time     `json:"joined"`
	Certificates []certificate `json:"certificates"` // that have not ended
}

// certificate is one of a host's.
type certificate struct {
	Serial string    `json:"serial"` // in hex
	Ends   time.Time `json:"ends"`
}

func serialText(c *x509.Certificate) string { return c.SerialNumber.Text(16) }

// with returns the record with new certificates, without those that have ended.
func (r Record) with(now time.Time, more ...*x509.Certificate) Record {
	r.Certificates = slices.DeleteFunc(slices.Clone(r.Certificates), func(x certificate) bool { return now.After(x.Ends) })
	for _, c := range more {
		r.Certificates = append(r.Certificates, certificate{serialText(c), c.NotAfter.UTC()})
	}
	return r
}

// has says whether a certificate is one of the host's.
func (r Record) has(c *x509.Certificate) bool {
	return slices.ContainsFunc(r.Certificates, func(x certificate) bool { return x.Serial == serialText(c) })
}

func (r Record) identity() identity { return identity{r.Name, r.Addrs} }

// roster is all that the store says of the hosts, at one revision.
type roster struct {
	hosts map[string]Record
	revs  map[string]int64 // of keys
	token admission
}

func readRoster(ctx context.Context, s cluster.Store) (r roster, err error) {
	snap, err := s.List(ctx, root+"/")
	if err != nil {
		return r, err
	}
	r = roster{hosts: map[string]Record{}, revs: map[string]int64{}}
	for _, e := range snap.Entries {
		r.revs[e.Key] = e.Rev
		name, isHost := strings.CutPrefix(e.Key, keyHosts)
		switch {
		case isHost:
			var rec Record
			if err = json.Unmarshal(e.Value, &rec); err == nil {
				r.hosts[name] = rec
			}
		case e.Key == keyToken:
			err = json.Unmarshal(e.Value, &r.token)
		}
		if err != nil {
			return r, fmt.Errorf("%s: %w", e.Key, err)
		}
	}
	return r, nil
}

// sorted returns the hosts by name.
func (r roster) sorted() []Record {
	out := []Record{}
	for _, h := range r.hosts {
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b Record) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// free says why a host cannot join under a name at addresses.
func (r roster) free(id identity) error {
	if _, taken := r.hosts[id.name]; taken {
		return model.Errorf(model.Conflict, "node "+id.name, "join", "a host of that name is in the cluster").
			WithHint("sealane node rm %s, if it is gone; or sealane daemon --node-name NAME", id.name)
	}
	for _, h := range r.hosts {
		for _, a := range id.addrs {
			if slices.Contains(h.Addrs, a) {
				return model.Errorf(model.Conflict, "node "+id.name, "join", "address %s is that of %s", a, h.Name)
			}
		}
	}
	return nil
}

// freeID says why a host cannot join with an ID.
func (r roster) freeID(id identity, node string) error {
	for _, h := range r.hosts {
		if h.ID == node {
			return model.Errorf(model.Conflict, "node "+id.name, "join", "its ID %s is that of %s: is it a clone of that host?", node, h.Name).WithHint("stop its daemon, then sealane daemon --teardown, remove its state directory and start it")
		}
	}
	return checkID(node)
}

// number is one that no host has.
func (r roster) number() (uint32, error) {
	for {
		n, err := rand.Int(rand.Reader, big.NewInt(math.MaxInt32))
		if err != nil {
			return 0, err
		}
		own := uint32(n.Uint64()) + 1
		if !slices.ContainsFunc(r.sorted(), func(h Record) bool { return h.Number == own }) {
			return own, nil
		}
	}
}

// checkID refuses what is no host's ID.
func checkID(id string) error {
	if len(id) < 8 || len(id) > 64 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
		return model.Errorf(model.Invalid, "cluster", "join", "node ID %q: want 8 to 64 letters and digits", id)
	}
	return nil
}

func (r roster) members() (n int) {
	for _, h := range r.hosts {
		if h.Member {
			n++
		}
	}
	return n
}

// put is the change that puts a host there, if nothing happened to hosts meanwhile.
func (r roster) put(rec Record) (cluster.Txn, error) {
	text, err := json.Marshal(rec)
	return cluster.Txn{
		If:  []cluster.If{{Key: keyTurn, Rev: r.revs[keyTurn]}},
		Put: []cluster.Put{{Key: keyHosts + rec.Name, Value: text}, {Key: keyTurn, Value: []byte(rec.Name)}},
	}, err
}

// remove is the change that removes a host, and other keys with it: its certificates are
// refused.
func (r roster) remove(name string, now time.Time, with ...string) cluster.Txn {
	t := cluster.Txn{
		If:     []cluster.If{{Key: keyTurn, Rev: r.revs[keyTurn]}},
		Put:    []cluster.Put{{Key: keyTurn, Value: []byte(name)}},
		Delete: append([]string{keyHosts + name}, with...),
	}
	for _, c := range r.hosts[name].Certificates {
		if ttl := c.Ends.Sub(now) + skew; ttl > 0 {
			t.Put = append(t.Put, cluster.Put{Key: keyRevoked + c.Serial, Value: []byte(name), TTL: ttl})
		}
	}
	return t
}

// errTurn is that others were quicker, again and again.
var errTurn = errors.New("too many changes at once: try again")

// change reads what is there and commits what make says, until nobody was quicker.
func change(ctx context.Context, s cluster.Store, make func(roster) (cluster.Txn, error)) error {
	for range 10 {
		r, err := readRoster(ctx, s)
		if err != nil {
			return err
		}
		t, err := make(r)
		if err != nil {
			return err
		}
		if _, done, err := s.Commit(ctx, t); done || err != nil {
			return err
		}
	}
	return errTurn
}

// putToken has a token let hosts in, instead of the one before.
func putToken(ctx context.Context, s cluster.Store, a admission) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_, _, err = s.Commit(ctx, cluster.Txn{Put: []cluster.Put{{Key: keyToken, Value: text}}})
	return err
}

// dropLeases removes the leases of a host in all fabrics under a prefix, and what it has
// on overlay networks.
func dropLeases(ctx context.Context, s cluster.Store, prefix string, rec Record) error {
	snap, err := s.List(ctx, strings.TrimRight(prefix, "/")+"/")
	if err != nil {
		return err
	}
	for _, e := range snap.Entries {
		if path.Base(path.Dir(e.Key)) != "subnets" || e.Lasting { // a reservation is somebody's will
			continue
		}
		v, err := flannel.ParseValue(e.Value)
		if err != nil || v.Node == nil || v.Node.ID != rec.ID {
			continue
		}
		if _, _, err := s.Commit(ctx, cluster.Txn{If: []cluster.If{{Key: e.Key, Rev: e.Rev}}, Delete: []string{e.Key}}); err != nil {
			return err
		}
	}
	return overlay.Forget(ctx, s, SharedPrefix(prefix), rec.ID)
}

// parseSerials reads keys under keyRevoked.
func parseSerials(serials map[string]struct{}) []*big.Int {
	var out []*big.Int
	for s := range serials {
		if n, ok := new(big.Int).SetString(s, 16); ok {
			out = append(out, n)
		}
	}
	return out
}
