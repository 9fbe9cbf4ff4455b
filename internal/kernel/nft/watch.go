package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Watch sends a few words whenever somebody else changed one of our tables, or
// tables, chains or rules where guests may be, until ctx is done; then it closes
// the channel. Changes that come close
// together, and changes while nobody receives, give one message. So does a
// burst of events that was too much for the receive buffer.
//
// Our own are the changes made through c. The kernel filters them out: their
// events carry the port of c's socket.
func (c *Conn) Watch(ctx context.Context) (<-chan string, error) {
	w, err := c.listen(receiveAll)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = w.nl.Close() })
	c.watchMu.Lock()
	c.watches[w] = true
	c.watchMu.Unlock()
	go func() {
		w.run()
		c.watchMu.Lock()
		delete(c.watches, w)
		c.watchMu.Unlock()
	}()
	return w.out, nil
}

// listen opens a socket with a receive buffer of room bytes, where events
// gather until run is called.
func (c *Conn) listen(room int) (*watch, error) {
	s, err := c.dialAgain()
	if err != nil {
		return nil, err
	}
	if err := s.join(c.port, room); err != nil {
		return nil, errors.Join(err, s.nl.Close())
	}
	return &watch{socket: s, out: make(chan string, 1)}, nil
}

// join joins the group of nftables' events, but for those from port.
func (s *socket) join(port uint32, room int) error {
	filter, err := bpf.Assemble(notFrom(port))
	if err != nil {
		return err
	}
	if err := s.nl.SetReadBuffer(room); err != nil {
		return err
	}
	if err := s.nl.SetBPF(filter); err != nil {
		return err
	}
	return s.nl.JoinGroup(unix.NFNLGRP_NFTABLES)
}

// notFrom lets events pass whose nlmsg_pid is not port. All messages of a
// datagram are from one transaction (nft_commit_notify). A filter loads in
// network byte order what is in the machine's.
func notFrom(port uint32) []bpf.Instruction {
	const nlmsgPID = 12
	port = binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, port))
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: nlmsgPID, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: port, SkipTrue: 1},
		bpf.RetConstant{Val: 1<<32 - 1},
		bpf.RetConstant{Val: 0},
	}
}

// How long a watch waits for more before it speaks: about our tables, and about
// those of others, which iptables changes one rule at a time, many in a row.
const (
	pause    = 20 * time.Millisecond
	patience = 300 * time.Millisecond
)

// watch is the receiving end of events.
type watch struct {
	*socket
	out  chan string
	wait time.Duration // with what the transaction being received is about; 0: no word of it

	mu      sync.Mutex // protects the following
	pending string     // to be said
	at      time.Time  // when
}

// run receives until the socket is closed.
func (w *watch) run() {
	defer close(w.out)
	raw, err := w.nl.SyscallConn()
	for err == nil {
		var b []byte
		var failed error
		err = raw.Read(func(uintptr) bool {
			b, failed = w.receive()
			return failed != unix.EAGAIN
		})
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = w.say()
		case err != nil:
		case failed != nil: // ENOBUFS, as a rule
			err = w.note("nftables events were lost: "+failed.Error(), pause)
		default:
			err = w.events(b)
		}
	}
}

// events looks at the messages of a datagram. The last of a transaction names
// who made it.
func (w *watch) events(b []byte) error {
	for r, rest, ok := nextReply(b); ok; r, rest, ok = nextReply(rest) {
		switch {
		case r.typ == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN:
			if w.wait == 0 {
				continue
			}
			if err := w.note(describeGeneration(r.attrs()), w.wait); err != nil {
				return err
			}
			w.wait = 0
		case w.wait != pause:
			if wait := matters(r); wait != 0 {
				w.wait = wait
			}
		}
	}
	return nil
}

// matters says how long an event can wait: a pause if it is about a table of
// ours, patience if about what guests stand on, else 0. The elements of others'
// sets are neither, nor are the rules of tables for address translation, which
// Docker changes with every container.
func matters(r reply) time.Duration {
	table := text(r.attrs().find(unix.NFTA_TABLE_NAME)) // attribute 1 of every object
	if table == ours {
		return pause
	}
	if isTrail(table) {
		return 0
	}
	if _, err := guestFamily(familyName(r.family())); err != nil {
		return 0
	}
	switch r.typ &^ (unix.NFNL_SUBSYS_NFTABLES << 8) {
	case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
		return patience
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		if table != "nat" {
			return patience
		}
	}
	return 0
}

// note remembers what to say, and to say it after a wait. What is to be said
// sooner comes in its place.
func (w *watch) note(what string, wait time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := time.Now().Add(wait)
	if w.pending != "" && !at.Before(w.at) {
		return nil
	}
	w.pending, w.at = what, at
	return w.nl.SetReadDeadline(at)
}

// say sends what is pending, unless the last message is not taken yet.
func (w *watch) say() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.out <- w.pending:
	default:
	}
	w.pending = ""
	return w.nl.SetReadDeadline(time.Time{})
}

// describeGeneration says who made a change, from an NFT_MSG_NEWGEN.
func describeGeneration(a attrs) string {
	name, pid := text(a.find(unix.NFTA_GEN_PROC_NAME)), number(a.find(unix.NFTA_GEN_PROC_PID))
	return fmt.Sprintf("%s (process %d) changed nftables", name, pid)
}
