// Package ovsdb keeps bridges and ports of Open vSwitch as they shall be, through
// its database: the OVSDB protocol (RFC 7047) over a unix socket, database
// Open_vSwitch (ovs-vswitchd.conf.db(5)). It makes no flows and no devices but
// the bridges' own.
//
//	sealaned ──transact──▶ ovsdb-server ──monitor──▶ ovs-vswitchd ──▶ datapath
//	         ◀──update2──                ◀─cur_cfg──
//
// Three programs, each of which may come and go by itself:
//
//   - A change is a transaction that raises next_cfg. It is done when ovs-vswitchd
//     has raised cur_cfg as far, as ovs-vsctl(8) has it, and then Interface.error
//     and Interface.ofport say what came of it.
//   - ovs-vswitchd holds the database's lock "ovs_vswitchd" as long as it lives
//     (bridge_init in vswitchd/bridge.c); who asks for the lock learns whether it
//     does.
//   - A row outlives the device that it names, and ovs-vswitchd goes on with the
//     device that it opened first, also when there is another of that name. So
//     each port of ours says which device it was made for (external_ids:sealane.ifindex),
//     and is made anew for another, in two steps: one alone would change nothing.
//
// Without Open vSwitch on the host there is no connection and nothing that runs:
// each look is one connect(2) that fails.
package ovsdb

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// Socket is where Debian's and most others' ovsdb-server listens.
const Socket = "/run/openvswitch/db.sock"

// Times. All programs are on this host.
const (
	answerTime = 2 * time.Second        // until ovsdb-server answers
	settleTime = 5 * time.Second        // until ovs-vswitchd has done what the database says,
	portTime   = 25 * time.Millisecond  // and so much more for each port that comes or goes
	grudge     = 5 * time.Second        // for which one that did not answer is not asked again
	returnTime = 250 * time.Millisecond // between looks whether one that went is back
)

// Conn is the door to one host's Open vSwitch. It connects when it is first
// needed, and again when the connection is lost.
type Conn struct {
	// Tap reports whether a device of the host is a tap, as are those of bridges
	// in the user-space datapath. Without it none is.
	Tap func(device string) bool

	socket string
	space  uint64 // the inode of the host's network namespace
	index  func(device string) (int, error)
	busy   atomic.Int32  // Applies under way: what changes meanwhile is our doing
	news   chan string   // for Watch, one that waits is enough
	lost   chan struct{} // for Watch: something of ours waits for Open vSwitch

	mu    sync.Mutex // protects the following
	sess  *session   // nil if there is none
	ours  bool       // there was something of ours when we looked last
	anger error      // it does not answer
	until time.Time  // when it is asked again

	vswitchd program // as it was last seen
	unseen   int     // its number, if that is one of another process namespace

	leaving map[string]int // ports that ovs-vswitchd may still have, by device: the configuration without them
}

// New returns a door to the server at a socket. space is the inode of the host's
// network namespace, index says which number a device has there; one that is
// not there is fs.ErrNotExist.
func New(socket string, space uint64, index func(device string) (int, error)) *Conn {
	return &Conn{socket: socket, space: space, index: index, news: make(chan string, 1), lost: make(chan struct{}, 1), leaving: map[string]int{}}
}

// Close ends the connection. What was made stays.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sess == nil {
		return nil
	}
	s := c.sess
	c.sess = nil
	return s.close()
}

// session returns the connection, making it first if there is none. Without a
// server the error is a kernel.ErrNotRunning.
func (c *Conn) session() (*session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sess != nil && c.sess.alive() {
		return c.sess, nil
	}
	c.sess = nil
	clear(c.leaving) // another database may count anew
	if c.anger != nil && time.Now().Before(c.until) {
		return nil, c.anger
	}
	c.anger = nil
	conn, err := net.DialTimeout("unix", c.socket, answerTime)
	if err != nil {
		return nil, c.absent(err)
	}
	if !c.here(conn) {
		_ = conn.Close()
		return nil, fmt.Errorf("Open vSwitch: %w: the one at %s is of another network namespace", kernel.ErrNotRunning, c.socket)
	}
	s := newSession(conn)
	s.updated = func() { c.say("rows of Open vSwitch") }
	go func() {
		s.read()
		c.gone(s, "ovsdb-server ended the connection")
	}()
	if err := s.monitor(); err != nil {
		_ = s.close()
		return nil, c.blameLocked(s, err)
	}
	c.sess = s
	return s, nil
}

// with does something on the connection. On one that ended before, that is done
// once more on the next, if there is a server: what is done looks first.
func (c *Conn) with(do func(*session) error) error {
	for again := false; ; again = true {
		s, err := c.session()
		if err != nil {
			return err
		}
		if err = do(s); err == nil {
			return nil
		}
		if err = c.failed(s, err); again || !errors.Is(err, kernel.ErrNotRunning) {
			return err
		}
	}
}

// here reports whether the server is in the host's network namespace, or cannot
// be seen: a daemon of another one would take the ports of this one for its own
// that nobody wants any more.
func (c *Conn) here(conn net.Conn) bool {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return true
	}
	var peer *unix.Ucred
	_ = raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	var st unix.Stat_t
	if err != nil || unix.Stat(fmt.Sprintf("/proc/%d/ns/net", peer.Pid), &st) != nil {
		return true
	}
	return st.Ino == c.space
}

// absent says why there is no server.
func (c *Conn) absent(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("Open vSwitch: %w: no socket %s", kernel.ErrNotRunning, c.socket)
	case errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("Open vSwitch: %w: ovsdb-server has left the socket %s", kernel.ErrNotRunning, c.socket)
	}
	return fmt.Errorf("Open vSwitch: %w: %w", kernel.ErrNotRunning, err)
}

// angryLocked has a server that does not do its part not be asked again for a
// while: passes must not wait for it each time. The caller holds mu.
func (c *Conn) angryLocked(err error) error {
	c.anger = fmt.Errorf("Open vSwitch: ovsdb-server at %s: %w", c.socket, err)
	c.until = time.Now().Add(grudge)
	return c.anger
}

// failed ends a connection on which something went wrong, and returns the error
// in context.
func (c *Conn) failed(s *session, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.blameLocked(s, err)
	_ = s.close()
	if c.sess == s {
		c.sess = nil
	}
	return err
}

// blameLocked tells a server that has ended from one that does not do its part.
// The caller holds mu.
func (c *Conn) blameLocked(s *session, err error) error {
	if !s.alive() || hungUp(err) {
		return fmt.Errorf("Open vSwitch: %w: ovsdb-server ended the connection", kernel.ErrNotRunning)
	}
	return c.angryLocked(err)
}

// hungUp reports whether an error is that of a connection whose other end is
// gone. Who writes may find that before who reads.
func hungUp(err error) bool {
	for _, gone := range []error{unix.EPIPE, unix.ECONNRESET, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed} {
		if errors.Is(err, gone) {
			return true
		}
	}
	return false
}

// gone notes that a connection has ended.
func (c *Conn) gone(s *session, why string) {
	c.mu.Lock()
	if c.sess == s {
		c.sess = nil
	}
	ours := c.ours
	c.mu.Unlock()
	if ours {
		c.say(why)
		c.await()
	}
}

// say gives Watch a hint, unless it is about what we do ourselves.
func (c *Conn) say(what string) {
	if c.busy.Load() > 0 {
		return
	}
	select {
	case c.news <- what:
	default: // one waits already
	}
}

// await has Watch look out for Open vSwitch's return.
func (c *Conn) await() {
	select {
	case c.lost <- struct{}{}:
	default:
	}
}

// notSwitching is a database without the program that does what it says.
func notSwitching() error {
	return fmt.Errorf("Open vSwitch: %w: %s", kernel.ErrNotRunning, noSwitch)
}

const noSwitch = "ovs-vswitchd is not connected to the database"

// Bridge returns the bridge of a name, whoever made it.
func (c *Conn) Bridge(name string) (kstate.OVSBridge, bool, error) {
	t, err := c.look(true)
	if err != nil {
		return kstate.OVSBridge{}, false, err
	}
	b, ok := t.bridges[name]
	return b.object(), ok, nil
}

// look is session.look.
func (c *Conn) look(ours bool, names ...string) (t table, err error) {
	err = c.with(func(s *session) (err error) {
		t, err = s.look(ours, names...)
		return err
	})
	return t, err
}

// PortOf returns the bridge that a device of the host is a port of, "" if it is
// none of Open vSwitch's.
func (c *Conn) PortOf(device string) (string, error) {
	t, err := c.look(false, device)
	if err != nil {
		return "", err
	}
	return t.ports[device].bridge, nil
}

// Ways returns the devices by which what is in a VLAN leaves a bridge, but for ports of
// ours, with the tag that it has there. VLAN and tag 0 are none.
func (c *Conn) Ways(bridge string, vlan int) (tags map[string]int, err error) {
	err = c.with(func(s *session) (err error) {
		tags, err = s.ways(bridge, vlan)
		return err
	})
	return tags, err
}

// AddPort makes a device of the host a port of a bridge, without our mark: no
// pass takes it away, and DelPort does. A port that is there as wanted is none
// to be made; one that is there otherwise is a kernel.ErrInUse. It returns when
// frames pass.
func (c *Conn) AddPort(p kstate.OVSPort) error { return c.alone(kstate.Op{New: p}, false) }

// DelPort takes a device out of the bridge that it is a port of, whoever made it
// one. A device that is in none is none to be taken out.
func (c *Conn) DelPort(device string) error {
	return c.alone(kstate.Op{Old: kstate.OVSPort{Device: device}}, false)
}
