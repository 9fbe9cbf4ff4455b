package etcd_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/etcd"
)

// refused wants calls to be refused with words, and never with the password.
func refused(t *testing.T, s *etcd.Store, words ...string) {
	t.Helper()
	// A busy machine may need more than one call's time to find out.
	insist := func(call func() error) (err error) {
		for range 4 {
			if err = call(); !errors.Is(err, cluster.ErrAway) {
				return err
			}
		}
		return err
	}
	var list, commit, watch error
	var wg sync.WaitGroup
	wg.Go(func() { list = insist(func() error { _, err := s.List(t.Context(), "/a"); return err }) })
	wg.Go(func() {
		commit = insist(func() error { _, _, err := s.Commit(t.Context(), put("/a/1", "1", time.Hour)); return err })
	})
	wg.Go(func() { watch = insist(func() error { return (<-s.Watch(t.Context(), "/a", 1)).Err }) })
	wg.Wait()
	for op, err := range map[string]error{"list": list, "commit": commit, "watch": watch} {
		if !errors.Is(err, cluster.ErrRefused) || errors.Is(err, cluster.ErrAway) {
			t.Errorf("%s: %v", op, err)
			continue
		}
		for _, w := range append(words, op) {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v: nothing of %q", op, err, w)
			}
		}
		if strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %q", op, err)
		}
	}
}

func put(key, value string, ttl time.Duration) cluster.Txn {
	return cluster.Txn{Put: []cluster.Put{{Key: key, Value: []byte(value), TTL: ttl}}}
}

// guarded has an etcd ask who is there: ann, who may read and write from /b to /c.
func guarded(t *testing.T, c *clientv3.Client) {
	t.Helper()
	for _, err := range []error{
		errOf(c.UserAdd(t.Context(), "root", "root")), errOf(c.UserGrantRole(t.Context(), "root", "root")),
		errOf(c.UserAdd(t.Context(), "ann", "s3cret")), errOf(c.RoleAdd(t.Context(), "b")), errOf(c.UserGrantRole(t.Context(), "ann", "b")),
		errOf(c.RoleGrantPermission(t.Context(), "b", "/b", "/c", 2)), errOf(c.AuthEnable(t.Context())),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestUsers(t *testing.T) {
	t.Parallel()
	m := newMember(t, func(c *embed.Config) { c.BcryptCost = 4 })
	c := admin(t, m.url)
	guarded(t, c)
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ann := dial(t, etcd.Config{Endpoints: []string{m.url}, Username: "ann", PasswordFile: file})
	refused(t, ann, `user "ann" may not do it`)
	refused(t, dial(t, etcd.Config{Endpoints: []string{m.url}}), "user name and a password")
	refused(t, dial(t, etcd.Config{Endpoints: []string{m.url}, Username: "ann", Password: "s3cret2"}), `"ann" or its password is wrong`)

	rev, done, err := ann.Commit(t.Context(), put("/b/1", "1", time.Hour))
	if err != nil || !done {
		t.Fatal(done, err)
	}
	if b := <-ann.Watch(t.Context(), "/b/", rev-1); len(b.Changes)+len((<-ann.Watch(t.Context(), "/b/", rev)).Changes) > 1 || b.Err != nil {
		t.Errorf("watch: %+v", b)
	}
	m.stop() // tokens end with the server
	m.start()
	for range 4 {
		if _, err = ann.List(t.Context(), "/b/"); err == nil {
			break
		}
	}
	if snap, err := ann.List(t.Context(), "/b/"); err != nil || len(snap.Entries) != 1 {
		t.Errorf("after a restart: %v, %v", snap, err)
	}
	if b := <-ann.Watch(t.Context(), "/b/", rev); b.Err != nil {
		t.Errorf("watch after a restart: %v", b.Err)
	}

	// Another password is used once its file has it.
	root, err := clientv3.New(clientv3.Config{Endpoints: []string{m.url}, Username: "root", Password: "root", Context: t.Context()})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if _, err := root.UserChangePassword(t.Context(), "ann", "other"); err != nil {
		t.Fatal(err)
	}
	refused(t, ann, `"ann" or its password is wrong`)
	if err := os.WriteFile(file, []byte("other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if _, err = ann.List(t.Context(), "/b/"); err == nil {
			break
		}
	}
	if snap, err := ann.List(t.Context(), "/b/"); err != nil || len(snap.Entries) != 1 {
		t.Errorf("with another password: %v, %v", snap, err)
	}
}

// TestRightTakenAway has a user lose a right while it watches, which etcd itself says to the
// next call, and before version 3.6 to no watch.
func TestRightTakenAway(t *testing.T) {
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		rightTakenAway(t, newMember(t, func(c *embed.Config) { c.BcryptCost = 4 }).url)
	})
	t.Run("Debian's", func(t *testing.T) {
		t.Parallel()
		rightTakenAway(t, newPrograms(t, 1)[0].url)
	})
}

func rightTakenAway(t *testing.T, url string) {
	c := admin(t, url)
	for _, err := range []error{
		errOf(c.UserAdd(t.Context(), "root", "root")), errOf(c.UserGrantRole(t.Context(), "root", "root")),
		errOf(c.UserAdd(t.Context(), "ann", "s3cret")), errOf(c.RoleAdd(t.Context(), "b")), errOf(c.UserGrantRole(t.Context(), "ann", "b")),
		errOf(c.RoleGrantPermission(t.Context(), "b", "/b", "/c", clientv3.PermissionType(clientv3.PermReadWrite))), errOf(c.AuthEnable(t.Context())),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := clientv3.New(clientv3.Config{Endpoints: []string{url}, Username: "root", Password: "root", Context: t.Context()})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	s := dial(t, etcd.Config{Endpoints: []string{url}, Username: "ann", Password: "s3cret"})
	rev, done, err := s.Commit(t.Context(), put("/b/1", "1", 0))
	if err != nil || !done {
		t.Fatal(done, err)
	}
	proof := put("/b/1", "2", 0)
	proof.If = []cluster.If{{Key: "/b/1", Rev: math.MaxInt64}}
	if _, done, err := s.Commit(t.Context(), proof); err != nil || done {
		t.Fatalf("a transaction whose condition never holds: %v, %v", done, err)
	}
	watch := s.Watch(t.Context(), "/b/", rev)
	if b := <-watch; b.Err != nil {
		t.Fatal(b.Err)
	}

	if _, err := root.RoleRevokePermission(t.Context(), "b", "/b", "/c"); err != nil {
		t.Fatal(err)
	}
	if _, err := root.RoleGrantPermission(t.Context(), "b", "/b", "/c", clientv3.PermissionType(clientv3.PermRead)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Commit(t.Context(), proof); !errors.Is(err, cluster.ErrRefused) {
		t.Errorf("one that would not be done either, of who may only read: %v", err)
	}
	if _, err := root.RoleRevokePermission(t.Context(), "b", "/b", "/c"); err != nil {
		t.Fatal(err)
	}
	select {
	case b := <-watch:
		if !errors.Is(b.Err, cluster.ErrRefused) || !strings.Contains(b.Err.Error(), `user "ann" may not do it`) {
			t.Errorf("the watch: %+v", b)
		}
	case <-time.After(30 * time.Second):
		t.Error("the watch says nothing of a right that is gone")
	}
}

func errOf[T any](_ T, err error) error { return err }

// authority signs certificates into files.
type authority struct {
	t    *testing.T
	dir  string
	name string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t, dir: t.TempDir(), name: name}
	a.sign(name, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign })
	return a
}

// sign writes NAME.crt and NAME.key, and returns their paths.
func (a *authority) sign(name string, change func(*x509.Certificate)) (cert, key string) {
	a.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(c)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer, a.cert, a.key = c, k, c, k
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &k.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key = filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key")
	for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return cert, key
}

func (a *authority) file() string { return filepath.Join(a.dir, a.name+".crt") }

func TestCertificates(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	secure := func(name string, change func(*x509.Certificate)) *member {
		cert, key := ours.sign(name, change)
		return newMember(t, func(c *embed.Config) {
			c.ListenClientUrls[0].Scheme = "https"
			c.ClientTLSInfo = transport.TLSInfo{CertFile: cert, KeyFile: key, TrustedCAFile: ours.file(), ClientCertAuth: true, Logger: nil}
		})
	}
	m := secure("server", nil)
	endpoint := []string{strings.Replace(m.url, "http:", "https:", 1)}
	cert, key := ours.sign("client", nil)
	foreign, foreignKey := theirs.sign("client", nil)
	other := secure("elsewhere", func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"etcd.example"} })
	plain := newMember(t)
	asTLS := func(m *member) []string { return []string{strings.Replace(m.url, "http:", "https:", 1)} }
	for name, c := range map[string]struct {
		config etcd.Config
		want   string
	}{
		"none of ours":      {etcd.Config{Endpoints: endpoint, CA: ours.file()}, "it takes a certificate of ours"},
		"ours of others":    {etcd.Config{Endpoints: endpoint, CA: ours.file(), Cert: foreign, Key: foreignKey}, "certificate"},
		"another authority": {etcd.Config{Endpoints: endpoint, CA: theirs.file(), Cert: cert, Key: key}, "the CA file is not of who signed"},
		"one of two":        {etcd.Config{Endpoints: append(asTLS(other), newURL("https")), CA: theirs.file(), Cert: cert, Key: key}, "(" + strings.TrimPrefix(other.url, "http://") + ")"},
		"another name":      {etcd.Config{Endpoints: asTLS(other), CA: ours.file(), Cert: cert, Key: key}, "does not name the endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused(t, dial(t, c.config), c.want)
		})
	}
	t.Run("no TLS there", func(t *testing.T) {
		t.Parallel()
		_, err := dial(t, etcd.Config{Endpoints: asTLS(plain), CA: ours.file()}).List(t.Context(), "/")
		if err == nil || !strings.Contains(err.Error(), "the endpoint is http://") {
			t.Errorf("list: %v", err)
		}
	})
	s := dial(t, etcd.Config{Endpoints: endpoint, CA: ours.file(), Cert: cert, Key: key})
	if _, done, err := s.Commit(t.Context(), put("/a", "1", 0)); err != nil || !done {
		t.Fatal(done, err)
	}
}

// TestAnotherAuthority has the CA of an etcd replaced: what the files say by then is trusted and
// shown, without a new start.
func TestAnotherAuthority(t *testing.T) {
	t.Parallel()
	old, next := newAuthority(t, "old"), newAuthority(t, "next")
	serve := func(a *authority) func(*embed.Config) {
		cert, key := a.sign("server", nil)
		return func(c *embed.Config) {
			c.ListenClientUrls[0].Scheme = "https"
			c.ClientTLSInfo = transport.TLSInfo{CertFile: cert, KeyFile: key, TrustedCAFile: a.file(), ClientCertAuth: true}
		}
	}
	m := newMember(t, serve(old))
	dir := t.TempDir()
	ca, cert, key := filepath.Join(dir, "ca"), filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	use := func(a *authority) {
		t.Helper()
		c, k := a.sign("client", nil)
		for to, from := range map[string]string{ca: a.file(), cert: c, key: k} {
			b, err := os.ReadFile(from)
			if err == nil {
				err = os.WriteFile(to, b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	use(old)
	s := dial(t, etcd.Config{Endpoints: []string{strings.Replace(m.url, "http:", "https:", 1)}, CA: ca, Cert: cert, Key: key})
	ready(t, s)
	m.stop()
	serve(next)(m.cfg)
	m.start()
	refused(t, s, "the CA file is not of who signed")
	use(next)
	ready(t, s)
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	s := dial(t, etcd.Config{Endpoints: []string{newURL("http")}})
	began := time.Now()
	_, err := s.List(t.Context(), "/")
	if took := time.Since(began); took > cluster.Patience+5*time.Second {
		t.Errorf("it took %s", took)
	}
	if !errors.Is(err, cluster.ErrAway) || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), "\n") {
		t.Errorf("list: %v", err)
	}
	t.Log(err)
}

func TestConfig(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	one := []string{"http://192.0.2.1:2379"}
	for want, c := range map[string]etcd.Config{
		"no endpoint": {},
		"endpoint ftp://192.0.2.1:1: it begins with": {Endpoints: []string{"ftp://192.0.2.1:1"}},
		"it needs a host and a port":                 {Endpoints: []string{"http://192.0.2.1"}},
		"nothing follows the port":                   {Endpoints: []string{"http://192.0.2.1:2379/v2"}},
		"user name and password go elsewhere":        {Endpoints: []string{"http://ann:s3cret@192.0.2.1:2379"}},
		"all are to be http:// or none":              {Endpoints: []string{one[0], "unix:///run/etcd"}},
		"certificates are of use with https:// only": {Endpoints: one, CA: bad},
		"no certificate in it":                       {Endpoints: []string{"192.0.2.1:2379"}, CA: bad},
		"it takes a file with the certificate":       {Endpoints: []string{"192.0.2.1:2379"}, Cert: bad},
		"certificate " + bad:                         {Endpoints: []string{"192.0.2.1:2379"}, Cert: bad, Key: bad},
		"one is of no use without the other":         {Endpoints: one, Password: "s3cret"},
		"not both":                                   {Endpoints: one, Username: "ann", Password: "s3cret", PasswordFile: bad},
		"password: open":                             {Endpoints: one, Username: "ann", PasswordFile: bad + "no"},
	} {
		s, err := etcd.Dial(c)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.HasPrefix(err.Error(), "etcd") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
