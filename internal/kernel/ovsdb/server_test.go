package ovsdb

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/kerneltest"
)

// speak answers questions on a connection until it ends.
func speak(conn net.Conn, answer func(method string) string) {
	dec := json.NewDecoder(conn)
	for {
		var m message
		if dec.Decode(&m) != nil {
			return
		}
		fmt.Fprintf(conn, `{"id":%s,"error":null,"result":%s}`, m.ID, answer(m.Method))
	}
}

// serve runs a server of our own that answers, and returns a door to it.
func serve(t *testing.T, answer func(method string) string) *Conn {
	return accept(t, func(conn net.Conn) { speak(conn, answer) })
}

// accept runs a server that does something with each connection.
func accept(t *testing.T, do func(net.Conn)) *Conn {
	socket := filepath.Join(t.TempDir(), "db.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go do(conn)
		}
	}()
	c := New(socket, own(t), func(string) (int, error) { return 0, fs.ErrNotExist })
	t.Cleanup(func() { c.Close(); l.Close() })
	return c
}

// own is the namespace of this process as others see it: its first thread's.
func own(t *testing.T) uint64 {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// goneProcess is the number of a process that was.
func goneProcess(t *testing.T) int {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// The lock is that of a process that ended until ovsdb-server has noticed; where it
// stays, the process is one that cannot be seen from here.
func TestSwitching(t *testing.T) {
	for _, c := range []struct {
		name  string
		pid   int // in the file; 0 is no file
		held  int // how often the lock is somebody's
		alive bool
		asked int
	}{
		{"no file", 0, 100, true, 1},
		{"no file, no lock", 0, 0, false, 1},
		{"ended", goneProcess(t), 0, false, 1},
		{"ended a moment ago", goneProcess(t), 2, false, 3},
		{"elsewhere", goneProcess(t), 100, true, doubts},
		{"another program's number", os.Getpid(), 100, true, doubts},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := 0
			conn := serve(t, func(method string) string {
				if method != "lock" {
					return "{}"
				}
				asked++
				return fmt.Sprintf(`{"locked":%t}`, asked > c.held)
			})
			if c.pid != 0 {
				file := filepath.Join(filepath.Dir(conn.socket), "ovs-vswitchd.pid")
				if err := os.WriteFile(file, fmt.Appendln(nil, c.pid), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			alive := func() (is bool) {
				err := conn.with(func(s *session) (err error) {
					is, err = conn.switching(s)
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				return is
			}
			if got := alive(); got != c.alive || asked != c.asked {
				t.Errorf("alive is %v after %d questions, want %v after %d", got, asked, c.alive, c.asked)
			}
			if was := asked; c.alive && (!alive() || asked != was+1) {
				t.Errorf("asked %d times again, want once", asked-was)
			}
		})
	}
}

// broken gives a door a connection whose other end is gone, which nobody has read
// yet.
func broken(t *testing.T, c *Conn) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(pair[1])
	f := os.NewFile(uintptr(pair[0]), "pair")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sess = newSession(conn)
}

// A server that ended is not running, and no grudge is held against the next one.
func TestBrokenPipe(t *testing.T) {
	r := start(t)
	r.veth("slv1")
	for range 2 {
		broken(t, r.Conn)
		if err := r.Apply(kerneltest.Adds(br)); !errors.Is(err, kernel.ErrNotRunning) || !strings.Contains(err.Error(), "no socket") {
			t.Errorf("error is %v", err)
		}
		broken(t, r.Conn)
		r.holds()
	}
	r.up()
	broken(t, r.Conn)
	r.add(br, web)
	broken(t, r.Conn)
	r.holds(br, web)
}

// A server that ends before it has answered anything is not running either.
func TestEndsAtOnce(t *testing.T) {
	c := accept(t, func(conn net.Conn) { conn.Close() })
	began := time.Now()
	for range 3 {
		if err := c.Apply(kerneltest.Adds(br)); !errors.Is(err, kernel.ErrNotRunning) || !strings.Contains(err.Error(), "ended the connection") {
			t.Errorf("error is %v", err)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}
