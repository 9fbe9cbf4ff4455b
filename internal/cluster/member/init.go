package member

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealane/sealane/internal/model"
)

// Invitation is what another host needs to join.
type Invitation struct {
	Token   string // a secret
	Addr    string // HOST:PORT of a member
	Expires time.Time
}

// Init begins a cluster, of which this host is the first. The address is where others
// find it; the zero one is what Config.Addrs says.
func (h *Host) Init(ctx context.Context, addr netip.Addr) (Invitation, error) {
	h.verbs.Lock()
	defer h.verbs.Unlock()
	fail := func(err error) (Invitation, error) {
		return Invitation{}, model.Errorf(model.Internal, "cluster", "init", "%w", err)
	}
	if h.dir.used() {
		return Invitation{}, model.Errorf(model.Conflict, "cluster", "init", "this host is in one").WithHint("sealane cluster status")
	}
	addrs, err := h.addrs(ctx, addr)
	if err != nil {
		return Invitation{}, model.Errorf(model.Invalid, "cluster", "init", "%w", err)
	}
	id := identity{h.cfg.Name, addrs}
	rec := Record{Name: id.name, Addrs: id.addrs, Member: true, Joined: h.cfg.Now().UTC()}
	if rec.ID, err = h.cfg.ID(); err == nil {
		rec.Number, err = roster{}.number()
	}
	if err != nil {
		return fail(err)
	}
	f := hostFile{Name: id.name, Addr: addrs[0], Member: true, Voters: []string{at(addrs[0], h.cfg.Ports.Client)}}
	f.Initial = initialCluster(map[string][]string{id.name: {at(addrs[0], h.cfg.Ports.Peer)}})
	if rec, err = h.prepareFirst(f, rec); err != nil {
		return fail(err)
	}
	inv, err := h.first(ctx, f, rec)
	if err != nil {
		h.stop()
		_ = h.dir.remove() // it is nothing yet
		return fail(err)
	}
	h.cfg.Begin()
	h.cfg.Log.Info("cluster begun", "name", id.name, "address", addrs[0])
	return inv, nil
}

// first starts the first member, and puts it on the roster.
func (h *Host) first(ctx context.Context, f hostFile, rec Record) (inv Invitation, err error) {
	if err := h.begin(f); err != nil {
		return inv, err
	}
	r := h.run // as verbs is held
	if err := r.await(ctx); err != nil {
		return inv, err
	}
	t, err := roster{}.put(rec)
	if err != nil {
		return inv, err
	}
	if _, _, err := r.admin.Commit(ctx, t); err != nil {
		return inv, err
	}
	return r.rotate(ctx)
}

// prepareFirst makes the CA, and this host's certificates.
func (h *Host) prepareFirst(f hostFile, rec Record) (Record, error) {
	ca, err := newAuthority(h.cfg.Now())
	if err != nil {
		return rec, err
	}
	key, err := newKey()
	if err != nil {
		return rec, err
	}
	csr, err := request(key, rec.identity())
	if err != nil {
		return rec, err
	}
	p, rec, err := ca.papersOf(csr, rec, h.cfg.Now())
	if err != nil {
		return rec, err
	}
	caKey, err := encodeKey(ca.key)
	if err != nil {
		return rec, err
	}
	keyText, err := encodeKey(key)
	if err != nil {
		return rec, err
	}
	return rec, h.prepare(f, map[string][]byte{
		fileCA: encodeCert(ca.cert), fileCAKey: caKey, fileCert: encodeCert(p.host), fileMember: encodeCert(p.member), fileKey: keyText,
	})
}

// prepare writes the directory, whole or not at all.
func (h *Host) prepare(f hostFile, files map[string][]byte) error {
	staged, err := h.dir.stage()
	if err != nil {
		return err
	}
	for name, text := range files {
		if len(text) == 0 {
			continue
		}
		if err := staged.write(name, text); err != nil {
			return err
		}
	}
	if f.Member {
		if err := errors.Join(staged.makeEtcd(), staged.writeRevoked(nil, h.cfg.Now())); err != nil {
			return err
		}
	}
	if err := staged.writeHost(f); err != nil {
		return err
	}
	return h.dir.publish(staged)
}

// addrs are this host's: the one that is wanted, or what the host has.
func (h *Host) addrs(ctx context.Context, wanted netip.Addr) ([]netip.Addr, error) {
	if err := checkName(h.cfg.Name); err != nil {
		return nil, err
	}
	addrs := []netip.Addr{wanted}
	if !wanted.IsValid() {
		var err error
		if addrs, err = h.cfg.Addrs(ctx); err != nil {
			return nil, err
		}
	}
	return addrs, checkAddrs(addrs)
}

// checkName refuses what cannot be a host's name in certificates and keys.
func checkName(name string) error {
	ok := len(name) > 0 && len(name) <= 63 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == ""
	if !ok || name[0] == '-' || name[0] == '.' {
		return fmt.Errorf("node name %q: want up to 63 letters, digits, '-', '_' and '.': sealane daemon --node-name NAME", name)
	}
	return nil
}

func checkAddrs(addrs []netip.Addr) error {
	if len(addrs) == 0 || len(addrs) > 4 {
		return fmt.Errorf("%d addresses: want one that other hosts find this one at: --addr ADDR", len(addrs))
	}
	for _, a := range addrs {
		if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.Is4In6() || a.Zone() != "" {
			return fmt.Errorf("address %s: other hosts do not find this one there", a)
		}
	}
	return nil
}

// Invite returns the token that lets hosts in, or makes another.
func (h *Host) Invite(ctx context.Context, rotate bool) (inv Invitation, err error) {
	r, err := h.running("token")
	if err != nil {
		return inv, err
	}
	if rotate {
		if err := r.membersOnly("cluster", "token"); err != nil {
			return inv, err
		}
		if inv, err = r.rotate(ctx); err != nil {
			err = model.Errorf(model.Internal, "cluster", "token", "%w", err)
		}
		return inv, err
	}
	ros, err := readRoster(ctx, r.store)
	if err != nil {
		return inv, model.Errorf(model.Internal, "cluster", "token", "%w", err)
	}
	text, _ := r.dir.read(fileToken)
	t, err := ParseToken(string(text))
	if err != nil || ros.token.check(t.secret[:], h.cfg.Now()) != nil {
		return inv, model.Errorf(model.NotFound, "cluster", "token", "none that is of use was made on this host").WithHint("sealane cluster token --rotate")
	}
	return Invitation{t.Text(), r.joinAddr(), ros.token.Expires}, nil
}

// rotate makes a token. The one before lets nobody in any more.
func (r *running) rotate(ctx context.Context) (inv Invitation, err error) {
	text, err := r.dir.read(fileCA)
	if err != nil {
		return inv, err
	}
	ca, err := parseCert(text)
	if err != nil {
		return inv, err
	}
	t, err := newToken(ca)
	if err != nil {
		return inv, err
	}
	a := admit(t, r.cfg.Now())
	if err := putToken(ctx, r.admin, a); err != nil {
		return inv, err
	}
	return Invitation{t.Text(), r.joinAddr(), a.Expires}, r.dir.write(fileToken, []byte(t.Text()+"\n"))
}

// joinAddr is where hosts can join: here, or at a member.
func (r *running) joinAddr() string {
	host := r.host.Addr.String()
	if !r.host.Member {
		if u, err := url.Parse(cmp.Or(slices.Concat(r.votersNow(), []string{""})...)); err == nil {
			host = u.Hostname()
		}
	}
	return net.JoinHostPort(host, strconv.Itoa(int(r.cfg.Ports.Join)))
}

func (r *running) votersNow() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.voters)
}
