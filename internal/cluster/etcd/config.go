package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
)

// Config is how to reach an etcd.
type Config struct {
	// Endpoints are its members: http://HOST:PORT, https://HOST:PORT, HOST:PORT (which
	// is https if CA or Cert is given) or unix:///PATH; all of one kind.
	Endpoints []string

	CA   string // file: who signed the members' certificates; "": who the system trusts
	Cert string // file: our certificate, if etcd wants one
	Key  string // file: its key

	Username     string // if etcd wants one
	Password     string
	PasswordFile string // instead of Password; the first line

	Log *slog.Logger // what etcd's client has to say, at level debug; may be nil
}

// endpoints returns the members' URLs.
func (c Config) endpoints() ([]string, error) {
	if len(c.Endpoints) == 0 {
		return nil, errors.New("no endpoint: give one such as http://192.0.2.1:2379")
	}
	secure := c.CA != "" || c.Cert != "" || c.Key != ""
	var out []string
	kind := ""
	for _, e := range c.Endpoints {
		if !strings.Contains(e, "://") {
			e = map[bool]string{true: "https://", false: "http://"}[secure] + e
		}
		u, err := parseEndpoint(e)
		switch {
		case err != nil:
			return nil, err
		case secure && u.Scheme != "https":
			return nil, fmt.Errorf("endpoint %s: certificates are of use with https:// only", e)
		case kind != "" && u.Scheme != kind:
			return nil, fmt.Errorf("endpoint %s: all are to be %s:// or none", e, kind)
		}
		kind = u.Scheme
		out = append(out, strings.TrimSuffix(e, "/"))
	}
	return out, nil
}

// parseEndpoint says what is wrong with a URL, without the password in it.
func parseEndpoint(e string) (*url.URL, error) {
	u, err := url.Parse(e)
	if err != nil {
		return nil, errors.New("an endpoint is no URL: give one such as http://192.0.2.1:2379")
	}
	switch {
	case u.User != nil:
		return nil, fmt.Errorf("endpoint %s: user name and password go elsewhere", u.Redacted())
	case u.Scheme == "unix" && u.Host == "" && u.Path != "":
		return u, nil
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("endpoint %s: it begins with http://, https:// or unix:///", e)
	case u.Hostname() == "" || u.Port() == "":
		return nil, fmt.Errorf("endpoint %s: it needs a host and a port, which is 2379 mostly", e)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("endpoint %s: nothing follows the port", e)
	}
	return u, nil
}

// tls returns what is to be trusted and shown; nil: it is not used. Whether a
// certificate of ours was asked for is noted: without one, the member just hangs up.
func (c Config) tls(used bool, asked *atomic.Bool) (*tls.Config, error) {
	if (c.Cert == "") != (c.Key == "") {
		return nil, errors.New("certificate: it takes a file with the certificate and one with its key")
	}
	if !used {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		b, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("CA: %w", err)
		}
		if t.RootCAs = x509.NewCertPool(); !t.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("CA: %s: no certificate in it (PEM is what it takes)", c.CA)
		}
	}
	pair := func() (tls.Certificate, error) {
		if c.Cert == "" {
			return tls.Certificate{}, nil
		}
		return tls.LoadX509KeyPair(c.Cert, c.Key)
	}
	if _, err := pair(); err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", c.Cert, c.Key, err)
	}
	t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked.Store(true)
		p, err := pair()
		return &p, err
	}
	return t, nil
}

func (c Config) password() (string, error) {
	p := c.Password
	if c.PasswordFile != "" {
		if p != "" {
			return "", errors.New("password: give it or a file with it, not both")
		}
		b, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("password: %w", err)
		}
		p, _, _ = strings.Cut(string(b), "\n")
		p = strings.TrimSuffix(p, "\r")
	}
	if (c.Username == "") != (p == "") {
		return "", errors.New("user name and password: one is of no use without the other")
	}
	return p, nil
}
