package ovsdb

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sealane/sealane/internal/kernel/process"
)

// program is a process: its number alone may be another's by now. The zero
// program is none.
type program struct {
	pid   int
	start uint64
}

// A program that ended holds its lock until ovsdb-server has read that its
// connection did. It may answer a question before that, but not many: it reads
// all connections in turn.
const (
	doubts = 5
	doubt  = 10 * time.Millisecond // between two
)

// switching reports whether ovs-vswitchd lives: whether its lock is held, and not
// only by the memory of a process that has ended.
func (c *Conn) switching(s *session) (bool, error) {
	for range doubts {
		ended := c.ended() // before the question
		held, err := s.running()
		if err != nil || !held || !ended {
			return held, err
		}
		time.Sleep(doubt)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.vswitchd == (program{}) {
		c.unseen = c.pidLocked() // of another process namespace: its number means nothing here
	}
	return true, nil
}

// ended reports whether ovs-vswitchd's process is known to have ended.
func (c *Conn) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	pid := cmp.Or(c.pidLocked(), c.vswitchd.pid)
	if pid == 0 || pid == c.unseen {
		return false
	}
	return !c.seeLocked(pid)
}

// seeLocked reports whether ovs-vswitchd is the process of a number, and
// remembers it. The caller holds mu.
func (c *Conn) seeLocked(pid int) bool {
	name, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	if err != nil || strings.TrimSpace(string(name)) != "ovs-vswitchd" {
		return false
	}
	start, err := process.Start(pid) // none of one that is about to be gone
	if err == nil {
		c.vswitchd = program{pid, start}
	}
	return err == nil
}

// pidLocked is the number in the file that ovs-vswitchd writes when it starts, and
// removes when it ends in order; 0 if there is none.
func (c *Conn) pidLocked() int {
	text, err := os.ReadFile(filepath.Join(filepath.Dir(c.socket), "ovs-vswitchd.pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

// mourn waits, once per connection, for the end of ovs-vswitchd, if its process
// can be seen. One that has ended since it was asked about is looked for.
func (c *Conn) mourn(s *session) {
	if !s.mourning.CompareAndSwap(false, true) {
		return
	}
	wait, err := c.end()
	if err != nil {
		s.mourning.Store(false)
		c.await()
	}
	if wait == nil {
		s.mourning.Store(false)
		return
	}
	go func() {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() { // the connection's end ends this
			select {
			case <-s.ended:
				cancel()
			case <-ctx.Done():
			}
		}()
		if wait(ctx) == nil {
			s.mourning.Store(false)
			c.say("ovs-vswitchd ended")
			c.await()
		}
	}()
}

// end returns what waits for the end of ovs-vswitchd, nil if it cannot be seen.
// If it has ended that is an os.ErrProcessDone.
func (c *Conn) end() (func(context.Context) error, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pid := cmp.Or(c.pidLocked(), c.vswitchd.pid)
	if pid == 0 || pid == c.unseen {
		return nil, nil
	}
	if !c.seeLocked(pid) {
		return nil, os.ErrProcessDone
	}
	return process.Watch(c.vswitchd.pid, c.vswitchd.start)
}
