package bpf

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kstate"
)

// childEnv makes the test binary a program that takes holds in the directory
// it names and waits to be killed, and rivalEnv one that binds a port whenever
// it is told to.
const (
	childEnv = "BPF_TEST_DIR"
	rivalEnv = "BPF_TEST_RIVAL"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		h, err := Open(dir)
		if err == nil {
			err = h.Apply(add(manyHolds...))
		}
		fmt.Println(err)
		select {}
	}
	if at := os.Getenv(rivalEnv); at != "" {
		rival(at)
	}
	os.Exit(m.Run())
}

// rival binds a UDP port at each line that it reads, says whether it could, and
// lets it go at the next line.
func rival(at string) {
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		c, err := net.ListenPacket("udp4", at)
		fmt.Println(err == nil)
		orders.Scan()
		if err == nil {
			c.Close()
		}
		fmt.Println()
	}
	os.Exit(0)
}

// manyHolds are of every shape a record has.
var manyHolds = []string{
	"tcp *:80", "tcp *:90-1200", "tcp 192.0.2.1:7", "tcp [2001:db8::1]:8-9", "tcp [::]:22", "tcp [::ffff:192.0.2.1]:5",
	"udp *:80", "udp 0.0.0.0:90-1200", "udp 192.0.2.1:7-65535",
}

func wantObserved(t testing.TB, h *Holder, want ...string) {
	t.Helper()
	want = slices.Sorted(slices.Values(want))
	if diff := cmp.Diff(want, observed(t, h)); diff != "" {
		t.Errorf("observed holds (-want +got):\n%s", diff)
	}
}

// linkIDs returns the numbers of the two links pinned in dir.
func linkIDs(t testing.TB, dir string) (ids []link.ID) {
	t.Helper()
	for _, p := range programs {
		l, err := link.LoadPinnedLink(filepath.Join(dir, p.file), nil)
		if err != nil {
			t.Fatal(err)
		}
		info, err := l.Info()
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, info.ID)
		_ = l.Close()
	}
	return ids
}

// wantDetached waits a little for links to be gone: the kernel frees them
// after the last reference, not with it.
func wantDetached(t testing.TB, ids []link.ID) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for _, id := range ids {
		for {
			l, err := link.NewFromID(id)
			if errors.Is(err, os.ErrNotExist) {
				break
			}
			if err == nil {
				_ = l.Close()
			}
			if time.Now().After(deadline) {
				t.Fatalf("link %d is still there: %v", id, err)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

func TestReopen(t *testing.T) {
	dir := inNamespaces(t)
	h := open(t, dir)
	apply(t, h, add(manyHolds...)...)
	ids := linkIDs(t, dir)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	wantBind(t, "tcp 127.0.0.1:1000", unix.EADDRINUSE)
	h = open(t, dir)
	wantObserved(t, h, manyHolds...)
	if diff := cmp.Diff(ids, linkIDs(t, dir)); diff != "" {
		t.Errorf("the links were replaced, not updated: %s", diff)
	}
	apply(t, h, remove(manyHolds...)...)
	wantObserved(t, h)
	wantBind(t, "tcp 127.0.0.1:1000", nil)
}

func TestKilled(t *testing.T) {
	dir := inNamespaces(t)
	cmd := exec.Command("/proc/self/exe") // inherits this thread's namespaces
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "<nil>\n" {
		t.Errorf("the child said %q, %v", line, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	wantBind(t, "udp 0.0.0.0:80", unix.EADDRINUSE)
	h := open(t, dir)
	wantObserved(t, h, manyHolds...)
}

func TestOtherNamespace(t *testing.T) {
	h := open(t, inNamespaces(t))
	apply(t, h, add("tcp *:80")...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		wantBind(t, "tcp 0.0.0.0:80", nil)
		wantBind(t, "tcp [::]:80", nil)
	}()
	<-done
	wantBind(t, "tcp 0.0.0.0:80", unix.EADDRINUSE)
}

func TestRemove(t *testing.T) {
	dir := inNamespaces(t)
	h := open(t, dir)
	apply(t, h, add(manyHolds...)...)
	ids := linkIDs(t, dir)
	if err := h.Remove(); err != nil {
		t.Fatal(err)
	}
	wantDetached(t, ids)
	wantBind(t, "tcp 0.0.0.0:80", nil)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", dir, err)
	}
	wantObserved(t, open(t, dir)) // and all over again
}

// With the mount namespace everything goes.
func TestMountNamespaceEnds(t *testing.T) {
	var ids []link.ID
	t.Run("inside", func(t *testing.T) {
		dir := inNamespaces(t)
		apply(t, open(t, dir), add(manyHolds...)...)
		ids = linkIDs(t, dir)
	})
	if !t.Failed() && ids != nil {
		wantDetached(t, ids)
	}
}

// Somebody detaches a link by force, and another version leaves a map of
// another shape: Open makes both anew and loses no hold it can know of.
func TestDamage(t *testing.T) {
	dir := inNamespaces(t)
	h := open(t, dir)
	apply(t, h, add(manyHolds...)...)
	_ = h.Close()
	l, err := link.LoadPinnedLink(filepath.Join(dir, programs[0].file), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Detach(); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	wantBind(t, "tcp 127.0.0.1:1000", nil)
	h = open(t, dir)
	wantBind(t, "tcp 127.0.0.1:1000", unix.EADDRINUSE)
	_ = h.Close()

	spec := trieSpec()
	spec.ValueSize = 8
	if err := os.Remove(filepath.Join(dir, spec.Name)); err != nil {
		t.Fatal(err)
	}
	m, err := openKeySet[key](dir, spec)
	if err != nil {
		t.Fatal(err)
	}
	_ = m.Close()
	h = open(t, dir)
	wantObserved(t, h, manyHolds...)
	wantBind(t, "tcp 127.0.0.1:1000", unix.EADDRINUSE)
	wantBind(t, "tcp [::1]:1000", unix.EADDRINUSE)
}

// The program for kernels before Linux 5.18, which cannot choose the errno.
func TestWithoutErrno(t *testing.T) {
	dir := inNamespaces(t)
	h := open(t, dir)
	apply(t, h, add("tcp *:80")...)
	cookie, err := netnsCookie()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Type: ebpf.CGroupSockAddr, AttachType: p.attach,
			Instructions: instructions(p.v6, h.way.(*pinned).trie.(keySet[key]).FD(), cookie, false),
		})
		if err != nil {
			t.Fatal(err)
		}
		err = replace(filepath.Join(dir, p.file), prog)
		_ = prog.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	wantBind(t, "tcp 0.0.0.0:80", unix.EPERM)
	wantBind(t, "tcp [::1]:80", unix.EPERM)
	wantBind(t, "tcp 0.0.0.0:81", nil)
	_ = h.Close()
	open(t, dir)
	wantBind(t, "tcp 0.0.0.0:80", unix.EADDRINUSE) // the next version replaced it
}

// cutter is a process that dies: after some writes nothing is written any more.
type cutter[R key | record] struct {
	rows[R]
	left *int
}

var errCut = errors.New("cut")

func (c cutter[R]) put(rs []R) (int, error) { return c.cut(rs, c.rows.put) }

func (c cutter[R]) erase(rs []R) (int, error) { return c.cut(rs, c.rows.erase) }

func (c cutter[R]) cut(rs []R, write func([]R) (int, error)) (int, error) {
	n := min(len(rs), *c.left)
	*c.left -= n
	done, err := write(rs[:n])
	if err == nil && n < len(rs) {
		err = errCut
	}
	return done, err
}

// cutAfter makes h a process that dies after some writes, and returns how to
// bring it back to life.
func cutAfter(h *Holder, writes int) (revive func()) {
	p := h.way.(*pinned)
	held, trie := p.held, p.trie
	p.held, p.trie = cutter[record]{held, &writes}, cutter[key]{trie, &writes}
	return func() { p.held, p.trie = held, trie }
}

// wantKeys checks that the trie has exactly the keys of the records, and with
// soft that it has them and maybe more.
func wantKeys(t testing.TB, h *Holder, soft bool) {
	t.Helper()
	p := h.way.(*pinned)
	holds, err := p.observe()
	if err != nil {
		t.Fatal(err)
	}
	want, got := map[key]bool{}, map[key]bool{}
	for _, k := range keys(holds...) {
		want[k] = true
	}
	there, err := p.trie.all()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range there {
		if want[k] || !soft {
			got[k] = true
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

// Every write is cut off once. After each cut the holds that Observe lists are
// in force; the next Open has the trie right, and so has the next Apply of a
// process that lived on; the same ops then lead to what was wanted.
func TestCut(t *testing.T) {
	have := []string{"tcp 0.0.0.0:80-89", "tcp 192.0.2.1:86-95", "udp [2001:db8::1]:7"}
	gone := []string{"tcp 0.0.0.0:80-89", "udp [2001:db8::1]:7"}
	news := []string{"tcp *:84-92", "tcp 0.0.0.0:84-90", "tcp 192.0.2.9:80", "udp *:7"}
	want := append([]string{"tcp 192.0.2.1:86-95"}, news...)
	dir := inNamespaces(t)
	for _, alive := range []bool{false, true} {
		for cut := 0; ; cut++ {
			h := open(t, dir)
			apply(t, h, add(have...)...)
			revive := cutAfter(h, cut)
			err := h.Apply(append(remove(gone...), add(news...)...))
			wantKeys(t, h, err != nil)
			if alive {
				revive()
			} else {
				_ = h.Close()
				h = open(t, dir)
				wantKeys(t, h, false)
			}
			apply(t, h, append(remove(gone...), add(news...)...)...)
			wantKeys(t, h, false)
			wantObserved(t, h, want...)
			if t.Failed() {
				t.Fatalf("cut after %d writes, process lived on: %v", cut, alive)
			}
			if err == nil {
				if cut < 20 {
					t.Errorf("only %d writes were cut", cut)
				}
				apply(t, h, remove(want...)...)
				break
			}
			if !errors.Is(err, errCut) {
				t.Fatal(err)
			}
			apply(t, h, remove(want...)...)
			wantObserved(t, h)
			wantKeys(t, h, false)
			_ = h.Close()
		}
	}
}

// The programs against the plain rule of clash: random holds come and go, and
// random binds are refused exactly when a hold is in the way.
func TestRandom(t *testing.T) {
	dir := inNamespaces(t)
	h := open(t, dir)
	rnd := rand.New(rand.NewPCG(1, 2))
	addrs := []string{"", "0.0.0.0", "::", "192.0.2.1", "192.0.2.2", "2001:db8::1", "::ffff:192.0.2.1"}
	protos := []string{"tcp", "udp"}
	held := map[kstate.Hold]bool{}
	for range 300 {
		a := kstate.Hold{Proto: protos[rnd.IntN(2)], First: uint16(1000 + rnd.IntN(40))}
		a.Last = a.First + uint16(rnd.IntN(20))
		if s := addrs[rnd.IntN(len(addrs))]; s != "" {
			a.Addr = netip.MustParseAddr(s)
		}
		ops := []kstate.Op{{New: a}}
		held[a] = true
		for old := range held {
			if len(held) > 4 || rnd.IntN(3) == 0 {
				ops = append(ops, kstate.Op{Old: old})
				delete(held, old)
			}
		}
		apply(t, h, ops...)
		for range 10 {
			s := socket{proto: protos[rnd.IntN(2)], port: uint16(995 + rnd.IntN(70))}
			at := netip.MustParseAddr(addrs[1+rnd.IntN(len(addrs)-1)])
			s.addr = at.Unmap()
			var want error
			for b := range held {
				if b.Proto == s.proto && b.First <= s.port && s.port <= b.Last && clash(b.Addr.Unmap(), s) {
					want = unix.EADDRINUSE
				}
			}
			wantBind(t, s.proto+" "+netip.AddrPortFrom(at, s.port).String(), want)
		}
		if t.Failed() {
			t.Fatalf("held: %v", held)
		}
	}
	wantKeys(t, h, false)
}

// A program that binds while holds come and go is either seen or refused: if
// its bind went well, the hold must have failed.
func TestRace(t *testing.T) {
	h := open(t, inNamespaces(t))
	cmd := exec.Command("/proc/self/exe") // inherits this thread's namespaces
	cmd.Env = append(os.Environ(), rivalEnv+"=:80")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	answers := bufio.NewReader(out)
	won := map[bool]int{}
	for range 200 {
		fmt.Fprintln(in, "bind")
		err := h.Apply(add("udp *:80"))
		bound, _ := answers.ReadString('\n')
		if (bound == "true\n") != (err != nil) {
			t.Fatalf("bound: %q, hold: %v", bound, err)
		}
		won[err == nil]++
		fmt.Fprintln(in, "let go")
		_, _ = answers.ReadString('\n')
		apply(t, h, remove("udp *:80")...)
	}
	t.Logf("holds that went well: %d, programs: %d", won[true], won[false])
}

func TestSocketsEndWithHolder(t *testing.T) {
	dir := inNamespaces(t)
	h := open(t, dir, Sockets())
	if h.Why() == nil {
		t.Error("no reason for sockets")
	}
	apply(t, h, add("tcp *:80", "udp 192.0.2.1:80-90")...)
	wantObserved(t, h, "tcp *:80", "udp 192.0.2.1:80-90")
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	wantBind(t, "tcp 0.0.0.0:80", nil)
	wantObserved(t, open(t, dir, Sockets()))
}
