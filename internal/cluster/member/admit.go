package member

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/model"
)

// Paths of the join port, and the longest body in bytes that it reads.
const (
	pathJoin  = "/v1/join"
	pathRenew = "/v1/renew"
	pathLeave = "/v1/leave"
	pathRise  = "/v1/rise"
	maxBody   = 64 << 10
)

// joinRequest is what a host says that wants to join.
type joinRequest struct {
	Secret  []byte       `json:"secret"`
	Name    string       `json:"name"`
	ID      string       `json:"id"`
	Addrs   []netip.Addr `json:"addresses"`
	Ports   Ports        `json:"ports"`
	Request []byte       `json:"request"` // PEM
}

// joinAnswer is what it gets.
type joinAnswer struct {
	Certificate []byte   `json:"certificate"` // PEM, like the next three
	CA          []byte   `json:"ca"`
	Member      []byte   `json:"member,omitempty"` // certificate; for members, like the next
	CAKey       []byte   `json:"caKey,omitempty"`
	Initial     string   `json:"initial,omitempty"`
	Voters      []string `json:"voters"`
}

// renewal is both a request and its answer: PEM.
type renewal struct {
	PEM []byte `json:"pem"`
}

// refusal is any other answer.
type refusal struct {
	Kind    model.Kind `json:"kind"`
	Message string     `json:"message"`
}

// keepJoins serves the join port.
func (r *running) keepJoins() {
	for r.ctx.Err() == nil {
		if err := r.serveJoins(); err != nil && r.ctx.Err() == nil {
			r.cfg.Log.Warn("cluster: join port", "err", err, "again", again)
		}
		sleep(r.ctx, again)
	}
}

func (r *running) serveJoins() error {
	t, err := r.dir.tlsOf(fileCert)
	if err != nil {
		return err
	}
	t.ClientAuth = tls.VerifyClientCertIfGiven
	l, err := (&net.ListenConfig{}).Listen(r.ctx, "tcp", net.JoinHostPort(r.host.Addr.String(), portText(r.cfg.Ports.Join)))
	if err != nil {
		return err
	}
	limit := newLimiter(r.cfg.Now)
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+pathJoin, func(w http.ResponseWriter, q *http.Request) { r.serveJoin(w, q, limit) })
	mux.HandleFunc("POST "+pathRenew, r.serveRenew)
	mux.HandleFunc("POST "+pathLeave, r.serveLeave)
	mux.HandleFunc("POST "+pathRise, r.serveRise)
	srv := &http.Server{
		Handler: mux, TLSConfig: t, MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(r.cfg.Log.Handler(), slog.LevelDebug),
		ReadTimeout: 10 * time.Second, WriteTimeout: startTime, IdleTimeout: 10 * time.Second,
	}
	stop := context.AfterFunc(r.ctx, func() { _ = srv.Close() })
	defer stop()
	return srv.ServeTLS(l, "", "")
}

// serveJoin admits a host.
func (r *running) serveJoin(w http.ResponseWriter, q *http.Request, limit *limiter) {
	from, err := netip.ParseAddrPort(q.RemoteAddr)
	if err != nil || !limit.allows(from.Addr()) {
		answer(w, nil, model.Errorf(model.Exhausted, "cluster", "join", "too many attempts from %s: try again in %s", from.Addr(), limitEvery))
		return
	}
	var req joinRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, q.Body, maxBody)).Decode(&req); err != nil {
		limit.failed(from.Addr())
		answer(w, nil, model.Errorf(model.Invalid, "cluster", "join", "not a request of a host's"))
		return
	}
	a, err := r.admit(q.Context(), req)
	if err != nil {
		limit.failed(from.Addr())
		r.cfg.Log.Warn("cluster: join refused", "from", from.Addr(), "name", req.Name, "err", err)
	} else {
		r.cfg.Log.Info("cluster: a host joined", "name", req.Name, "address", req.Addrs[0], "member", a.CAKey != nil)
	}
	answer(w, a, err)
}

// admit lets a host in that knows the token's secret.
func (r *running) admit(ctx context.Context, req joinRequest) (*joinAnswer, error) {
	fail := func(err error) (*joinAnswer, error) {
		if e, ok := errors.AsType[*model.Error](err); ok {
			return nil, e
		}
		return nil, model.Errorf(model.Internal, "cluster", "join", "%w", err)
	}
	rec, p, err := r.enlist(ctx, req)
	if err != nil {
		return fail(err)
	}
	ca, err := r.dir.read(fileCA)
	if err != nil {
		return fail(err)
	}
	a := &joinAnswer{Certificate: encodeCert(p.host), CA: ca}
	if rec.Member {
		a.Member = encodeCert(p.member)
		if a.CAKey, err = r.dir.read(fileCAKey); err != nil {
			return fail(err)
		}
		if a.Initial, err = r.addMember(ctx, rec, req.Ports); err != nil {
			r.strike(context.WithoutCancel(ctx), rec.Name)
			return fail(err)
		}
	}
	members, err := r.members(ctx)
	if err != nil {
		return fail(err)
	}
	a.Voters = voterURLs(members)
	return a, nil
}

// enlist puts a host on the roster, and signs its certificate.
func (r *running) enlist(ctx context.Context, req joinRequest) (rec Record, p papers, err error) {
	now := r.cfg.Now()
	ca, err := r.dir.authority()
	if err != nil {
		return rec, p, err
	}
	err = change(ctx, r.admin, func(ros roster) (t cluster.Txn, err error) {
		if err := ros.token.check(req.Secret, now); err != nil {
			return t, &model.Error{Kind: model.Denied, Err: err}
		}
		id := identity{req.Name, req.Addrs}
		if err := errors.Join(checkName(id.name), checkAddrs(id.addrs)); err != nil {
			return t, &model.Error{Kind: model.Invalid, Err: err}
		}
		if err := cmp.Or(ros.free(id), ros.freeID(id, req.ID)); err != nil {
			return t, err
		}
		rec = Record{Name: id.name, ID: req.ID, Addrs: id.addrs, Member: ros.members() < maxMembers, Joined: now.UTC()}
		if rec.Number, err = ros.number(); err != nil {
			return t, err
		}
		if p, rec, err = ca.papersOf(req.Request, rec, now); err != nil {
			return t, &model.Error{Kind: model.Invalid, Err: err}
		}
		t, err = ros.put(rec)
		t.If = append(t.If, cluster.If{Key: keyToken, Rev: ros.revs[keyToken]})
		return t, err
	})
	return rec, p, err
}

// strike takes a host off the roster that did not get in. The token stays.
func (r *running) strike(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, cluster.Patience)
	defer cancel()
	if _, _, err := r.admin.Commit(ctx, cluster.Txn{Delete: []string{keyHosts + name}}); err != nil {
		r.cfg.Log.Warn("cluster: take a host that did not join off the roster", "name", name, "err", err)
	}
}

// addMember has the others expect a new member, which listens at first, and returns
// them all.
func (r *running) addMember(ctx context.Context, rec Record, p Ports) (initial string, err error) {
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	var resp *clientv3.MemberAddResponse
	err = inHealth(ctx, func() (err error) {
		resp, err = r.client.MemberAddAsLearner(ctx, []string{at(rec.Addrs[0], p.Peer)})
		return err
	})
	if err != nil {
		return "", err
	}
	return initialOf(resp.Members, rec), nil
}

// serveRenew signs a host's certificate anew: for the same key, and the same host.
func (r *running) serveRenew(w http.ResponseWriter, q *http.Request) {
	var req renewal
	err := json.NewDecoder(http.MaxBytesReader(w, q.Body, maxBody)).Decode(&req)
	if err != nil || q.TLS == nil || len(q.TLS.VerifiedChains) == 0 {
		answer(w, nil, model.Errorf(model.Denied, "certificate", "renew", "only for a host of the cluster, with its certificate"))
		return
	}
	p, err := r.renewHost(q.Context(), req.PEM, q.TLS.PeerCertificates[0])
	if err != nil {
		answer(w, nil, model.Errorf(model.Denied, "certificate", "renew", "%w", err))
		return
	}
	answer(w, renewal{encodeCert(p.host)}, nil)
}

// renewHost answers a request of a host that has a certificate.
func (r *running) renewHost(ctx context.Context, text []byte, old *x509.Certificate) (p papers, err error) {
	csr, err := parseRequest(text)
	if err != nil {
		return p, err
	}
	if key, ok := csr.PublicKey.(*ecdsa.PublicKey); !ok || !key.Equal(old.PublicKey) {
		return p, errors.New("the key is another")
	}
	return r.renew(ctx, text, old.Subject.CommonName, func(rec Record) bool { return rec.has(old) })
}

// renew signs for the host of a name again, if it is still who asks.
func (r *running) renew(ctx context.Context, text []byte, name string, is func(Record) bool) (p papers, err error) {
	ca, err := r.dir.authority()
	if err != nil {
		return p, err
	}
	err = change(ctx, r.admin, func(ros roster) (t cluster.Txn, err error) {
		rec, ok := ros.hosts[name]
		if !ok || !is(rec) {
			return t, errRemoved
		}
		if p, rec, err = ca.papersOf(text, rec, r.cfg.Now()); err != nil {
			return t, err
		}
		return ros.put(rec)
	})
	return p, err
}

// serveLeave removes the host that asks for it.
func (r *running) serveLeave(w http.ResponseWriter, q *http.Request) {
	cert, err := r.known(q)
	if err == nil {
		err = r.expel(q.Context(), cert.Subject.CommonName)
	}
	if err != nil {
		answer(w, nil, model.Errorf(model.Denied, "cluster", "leave", "%w", err))
		return
	}
	r.cfg.Log.Info("cluster: a host left", "name", cert.Subject.CommonName)
	answer(w, struct{}{}, nil)
}

// known returns the certificate of the host that makes a request.
func (r *running) known(q *http.Request) (*x509.Certificate, error) {
	if q.TLS == nil || len(q.TLS.VerifiedChains) == 0 {
		return nil, errors.New("only for a host of the cluster, with its certificate")
	}
	cert := q.TLS.PeerCertificates[0]
	ros, err := readRoster(q.Context(), r.admin)
	if err != nil {
		return nil, err
	}
	if rec, ok := ros.hosts[cert.Subject.CommonName]; !ok || !rec.has(cert) {
		return nil, errRemoved
	}
	return cert, nil
}

// answer writes a value, or why there is none.
func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusForbidden)
		v = refusal{model.KindOf(err), err.Error()}
	}
	_ = json.NewEncoder(w).Encode(v) // who hung up reads no errors
}
