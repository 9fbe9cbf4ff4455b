package member

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

func at4(n byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, n}) }

func newCA(t *testing.T, now time.Time) *authority {
	t.Helper()
	a, err := newAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// signed is a host's certificate.
func signed(t *testing.T, a *authority, id identity, now time.Time) *x509.Certificate {
	t.Helper()
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := request(key, id)
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.sign(csr, id, now)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestNobodyIsCalledMember: no host can have the name of members' second certificate.
func TestNobodyIsCalledMember(t *testing.T) {
	if checkName(nameMember) == nil {
		t.Error("a host can")
	}
	now := time.Now()
	a := newCA(t, now)
	id := identity{"b", []netip.Addr{at4(2)}}
	c, err := a.signMember(signed(t, a, id, now), now)
	if err != nil || c.Subject.CommonName != nameMember || len(c.DNSNames) != 0 || c.VerifyHostname("192.0.2.2") != nil || c.VerifyHostname("192.0.2.1") == nil {
		t.Errorf("%v, %v", c, err)
	}
}

func TestSignedForNobodyElse(t *testing.T) {
	now := time.Now()
	a := newCA(t, now)
	id := identity{"b", []netip.Addr{at4(2)}}
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own := func() *x509.CertificateRequest {
		return &x509.CertificateRequest{Subject: pkix.Name{CommonName: "b"}, DNSNames: []string{"b"}, IPAddresses: []net.IP{{192, 0, 2, 2}}}
	}
	for _, c := range []struct {
		name   string
		key    any
		change func(*x509.CertificateRequest)
		want   string
	}{
		{"own", key, func(*x509.CertificateRequest) {}, ""},
		{"another's name", key, func(r *x509.CertificateRequest) { r.Subject.CommonName = "a" }, "another name"},
		{"another's name beside", key, func(r *x509.CertificateRequest) { r.DNSNames = append(r.DNSNames, "a") }, "another name"},
		{"no name", key, func(r *x509.CertificateRequest) { r.DNSNames = nil }, "another name"},
		{"another's address", key, func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{{192, 0, 2, 1}} }, "other addresses"},
		{"another's address beside", key, func(r *x509.CertificateRequest) { r.IPAddresses = append(r.IPAddresses, net.IP{192, 0, 2, 1}) }, "other addresses"},
		{"a URI", key, func(r *x509.CertificateRequest) { r.URIs = []*url.URL{{Scheme: "spiffe", Host: "a"}} }, "more than"},
		{"an e-mail address", key, func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"root@example.org"} }, "more than"},
		{"P-384", p384, func(*x509.CertificateRequest) {}, "P-256"},
		{"Ed25519", ed, func(*x509.CertificateRequest) {}, "P-256"},
	} {
		r := own()
		c.change(r)
		der, err := x509.CreateCertificateRequest(rand.Reader, r, c.key)
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.sign(encode("CERTIFICATE REQUEST", der), id, now)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	der, _ := x509.CreateCertificateRequest(rand.Reader, own(), key)
	der[len(der)-1] ^= 1
	if _, err := a.sign(encode("CERTIFICATE REQUEST", der), id, now); err == nil {
		t.Error("a request that its key did not sign was answered")
	}
}

func TestCertificateIsNoAuthority(t *testing.T) {
	now := time.Now()
	a := newCA(t, now)
	c := signed(t, a, identity{"b", []netip.Addr{at4(2)}}, now)
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	verify := func(at time.Time, usage x509.ExtKeyUsage, name string) error {
		_, err := c.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage}, DNSName: name})
		return err
	}
	if c.IsCA || c.KeyUsage&x509.KeyUsageCertSign != 0 {
		t.Error("it can sign")
	}
	for _, u := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if err := verify(now, u, "192.0.2.2"); err != nil {
			t.Error(err)
		}
	}
	if verify(now, x509.ExtKeyUsageServerAuth, "192.0.2.1") == nil {
		t.Error("it is good for another's address")
	}
	if verify(now.Add(nodeLife+time.Minute), x509.ExtKeyUsageClientAuth, "") == nil {
		t.Error("it does not end")
	}
	if verify(now.Add(-skew), x509.ExtKeyUsageClientAuth, "") != nil {
		t.Error("a host whose clock is a little late refuses it")
	}
}

func TestRevoked(t *testing.T) {
	now := time.Now()
	a := newCA(t, now)
	serial := big.NewInt(77)
	der, err := a.revoke([]*big.Int{serial}, now)
	if err != nil {
		t.Fatal(err)
	}
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.CheckSignatureFrom(a.cert); err != nil {
		t.Error(err)
	}
	if len(l.RevokedCertificateEntries) != 1 || l.RevokedCertificateEntries[0].SerialNumber.Cmp(serial) != 0 {
		t.Errorf("revoked: %v", l.RevokedCertificateEntries)
	}
}

func TestPinned(t *testing.T) {
	now := time.Now()
	a, other := newCA(t, now), newCA(t, now)
	token, err := newToken(a.cert)
	if err != nil {
		t.Fatal(err)
	}
	own, foreign := signed(t, a, identity{"b", []netip.Addr{at4(2)}}, now), signed(t, other, identity{"b", []netip.Addr{at4(2)}}, now)
	for _, c := range []struct {
		name  string
		chain []*x509.Certificate
		host  string
		now   time.Time
		good  bool
	}{
		{"own", []*x509.Certificate{own, a.cert}, "192.0.2.2", now, true},
		{"at another's address", []*x509.Certificate{own, a.cert}, "192.0.2.3", now, false},
		{"ended", []*x509.Certificate{own, a.cert}, "192.0.2.2", now.Add(nodeLife + time.Hour), false},
		{"without the CA", []*x509.Certificate{own}, "192.0.2.2", now, false},
		{"of another cluster", []*x509.Certificate{foreign, other.cert}, "192.0.2.2", now, false},
		{"of another cluster, with our CA shown", []*x509.Certificate{foreign, a.cert}, "192.0.2.2", now, false},
		{"the CA itself", []*x509.Certificate{a.cert}, "192.0.2.2", now, false},
		{"nothing", nil, "192.0.2.2", now, false},
	} {
		if err := checkPinned(c.chain, token, c.host, c.now); (err == nil) != c.good {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
