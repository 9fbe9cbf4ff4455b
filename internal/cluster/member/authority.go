package member

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Validity of what is signed. Clocks of hosts may differ by skew.
const (
	caLife   = 20 * 365 * 24 * time.Hour
	nodeLife = 90 * 24 * time.Hour
	renewAt  = nodeLife / 3 // that is left
	skew     = 5 * time.Minute
)

// authority signs the certificates of a cluster's hosts.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// identity is whom a certificate is for.
type identity struct {
	name  string
	addrs []netip.Addr
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// newSerial returns 127 random bits (RFC 5280, section 4.1.2.2: positive, up to 20 bytes).
func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

// newAuthority makes one, which can sign hosts' certificates only.
func newAuthority(now time.Time) (*authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "sealane cluster"},
		NotBefore: now.Add(-skew), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{cert, key}, err
}

// parseAuthority reads one from PEM.
func parseAuthority(certPEM, keyPEM []byte) (*authority, error) {
	cert, err := parseCert(certPEM)
	if err != nil {
		return nil, fmt.Errorf("the CA's certificate: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("the CA's key: %w", err)
	}
	if pub, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(key.Public()) {
		return nil, errors.New("the CA's key is of another certificate")
	}
	return &authority{cert, key}, nil
}

// pin is by what a token knows a CA: the SHA-256 of its public key (RFC 7469, section 2.4).
func pin(cert *x509.Certificate) [sha256.Size]byte {
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo)
}

// request makes a signing request, in PEM.
func request(key crypto.Signer, id identity) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: id.name}, DNSNames: []string{id.name}, IPAddresses: netIPs(id.addrs),
	}, key)
	return encode("CERTIFICATE REQUEST", der), err
}

// sign answers a request, if it is for whom it ought to be and nobody else.
func (a *authority) sign(requestPEM []byte, id identity, now time.Time) (*x509.Certificate, error) {
	r, err := parseRequest(requestPEM)
	if err != nil {
		return nil, err
	}
	if err := checkRequest(r, id); err != nil {
		return nil, err
	}
	return a.issue(r.PublicKey, x509.Certificate{Subject: pkix.Name{CommonName: id.name}, DNSNames: []string{id.name}, IPAddresses: netIPs(id.addrs)}, now)
}

// nameMember is the name of all members' second certificate. No host has it: see checkName.
const nameMember = "sealane member"

// signMember makes the second certificate of a member, for the key of its first: with it
// a member does what is for members only.
func (a *authority) signMember(host *x509.Certificate, now time.Time) (*x509.Certificate, error) {
	return a.issue(host.PublicKey, x509.Certificate{Subject: pkix.Name{CommonName: nameMember}, IPAddresses: host.IPAddresses}, now)
}

// issue signs a certificate with the names of c.
func (a *authority) issue(key any, c x509.Certificate, now time.Time) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	c.SerialNumber, c.NotBefore, c.NotAfter, c.BasicConstraintsValid = serial, now.Add(-skew), now.Add(nodeLife), true
	c.KeyUsage = x509.KeyUsageDigitalSignature
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, &c, a.cert, key, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// papers are a host's certificates.
type papers struct {
	host   *x509.Certificate // for its name
	member *x509.Certificate // nameMember; nil: it is none
}

// papersOf answers a host's request, and puts what it gets in its record.
func (a *authority) papersOf(requestPEM []byte, rec Record, now time.Time) (p papers, with Record, err error) {
	if p.host, err = a.sign(requestPEM, rec.identity(), now); err != nil || !rec.Member {
		return p, rec.with(now, p.all()...), err
	}
	p.member, err = a.signMember(p.host, now)
	return p, rec.with(now, p.all()...), err
}

func (p papers) all() []*x509.Certificate {
	return slices.DeleteFunc([]*x509.Certificate{p.host, p.member}, func(c *x509.Certificate) bool { return c == nil })
}

func parseRequest(text []byte) (*x509.CertificateRequest, error) {
	b, _ := pem.Decode(text)
	if b == nil || b.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("no signing request")
	}
	r, err := x509.ParseCertificateRequest(b.Bytes)
	if err != nil {
		return nil, errors.New("not a signing request")
	}
	if err := r.CheckSignature(); err != nil {
		return nil, errors.New("signing request: not signed by its key")
	}
	return r, nil
}

// checkRequest refuses a request that asks for more than the identity's names.
func checkRequest(r *x509.CertificateRequest, id identity) error {
	key, ok := r.PublicKey.(*ecdsa.PublicKey)
	switch {
	case !ok || key.Curve != elliptic.P256():
		return errors.New("signing request: want a key on P-256")
	case r.Subject.CommonName != id.name || !slices.Equal(r.DNSNames, []string{id.name}):
		return fmt.Errorf("signing request: is for another name than %s", id.name)
	case !slices.EqualFunc(r.IPAddresses, netIPs(id.addrs), net.IP.Equal):
		return fmt.Errorf("signing request: is for other addresses than those of %s", id.name)
	case len(r.URIs)+len(r.EmailAddresses) > 0:
		return errors.New("signing request: is for more than names and addresses")
	}
	return nil
}

// revoke returns a list of certificates that are refused (RFC 5280, section 5), in DER.
func (a *authority) revoke(serials []*big.Int, now time.Time) ([]byte, error) {
	l := &x509.RevocationList{Number: big.NewInt(now.UnixNano()), ThisUpdate: now.Add(-skew), NextUpdate: now.Add(caLife)}
	for _, s := range serials {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: now})
	}
	return x509.CreateRevocationList(rand.Reader, l, a.cert, a.key)
}

// netIPs are addresses as crypto/x509 has them.
func netIPs(addrs []netip.Addr) []net.IP {
	var out []net.IP
	for _, a := range addrs {
		out = append(out, a.AsSlice())
	}
	return out
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func encodeCert(c *x509.Certificate) []byte { return encode("CERTIFICATE", c.Raw) }

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return encode("PRIVATE KEY", der), err
}

func parseCert(text []byte) (*x509.Certificate, error) {
	b, rest := pem.Decode(text)
	if b == nil || b.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("not one certificate in PEM")
	}
	return x509.ParseCertificate(b.Bytes)
}

func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	b, _ := pem.Decode(text)
	if b == nil || b.Type != "PRIVATE KEY" {
		return nil, errors.New("not a key in PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, errors.New("not a key") // what is there is a secret
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("not a key on P-256")
	}
	return ec, nil
}
