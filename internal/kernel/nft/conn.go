// Package nft writes our nftables tables to the kernel and reads them back,
// over netlink. It knows a small part of nft's language: enough for the rules,
// sets and elements of package compile, in texts that `nft -f` takes too (but for
// a redirect to a port, which nft wants a protocol matched before).
//
// It is not a general nftables library: what is in our tables and not of our
// making it shows, so that it can be removed, but does not understand.
package nft

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Conn is a connection to the nftables of one network namespace. Its methods
// may be called from several goroutines.
type Conn struct {
	writeMu sync.Mutex // protects the following
	write   *socket
	enc     encoder
	seq     uint32 // of the last message sent

	readMu sync.Mutex // protects the following; locked before writeMu
	read   *socket
	ask    encoder

	watchMu sync.Mutex // protects the following; locked after writeMu
	watches map[*watch]bool

	port   uint32 // of write: the kernel signs our changes with it
	tables uint32 // flags of tables that it makes
}

// Open connects to the namespace of the descriptor ns, which may be closed
// afterwards; 0 or -1 is the calling thread's.
func Open(ns int) (*Conn, error) {
	w, err := dial(ns)
	if err != nil {
		return nil, err
	}
	r, err := dial(ns)
	if err != nil {
		return nil, errors.Join(err, w.nl.Close())
	}
	return &Conn{write: w, read: r, port: w.port, watches: map[*watch]bool{}}, nil
}

// Close closes the connection. A watch goes on until its context is done.
func (c *Conn) Close() error {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	return errors.Join(c.write.nl.Close(), c.read.nl.Close())
}

// dialAgain opens another socket in the namespace of the connection.
func (c *Conn) dialAgain() (*socket, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	ns, err := unix.IoctlRetInt(c.read.fd, unix.SIOCGSKNS)
	if err != nil {
		return nil, fmt.Errorf("namespace of socket: %w", err)
	}
	s, err := dial(ns)
	return s, errors.Join(err, unix.Close(ns))
}
