package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.etcd.io/bbolt"

	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/model"
)

var _ journal.Journal = (*Store)(nil)

func mustOpen(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// full has every field set, so that a field that is not stored shows.
func full() Change {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	n := &model.Network{ID: "aaaaaaaaaaaa", Name: "app", Driver: "bridge", Internal: true, Created: at,
		Subnets: []model.Subnet{{Prefix: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.1"),
			Range: netip.MustParsePrefix("10.0.0.128/25"), Aux: map[string]netip.Addr{"r": netip.MustParseAddr("10.0.0.9")}}},
		Options: model.Options{Device: "br0", MTU: 1400, NoICC: true, NoMasq: true, Adopted: true},
		Labels:  map[string]string{"k": "v"}}
	sb := &model.Sandbox{ID: "bbbbbbbbbbbb", Name: "web", Mode: model.ModeOther, NetNS: "/proc/1/ns/net", Inode: 7, Donor: "cccccccccccc",
		Hostname: "web", Domain: "d", DNS: model.DNS{Servers: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Search: []string{"s"}, Options: []string{"o"}},
		Hosts: []model.HostEntry{{Name: "h", Addr: netip.MustParseAddr("192.0.2.2")}}, Sysctls: map[string]string{"a": "b"},
		Expose: []model.PortMapping{{Proto: "tcp", Port: 80, Count: 1}},
		Endpoints: []model.Endpoint{{ID: "dddddddddddd", Network: n.ID, IfName: "eth0", MAC: "02:42:0a:00:00:02",
			Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}, Aliases: []string{"w"}, Priority: 3}},
		Ports:   []model.PortMapping{{Proto: "udp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 1, Port: 2, Count: 3, HostEnd: 4}},
		Command: []string{"sleep"}, AutoRemove: true, Process: &model.Process{PID: 1, Start: 2},
		Exit: &model.Exit{Code: 3, Signal: "x", Lost: true, At: at}, Created: at}
	return Change{Networks: []Revision{{New: n}}, Sandboxes: []*model.Sandbox{sb}, Cursors: map[string]string{"p": "10.0.0.2"}, Meta: map[string]string{"ula": "fd00::/48"}}
}

func TestEveryFieldSurvivesReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	want := full()
	if err := s.Commit(want); err != nil {
		t.Fatal(err)
	}
	s.Close()
	got, err := mustOpen(t, path).Load()
	if err != nil {
		t.Fatal(err)
	}
	opts := cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})}
	if d := cmp.Diff([]*model.Network{want.Networks[0].New}, got.Networks, opts); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(want.Sandboxes, got.Sandboxes, opts); d != "" {
		t.Error(d)
	}
	if got.Cursors["p"] != "10.0.0.2" || got.Meta["ula"] != "fd00::/48" {
		t.Errorf("cursors %v meta %v", got.Cursors, got.Meta)
	}
}

func TestDelete(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "s.db"))
	s.Commit(full())
	if err := s.Commit(Change{Networks: []Revision{{Old: full().Networks[0].New}}, DelSandbox: []model.ID{"bbbbbbbbbbbb", "nothere00000"}}); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Load(); len(got.Networks)+len(got.Sandboxes) != 0 {
		t.Errorf("left: %v", got)
	}
}

func TestJournalKeepsTheFirstValue(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "s.db"))
	s.Put("k", "before")
	s.Put("k", "later")
	for range 2 {
		m, _ := s.Entries()
		if m["k"] != "before" {
			t.Errorf("entries %v", m)
		}
		m["k"] = "whoever asked may change it"
	}
	s.Erase("k")
	if m, _ := s.Entries(); len(m) != 0 {
		t.Errorf("after erase: %v", m)
	}
}

func TestSecondDaemonIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	first := mustOpen(t, path)
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "another daemon") || !strings.Contains(err.Error(), path) {
		t.Errorf("second open: %v", err)
	}
	if err := first.Commit(full()); err != nil {
		t.Errorf("the first, after the second was refused: %v", err)
	}
	first.Close()
	if got, err := mustOpen(t, path).Load(); err != nil || len(got.Networks) != 1 {
		t.Errorf("the second, after the first has closed: %v, %v", got, err)
	}
}

func TestNewerFormatIsRefusedAndKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(Change{Meta: map[string]string{"format": "3"}}); err != nil {
		t.Fatal(err)
	}
	_, err = s.Load()
	if _, ok := errors.AsType[*CorruptError](err); !ok || !strings.Contains(err.Error(), `format "3", this version knows "2"`) || !strings.Contains(err.Error(), path) {
		t.Errorf("load: %v", err)
	}
	s.Close()
	before, _ := os.ReadFile(path)
	if _, err := mustOpen(t, path).Load(); err == nil {
		t.Error("accepted the second time")
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the refused file was changed")
	}
}

func TestMissingBucketIsDamage(t *testing.T) {
	for _, bucket := range [][]byte{bucketMeta, bucketNetworks, bucketSandboxes, bucketCursors} {
		s := mustOpen(t, filepath.Join(t.TempDir(), "s.db"))
		if err := s.db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucket) }); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load(); err == nil || !strings.Contains(err.Error(), "bucket "+string(bucket)+" is missing") {
			t.Errorf("without %s: %v", bucket, err)
		}
	}
}

// TestDaemonsAtOnce: of daemons that begin together without a file, one has it,
// and the others know.
func TestDaemonsAtOnce(t *testing.T) {
	for range 3 {
		dir := t.TempDir()
		path := filepath.Join(dir, "s.db")
		errs, stores := make(chan error, 3), make(chan *Store, 3)
		for range 3 {
			go func() {
				s, err := Open(path)
				if err == nil {
					stores <- s
				}
				errs <- err
			}()
		}
		refused := 0
		for range 3 {
			if err := <-errs; err != nil {
				if refused++; !strings.Contains(err.Error(), "another daemon") {
					t.Error(err)
				}
			}
		}
		if refused != 2 {
			t.Fatalf("%d of 3 daemons were refused", refused)
		}
		s := <-stores
		if err := s.Commit(full()); err != nil {
			t.Error(err)
		}
		s.Close()
		if got, err := mustOpen(t, path).Load(); err != nil || len(got.Networks) != 1 {
			t.Errorf("%v, %v", got, err)
		}
		if files, _ := os.ReadDir(dir); len(files) != 1 {
			t.Errorf("files: %v", files)
		}
	}
}

// TestCommitIsAllOrNothing: a change with a part that cannot be written leaves
// nothing of itself.
func TestCommitIsAllOrNothing(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "s.db"))
	bad := full()
	bad.Meta[strings.Repeat("k", bbolt.MaxKeySize+1)] = "too long"
	if err := s.Commit(bad); err == nil {
		t.Fatal("committed")
	}
	if got, err := s.Load(); err != nil || len(got.Networks)+len(got.Sandboxes)+len(got.Cursors) != 0 {
		t.Errorf("left: %v, %v", got, err)
	}
}

// TestDamageIsRefusedAndKept flips bytes all over the file, empties and cuts
// it: what comes back is a sound snapshot or a CorruptError that names the
// file, and a refused file is left byte for byte.
func TestDamageIsRefusedAndKept(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	s, _ := Open(path)
	many := full()
	for i := range 100 {
		sb := *many.Sandboxes[0]
		sb.ID = model.ID(fmt.Sprintf("%012x", i))
		many.Sandboxes = append(many.Sandboxes, &sb)
	}
	s.Commit(many)
	s.Close()
	good, _ := os.ReadFile(path)
	r := rand.New(rand.NewPCG(3, 4))
	refused := 0
	for i := range 150 {
		bad := append([]byte(nil), good...)
		switch {
		case i == 0:
			bad = nil
		case i == 1:
			bad = bad[:100]
		case i == 2:
			bad = bad[:len(bad)/2]
		case i == 3:
			bad = []byte(strings.Repeat("junk", 5000))
		default:
			at := r.IntN(len(bad) - 64)
			for j := range 64 {
				bad[at+j] = byte(r.Uint32())
			}
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(path)
		if err == nil {
			var snap Snapshot
			if snap, err = s.Load(); err == nil && fmt.Sprintf("%d %d %s", len(snap.Networks), len(snap.Sandboxes), snap.Meta["ula"]) != "1 101 fd00::/48" {
				t.Errorf("damage %d: accepted with %d networks, %d sandboxes, meta %v", i, len(snap.Networks), len(snap.Sandboxes), snap.Meta)
			}
			s.Close()
		}
		if err == nil {
			continue // it hit a page that is not in use
		}
		refused++
		if _, ok := errors.AsType[*CorruptError](err); !ok || !strings.Contains(err.Error(), path) {
			t.Errorf("damage %d: %v, want a CorruptError naming the file", i, err)
		}
		if now, _ := os.ReadFile(path); string(now) != string(bad) {
			t.Errorf("damage %d: the refused file was changed", i)
		}
	}
	if refused < 30 {
		t.Errorf("only %d of 150 damages were noticed", refused)
	}
}

func TestFullDiskLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := mustOpen(t, path)
	if err := s.Commit(full()); err != nil {
		t.Fatal(err)
	}
	limitFileSize(t, path)
	big := full()
	big.Networks[0].New.Labels["k"] = strings.Repeat("x", 1<<22)
	if err := s.Commit(big); err == nil || !strings.Contains(err.Error(), path) {
		t.Fatalf("commit on a full disk: %v", err)
	}
	got, err := s.Load()
	if err != nil || len(got.Networks) != 1 || got.Networks[0].Labels["k"] != "v" {
		t.Errorf("after the refused commit: %v %v", got.Networks, err)
	}
}

// An overlay network's parts come back as they were, one by one.
func TestParts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	at := netip.MustParseAddr
	far := func(id, mac string) *model.Far {
		return &model.Far{ID: model.ID(id), Node: "n2", At: at("192.0.2.2"), MAC: mac}
	}
	web := &model.Service{ID: "5", Name: "Web", VIPs: []netip.Addr{at("10.0.0.9")}, Ports: []model.ServicePort{{Port: 80, Proto: "tcp"}},
		Backends: []model.Member{{Endpoint: "e1", Addrs: []netip.Addr{at("10.0.0.2")}}}}
	network := func(id string, services []*model.Service, far ...*model.Far) *model.Network {
		n := &model.Network{ID: model.ID(id), Name: id, Driver: model.DriverOverlay, Overlay: &model.Overlay{VNI: 4096, Far: far, Services: services}}
		n.Overlay.Derive()
		return n
	}
	e1, e2 := far("e1", "02:42:0a:00:00:02"), far("e2", "02:42:0a:00:00:03")
	first, other := network("a", []*model.Service{web}, e1, e2), network("ab", nil, e1)
	second := network("a", []*model.Service{{ID: "6", Name: "api"}, web}, far("e1", "02:42:0a:00:00:04"))
	opts := cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})
	for i, c := range []struct{ old, now *model.Network }{{nil, first}, {first, second}, {second, first}, {first, nil}} {
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Commit(Change{Networks: []Revision{{Old: c.old, New: c.now}, {Old: other, New: other}}})
		if i == 0 {
			err = errors.Join(err, s.Commit(Change{Networks: []Revision{{New: other}}}))
		}
		if err != nil {
			t.Fatal(err)
		}
		want := []*model.Network{c.now, other}
		if c.now == nil {
			want = want[1:]
		}
		got, err := s.Load()
		if d := cmp.Diff(want, got.Networks, opts); d != "" || err != nil {
			t.Errorf("commit %d: %v\n%s", i, err, d)
		}
		s.Close()
	}
}
