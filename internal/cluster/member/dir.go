package member

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// dir is the directory of this host's part in a cluster. Only root reads it:
//
//	host.json   what this host is there
//	ca.crt      who signs
//	ca.key      its key; on hosts that admit others
//	host.crt    this host's certificate
//	member.crt  its second; on members
//	host.key    the key of both, which stays as long as the host is in the cluster
//	revoked     certificates that are refused, in DER; on members
//	token       the last token that was made here
//	etcd/       etcd's data; on members
type dir string

const (
	fileHost    = "host.json"
	fileMember  = "member.crt"
	fileCA      = "ca.crt"
	fileCAKey   = "ca.key"
	fileCert    = "host.crt"
	fileKey     = "host.key"
	fileRevoked = "revoked"
	fileToken   = "token"
	dirEtcd     = "etcd"
)

// hostFile is host.json.
type hostFile struct {
	Name    string     `json:"name"`
	Addr    netip.Addr `json:"address"`
	Member  bool       `json:"member"`            // it runs an etcd
	Initial string     `json:"initial,omitempty"` // of etcd's members at the time, as its --initial-cluster
	Joined  bool       `json:"joined"`            // else it began the cluster
	Voters  []string   `json:"voters"`            // their URLs for clients, as last known
}

func (d dir) path(name string) string { return filepath.Join(string(d), name) }

func (d dir) read(name string) ([]byte, error) { return os.ReadFile(d.path(name)) }

// write puts a file in place of another at once.
func (d dir) write(name string, text []byte) error {
	f, err := os.OpenFile(d.path(name+".new"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(d.path(name+".new"), d.path(name))
}

// makeEtcd makes the directory that a member's etcd begins in, so that one that is missing
// later is known to be lost: an etcd that begins anew as a member that voted before may
// take back what it said, or be a cluster by itself.
func (d dir) makeEtcd() error { return os.MkdirAll(d.path(dirEtcd), 0o700) }

// checkEtcd says that it is lost.
func (d dir) checkEtcd(name string) error {
	if _, err := os.Stat(d.path(dirEtcd)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%s is gone, this member's data: sealane node rm %s on another, then sealane cluster leave --force and join here; without another, init", d.path(dirEtcd), name)
}

// Bytes that are free where an etcd begins, which takes as much for a segment of its log, and
// while it runs: one that cannot write ends for good, with its locks held.
const (
	roomToStart = 96 << 20
	roomToRun   = 16 << 20
)

// checkRoom says that less is free.
func (d dir) checkRoom(want uint64) error {
	var s syscall.Statfs_t
	if err := syscall.Statfs(d.path(dirEtcd), &s); err != nil {
		return err
	}
	if free := s.Bavail * uint64(s.Bsize); free < want { //nolint:gosec // a size is not negative
		return fmt.Errorf("%d MiB are free at %s, and this member's etcd needs %d to start: make room", free>>20, d.path(dirEtcd), roomToStart>>20)
	}
	return nil
}

func (d dir) writeHost(h hostFile) error {
	text, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return err
	}
	return d.write(fileHost, append(text, '\n'))
}

func (d dir) readHost() (h hostFile, err error) {
	text, err := d.read(fileHost)
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(text, &h); err != nil {
		return h, fmt.Errorf("%s: %w", d.path(fileHost), err)
	}
	if h.Name == "" || !h.Addr.IsValid() || len(h.Voters) == 0 {
		return h, fmt.Errorf("%s: not complete", d.path(fileHost))
	}
	return h, nil
}

// used reports whether this host is in a cluster.
func (d dir) used() bool {
	_, err := os.Stat(d.path(fileHost))
	return !errors.Is(err, fs.ErrNotExist)
}

// stage returns where to prepare the directory.
func (d dir) stage() (dir, error) {
	s := d + ".new"
	if err := os.RemoveAll(string(s)); err != nil {
		return "", err
	}
	return s, os.MkdirAll(string(s), 0o700)
}

// publish puts a prepared directory in place.
func (d dir) publish(staged dir) error {
	if err := os.RemoveAll(string(d)); err != nil { // without host.json nothing of it counts
		return err
	}
	return os.Rename(string(staged), string(d))
}

// remove forgets the cluster: first that there is one, then the secrets.
func (d dir) remove() error {
	if err := os.Remove(d.path(fileHost)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(string(d))
}

func (d dir) authority() (*authority, error) {
	cert, err := d.read(fileCA)
	if err != nil {
		return nil, err
	}
	key, err := d.read(fileCAKey)
	if err != nil {
		return nil, err
	}
	return parseAuthority(cert, key)
}

// readRevoked reads the certificates that are refused, as far as they were known.
func (d dir) readRevoked() (map[string]struct{}, error) {
	der, err := d.read(fileRevoked)
	if err != nil {
		return nil, err
	}
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	out := map[string]struct{}{}
	for _, c := range l.RevokedCertificateEntries {
		out[c.SerialNumber.Text(16)] = struct{}{}
	}
	return out, nil
}

// writePapers puts this host's certificates in place.
func (d dir) writePapers(p papers) error {
	if p.member != nil {
		if err := d.write(fileMember, encodeCert(p.member)); err != nil {
			return err
		}
	}
	return d.write(fileCert, encodeCert(p.host))
}

// writeRevoked lists the certificates that are refused.
func (d dir) writeRevoked(serials []*big.Int, now time.Time) error {
	a, err := d.authority()
	if err != nil {
		return err
	}
	der, err := a.revoke(serials, now)
	if err != nil {
		return err
	}
	return d.write(fileRevoked, der)
}
