package nft

import "golang.org/x/sys/unix"

// throng is how many ops make a transaction that watches do not listen to.
const throng = 4096

// send sends the transaction in the buffer, of so many ops, and returns the kernel's
// complaints.
func (c *Conn) send(ops int) ([]complaint, error) {
	transact := func() ([]complaint, error) { return c.write.transact(c.enc.buf) }
	if ops < throng {
		return transact()
	}
	return c.unheard(transact)
}

// unheard has watches not listen while one transaction of ours is done. As long as somebody
// does, the kernel makes a message of each element, in some 4 KiB of memory, which takes it
// longer than all the rest (nf_tables_setelem_notify in net/netfilter/nf_tables_api.c); and
// watches would not have one of them. What somebody else does meanwhile shows by the
// generation, which each transaction moves by one. The caller holds writeMu.
func (c *Conn) unheard(transact func() ([]complaint, error)) ([]complaint, error) {
	c.watchMu.Lock()
	defer c.watchMu.Unlock()
	before, err := c.write.generation(&encoder{})
	if err != nil || len(c.watches) == 0 {
		return transact()
	}
	for w := range c.watches {
		_ = w.nl.LeaveGroup(unix.NFNLGRP_NFTABLES) // one that is closed is about to go
	}
	all, err := transact()
	for w := range c.watches {
		if w.nl.JoinGroup(unix.NFNLGRP_NFTABLES) != nil {
			_ = w.nl.Close() // it would be deaf for good
		}
	}
	after, failed := c.write.generation(&encoder{})
	own := uint32(1)
	if len(all) > 0 || err != nil {
		own = 0
	}
	if failed != nil || after-before > own {
		for w := range c.watches {
			_ = w.note("nftables changed while it was not watched", pause)
		}
	}
	return all, err
}
