package member

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sealane/sealane/internal/model"
)

func portText(p uint16) string { return strconv.Itoa(int(p)) }

// Join makes this host one of a cluster. To is a member's HOST:PORT, where PORT is
// that of Config if there is none. The address is where others find this host; the
// zero one is that by which it reaches the member.
func (h *Host) Join(ctx context.Context, token, to string, addr netip.Addr) error {
	h.verbs.Lock()
	defer h.verbs.Unlock()
	if h.dir.used() {
		return model.Errorf(model.Conflict, "cluster", "join", "this host is in one").WithHint("sealane cluster leave")
	}
	t, err := ParseToken(token)
	if err != nil {
		return model.Errorf(model.Invalid, "cluster", "join", "%w", err)
	}
	if _, _, err := net.SplitHostPort(to); err != nil {
		to = net.JoinHostPort(to, portText(h.cfg.Ports.Join))
	}
	f, err := h.ask(ctx, t, to, addr)
	if err == nil {
		err = h.enter(ctx, f)
	}
	if err != nil {
		if e, ok := errors.AsType[*model.Error](err); ok {
			return &model.Error{Kind: e.Kind, Ref: "cluster", Op: "join", Err: err}
		}
		return model.Errorf(model.Internal, "cluster", "join", "%w", err)
	}
	h.cfg.Begin()
	h.cfg.Log.Info("cluster joined", "name", f.Name, "address", f.Addr, "member", f.Member)
	return nil
}

// enter begins, once the cluster has let this host in, or takes that back.
func (h *Host) enter(ctx context.Context, f hostFile) error {
	err := h.begin(f)
	if err == nil {
		r := h.run // as verbs is held
		if f.Member {
			err = r.await(ctx)
		} else {
			_, err = readRoster(ctx, r.store)
		}
		if err == nil {
			return nil
		}
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTime)
		defer cancel()
		if gone := r.expelOwn(undo); gone != nil {
			err = fmt.Errorf("%w; and sealane node rm %s, on a host of the cluster, is needed: %w", err, f.Name, gone)
		}
	}
	h.stop()
	return errors.Join(err, h.dir.remove())
}

// ask asks a member, and keeps what it answers.
func (h *Host) ask(ctx context.Context, t Token, to string, addr netip.Addr) (f hostFile, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	c, err := dialPinned(ctx, t, to, h.cfg.Now())
	if err != nil {
		return f, h.elsewhere(to, err)
	}
	defer c.Close()
	if !addr.IsValid() {
		local, err := netip.ParseAddrPort(c.LocalAddr().String())
		if err != nil {
			return f, err
		}
		addr = local.Addr().Unmap()
	}
	addrs, err := h.addrs(ctx, addr)
	if err != nil {
		return f, &model.Error{Kind: model.Invalid, Err: err}
	}
	id := identity{h.cfg.Name, addrs}
	node, err := h.cfg.ID()
	if err != nil {
		return f, err
	}
	key, err := newKey()
	if err != nil {
		return f, err
	}
	csr, err := request(key, id)
	if err != nil {
		return f, err
	}
	var a joinAnswer
	req := joinRequest{Secret: t.secret[:], Name: id.name, ID: node, Addrs: id.addrs, Ports: h.cfg.Ports, Request: csr}
	if err := post(ctx, c, pathJoin, req, &a); err != nil {
		return f, h.elsewhere(to, err)
	}
	return h.keep(t, a, id, key)
}

// elsewhere says of an error which port was meant, if it was at one where members let in
// only hosts that have joined, or each other.
func (h *Host) elsewhere(to string, err error) error {
	_, port, _ := net.SplitHostPort(to)
	p := h.cfg.Ports
	others := port == portText(p.Client) || port == portText(p.Peer)
	e, answered := errors.AsType[*model.Error](err)
	op, ok := errors.AsType[*net.OpError](err)
	switch {
	case ok && op.Op == "dial": // nobody is there
		return err
	case !others && !strings.Contains(err.Error(), "tls: certificate required"):
		return err
	case !answered:
		e = model.Errorf(model.Denied, to, "", "hosts that have not joined are not let in at this port")
	}
	return e.WithHint("hosts join at port %s, unless the member was told another", portText(p.Join))
}

// keep writes what a member answered, if it is what was asked for.
func (h *Host) keep(t Token, a joinAnswer, id identity, key *ecdsa.PrivateKey) (f hostFile, err error) {
	ca, err := parseCert(a.CA)
	if err != nil || pin(ca) != t.pin {
		return f, errors.New("the answer has not the token's CA")
	}
	cert, err := parseCert(a.Certificate)
	if err != nil {
		return f, err
	}
	if pub, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(key.Public()) || cert.CheckSignatureFrom(ca) != nil {
		return f, errors.New("the answer has not our certificate")
	}
	keyText, err := encodeKey(key)
	if err != nil {
		return f, err
	}
	f = hostFile{Name: id.name, Addr: id.addrs[0], Member: len(a.CAKey) > 0, Initial: a.Initial, Joined: true, Voters: a.Voters}
	return f, h.prepare(f, map[string][]byte{fileCA: encodeCert(ca), fileCAKey: a.CAKey, fileCert: encodeCert(cert), fileMember: a.Member, fileKey: keyText})
}

// dialPinned connects to a member of the cluster that a token is of, and nobody else.
func dialPinned(ctx context.Context, t Token, to string, now time.Time) (*tls.Conn, error) {
	host, _, err := net.SplitHostPort(to)
	if err != nil {
		return nil, err
	}
	d := tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, // VerifyConnection does, by the pin
		VerifyConnection: func(s tls.ConnectionState) error { return checkPinned(s.PeerCertificates, t, host, now) },
	}}
	c, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	return c.(*tls.Conn), nil //nolint:forcetypeassert // as tls.Dialer says
}

// checkPinned verifies a chain up to the CA that a token knows.
func checkPinned(chain []*x509.Certificate, t Token, host string, now time.Time) error {
	for _, c := range chain {
		if !c.IsCA || pin(c) != t.pin {
			continue
		}
		pool := x509.NewCertPool()
		pool.AddCert(c)
		_, err := chain[0].Verify(x509.VerifyOptions{Roots: pool, DNSName: host, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
		if err != nil {
			return model.Errorf(model.Denied, host, "", "its certificate: %w", err)
		}
		return nil
	}
	return model.Errorf(model.Denied, host, "", "it is not of the cluster that the token is of")
}

// post makes a request on a connection.
func post(ctx context.Context, c net.Conn, path string, req, res any) error {
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	tr := &http.Transport{
		DialTLSContext:    func(context.Context, string, string) (net.Conn, error) { return c, nil },
		DisableKeepAlives: true,
	}
	u := url.URL{Scheme: "https", Host: c.RemoteAddr().String(), Path: path}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	a, err := tr.RoundTrip(q)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	text, err := io.ReadAll(io.LimitReader(a.Body, maxBody))
	if err != nil {
		return err
	}
	if a.StatusCode != http.StatusOK {
		var no refusal
		if err := json.Unmarshal(text, &no); err != nil || no.Message == "" {
			return fmt.Errorf("%s: %s", c.RemoteAddr(), a.Status)
		}
		return &model.Error{Kind: no.Kind, Err: errors.New(no.Message)}
	}
	return json.Unmarshal(text, res)
}
