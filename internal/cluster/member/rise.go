package member

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/model"
)

// riseRequest is what a host says that would take the place of a member that is gone. A
// joinAnswer is what it gets.
type riseRequest struct {
	Ports   Ports  `json:"ports"`
	Request []byte `json:"request"` // PEM
}

// rise has this host, which is no member, become one when there is a place. Whoever asks
// first gets it.
func (r *running) rise(members []*pb.Member) {
	if r.host.Member || r.leaving.Load() || len(members) >= maxMembers {
		return
	}
	f, err := r.riseNow()
	if err != nil {
		r.cfg.Log.Debug("cluster: become a member", "err", err) // another was faster, or this host cannot
		return
	}
	r.cfg.Log.Info("cluster: this host becomes a member")
	r.restart(f)
}

// riseNow asks for the place, and keeps what a member needs.
func (r *running) riseNow() (f hostFile, err error) {
	for _, port := range []uint16{r.cfg.Ports.Client, r.cfg.Ports.Peer, r.cfg.Ports.Join} {
		l, err := (&net.ListenConfig{}).Listen(r.ctx, "tcp", net.JoinHostPort(r.host.Addr.String(), portText(port)))
		if err != nil {
			return f, err
		}
		l.Close()
	}
	old, err := r.dir.certificateNow()
	if err != nil {
		return f, err
	}
	csr, err := r.requestAgain(old)
	if err != nil {
		return f, err
	}
	var a joinAnswer
	if err := r.askMember(r.ctx, pathRise, riseRequest{r.cfg.Ports, csr}, &a); err != nil {
		return f, err
	}
	f = r.host
	f.Member, f.Joined, f.Initial, f.Voters = true, true, a.Initial, a.Voters
	return f, r.dir.promote(f, a, r)
}

// promote keeps what makes a host a member: host.json at last.
func (d dir) promote(f hostFile, a joinAnswer, r *running) error {
	host, err := parseCert(a.Certificate)
	if err != nil {
		return err
	}
	member, err := parseCert(a.Member)
	if err != nil {
		return err
	}
	if err := d.write(fileCAKey, a.CAKey); err != nil {
		return err
	}
	if _, err := d.authority(); err != nil { // it is not the CA's
		return err
	}
	if err := errors.Join(d.makeEtcd(), d.writePapers(papers{host, member}), d.writeRevoked(nil, r.cfg.Now())); err != nil {
		return err
	}
	return d.writeHost(f)
}

// resume goes on with what this host is now, unless it is otherwise by then.
func (h *Host) resume(was *running, f hostFile) {
	h.verbs.Lock()
	defer h.verbs.Unlock()
	if h.run != was { // as verbs is held
		return
	}
	h.stop()
	if err := h.begin(f); err != nil {
		h.cfg.Log.Error("cluster: go on as a member", "err", err)
		h.mu.Lock()
		h.err = err
		h.mu.Unlock()
	}
}

// serveRise makes a host a member.
func (r *running) serveRise(w http.ResponseWriter, q *http.Request) {
	fail := func(err error) { answer(w, nil, model.Errorf(model.Denied, "cluster", "become a member", "%w", err)) }
	var req riseRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, q.Body, maxBody)).Decode(&req); err != nil {
		fail(errors.New("not a request of a host's"))
		return
	}
	cert, err := r.known(q)
	if err != nil {
		fail(err)
		return
	}
	a, err := r.raise(q.Context(), cert.Subject.CommonName, req)
	if err != nil {
		fail(err)
		return
	}
	r.cfg.Log.Info("cluster: a host becomes a member", "name", cert.Subject.CommonName)
	answer(w, a, nil)
}

var errFull = errors.New("there are as many members as there can be")

// raise puts a host among the members, or says again what it was told.
func (r *running) raise(ctx context.Context, name string, req riseRequest) (a *joinAnswer, err error) {
	ca, err := r.dir.authority()
	if err != nil {
		return nil, err
	}
	var rec Record
	var p papers
	err = change(ctx, r.admin, func(ros roster) (t cluster.Txn, err error) {
		var ok bool
		if rec, ok = ros.hosts[name]; !ok {
			return t, errRemoved
		}
		if !rec.Member && ros.members() >= maxMembers {
			return t, errFull
		}
		rec.Member = true
		if p, rec, err = ca.papersOf(req.Request, rec, r.cfg.Now()); err != nil {
			return t, err
		}
		return ros.put(rec)
	})
	if err != nil {
		return nil, err
	}
	a = &joinAnswer{Certificate: encodeCert(p.host), Member: encodeCert(p.member), CA: encodeCert(ca.cert)}
	if a.CAKey, err = r.dir.read(fileCAKey); err != nil {
		return nil, err
	}
	members, err := r.members(ctx)
	if err != nil {
		return nil, err
	}
	if memberAt(members, rec.Addrs[0]) != nil { // it asked before, and did not hear the answer
		a.Initial = initialOf(members, rec)
	} else if a.Initial, err = r.addMember(ctx, rec, req.Ports); err != nil {
		return nil, errors.Join(err, r.lower(context.WithoutCancel(ctx), name))
	}
	a.Voters = voterURLs(members)
	return a, nil
}

// lower takes back that a host is a member.
func (r *running) lower(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, cluster.Patience)
	defer cancel()
	return change(ctx, r.admin, func(ros roster) (cluster.Txn, error) {
		rec, ok := ros.hosts[name]
		if !ok {
			return cluster.Txn{}, errRemoved
		}
		rec.Member = false
		return ros.put(rec)
	})
}

// initialOf is etcd's --initial-cluster for a member that has not started.
func initialOf(members []*pb.Member, rec Record) string {
	all, own := map[string][]string{}, memberAt(members, rec.Addrs[0])
	for _, m := range members {
		name := m.Name
		if m == own {
			name = rec.Name
		} else if name == "" {
			name = "of " + m.PeerURLs[0] // which has not started yet
		}
		all[name] = m.PeerURLs
	}
	return initialCluster(all)
}
