package member

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/model"
)

// How often a host looks after its part.
const (
	tendMember = 2 * time.Second
	tendClient = 10 * time.Second
	tendRenew  = time.Minute // once a certificate is to be renewed
	askTime    = 2 * time.Second
)

// tend keeps what is known of the members, has learners vote, renews this host's
// certificate, and makes room in its etcd when that is full.
func (r *running) tend() {
	rest, renewed, reclaimed := tendClient, time.Time{}, time.Time{}
	if r.host.Member {
		rest = tendMember
	}
	for wait := tendMember; sleep(r.ctx, wait); wait = rest { // who has just joined may know one member only
		if now := r.cfg.Now(); now.Sub(renewed).Abs() > tendRenew {
			renewed = now
			r.keepCertificate(now)
		}
		members, err := r.members(r.ctx)
		if err != nil {
			// Status says so, and so does who uses the store. All that were asked may be
			// away while others, of whom this host's own etcd has heard, are not.
			r.keepVoters(append(voterURLs(r.membersHere()), r.votersNow()...))
			continue
		}
		r.keepVoters(voterURLs(members))
		r.rise(members)
		e, _ := r.state()
		if e == nil {
			continue
		}
		if now := r.cfg.Now(); full(e.Server) && now.Sub(reclaimed).Abs() > reclaimRest {
			reclaimed = now
			r.reclaim(e.Server)
		}
		if e.Server.Leader() == e.Server.MemberID() {
			r.promote(members)
		}
	}
}

// members asks for the members, of a majority.
func (r *running) members(ctx context.Context) ([]*pb.Member, error) {
	ctx, cancel := limited(ctx, askTime)
	defer cancel()
	resp, err := r.client.MemberList(ctx)
	if err != nil {
		return nil, late(ctx, err)
	}
	return resp.Members, nil
}

// healthTime is how long a change of members may wait until they are well: etcd wants
// them to have been in touch for five seconds.
const healthTime = 12 * time.Second

// inHealth does what etcd refuses while a member has just come or is about to go.
func inHealth(ctx context.Context, do func() error) error {
	passing := []error{rpctypes.ErrUnhealthy, rpctypes.ErrMemberNotEnoughStarted, rpctypes.ErrStopped, rpctypes.ErrNoLeader, rpctypes.ErrLeaderChanged}
	for {
		err := do()
		if !slices.ContainsFunc(passing, func(p error) bool { return errors.Is(err, p) }) || !sleep(ctx, 500*time.Millisecond) {
			return err
		}
	}
}

// voterURLs are the members that can be asked.
func voterURLs(members []*pb.Member) []string {
	var out []string
	for _, m := range members {
		if !m.IsLearner {
			out = append(out, m.ClientURLs...)
		}
	}
	slices.Sort(out)
	return out
}

// keepVoters has this host ask the members that vote now, also after a restart.
func (r *running) keepVoters(now []string) {
	slices.Sort(now)
	now = slices.Compact(now)
	if r.leaving.Load() || len(now) == 0 || slices.Equal(now, r.votersNow()) {
		return
	}
	r.useVoters(now)
	f := r.host
	f.Voters = now
	if err := r.dir.writeHost(f); err != nil {
		r.cfg.Log.Warn("cluster: keep the members", "err", err)
	}
}

func (r *running) useVoters(urls []string) {
	r.mu.Lock()
	r.voters = urls
	r.mu.Unlock()
	r.client.SetEndpoints(urls...)
	r.store.SetEndpoints(urls)
	r.admin.SetEndpoints(urls)
}

// wantedVoters is how many of the members that are ready should vote: an odd number,
// for one more than that survives no more failures.
func wantedVoters(ready int) int {
	return ready - (1 - ready%2)
}

// promote has learners vote that are ready, while that makes the number of voters
// odd.
func (r *running) promote(members []*pb.Member) {
	voters, learners := 0, []*pb.Member{}
	for _, m := range members {
		switch {
		case !m.IsLearner:
			voters++
		case r.answers(m):
			learners = append(learners, m)
		}
	}
	for want := wantedVoters(voters + len(learners)); voters < want; voters++ {
		m := learners[0]
		learners = learners[1:]
		ctx, cancel := context.WithTimeout(r.ctx, askTime)
		_, err := r.client.MemberPromote(ctx, m.ID)
		cancel()
		if err != nil {
			r.cfg.Log.Debug("cluster: promote", "member", m.Name, "err", err) // it has to catch up
			return
		}
		r.cfg.Log.Info("cluster: a member votes", "name", m.Name)
	}
}

// answers reports whether a member is up.
func (r *running) answers(m *pb.Member) bool {
	if len(m.ClientURLs) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(r.ctx, askTime)
	defer cancel()
	_, err := r.client.Status(ctx, m.ClientURLs[0])
	return err == nil
}

// followRevoked has this host refuse what the store says.
func (r *running) followRevoked() {
	all := map[string]struct{}{}
	m := cluster.Follow(r.ctx, r.admin, keyRevoked, r.cfg.Log, func(u cluster.Update) {
		for _, c := range u.Changes {
			if serial := strings.TrimPrefix(c.Key, keyRevoked); c.Gone {
				delete(all, serial)
			} else {
				all[serial] = struct{}{}
			}
		}
		if err := r.dir.writeRevoked(parseSerials(all), r.cfg.Now()); err != nil { // etcd's port for members reads it
			r.cfg.Log.Error("cluster: keep the list of refused certificates", "err", err)
		}
		r.revoked.set(maps.Clone(all))
	})
	r.work.Go(func() { <-m.Done() })
}

// addrsOf are the addresses of a certificate.
func addrsOf(c *x509.Certificate) []netip.Addr {
	var out []netip.Addr
	for _, ip := range c.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// certificateNow reads this host's certificate.
func (d dir) certificateNow() (*x509.Certificate, error) {
	text, err := d.read(fileCert)
	if err != nil {
		return nil, err
	}
	return parseCert(text)
}

// good says whether a certificate is one at a time.
func good(c *x509.Certificate, now time.Time) bool {
	return !now.Before(c.NotBefore) && now.Before(c.NotAfter)
}

// keepCertificate renews this host's certificate when a third of its life is left.
func (r *running) keepCertificate(now time.Time) {
	old, err := r.dir.certificateNow()
	if err == nil && good(old, now) && old.NotAfter.Sub(now) > renewAt {
		return
	}
	if err == nil && !good(old, now) && r.host.Member {
		err = r.signOwn(old, now)
	}
	if err == nil {
		err = r.renewOwn(old)
	}
	if err != nil {
		r.cfg.Log.Warn("cluster: renew this host's certificate", "err", err, "again", tendRenew)
		return
	}
	r.cfg.Log.Info("cluster: this host's certificate was renewed")
}

// ownLife is how long a certificate is good that a member signed for itself.
const ownLife = 24 * time.Hour

// signOwn signs this member's certificates, to be renewed at once: with those that it has
// nobody answers. All members may have been off for longer than certificates last.
func (r *running) signOwn(old *x509.Certificate, now time.Time) error {
	ca, err := r.dir.authority()
	if err != nil {
		return err
	}
	csr, err := r.requestAgain(old)
	if err != nil {
		return err
	}
	rec := Record{Name: old.Subject.CommonName, Addrs: addrsOf(old), Member: true}
	p, _, err := ca.papersOf(csr, rec, now.Add(ownLife-nodeLife))
	if err != nil {
		return err
	}
	return r.dir.writePapers(p)
}

// renewOwn has this host, if it has the CA's key, or a member sign the key again.
func (r *running) renewOwn(old *x509.Certificate) error {
	csr, err := r.requestAgain(old)
	if err != nil {
		return err
	}
	var p papers
	if r.host.Member {
		p, err = r.renewMember(csr)
	} else {
		p.host, err = r.askRenewal(csr)
	}
	if err != nil {
		return err
	}
	return r.dir.writePapers(p)
}

// renewMember signs this member's key again, and puts what it signed on the roster.
func (r *running) renewMember(csr []byte) (papers, error) {
	id, err := r.cfg.ID()
	if err != nil {
		return papers{}, err
	}
	return r.renew(r.ctx, csr, r.host.Name, func(rec Record) bool { return rec.ID == id })
}

// requestAgain makes a signing request as that of an older certificate.
func (r *running) requestAgain(old *x509.Certificate) ([]byte, error) {
	text, err := r.dir.read(fileKey)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(text)
	if err != nil {
		return nil, err
	}
	return request(key, identity{name: old.Subject.CommonName, addrs: addrsOf(old)})
}

// askRenewal asks a member.
func (r *running) askRenewal(csr []byte) (*x509.Certificate, error) {
	var a renewal
	if err := r.askMember(r.ctx, pathRenew, renewal{csr}, &a); err != nil {
		return nil, err
	}
	return parseCert(a.PEM)
}

// askMember asks one member after the other, at its join port, with this host's
// certificate, until one has answered.
func (r *running) askMember(ctx context.Context, path string, req, res any) error {
	t, err := r.dir.tlsOf(fileCert)
	if err != nil {
		return err
	}
	var errs []error
	for _, v := range r.votersNow() {
		err := r.askMemberAt(ctx, v, t, path, req, res)
		if _, answered := errors.AsType[*model.Error](err); err == nil || answered {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (r *running) askMemberAt(ctx context.Context, voter string, t *tls.Config, path string, req, res any) error {
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	u, err := url.Parse(voter)
	if err != nil {
		return err
	}
	dial, end := context.WithTimeout(ctx, cluster.Patience)
	defer end()
	c, err := (&tls.Dialer{Config: t}).DialContext(dial, "tcp", net.JoinHostPort(u.Hostname(), portText(r.cfg.Ports.Join)))
	if err != nil {
		return err
	}
	defer c.Close()
	return post(ctx, c, path, req, res)
}
