package dns

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The rules in a sandbox's namespace. Only the port is rewritten, in both
// directions and where packets leave their socket, so nothing has to be
// tracked: a namespace without a firewall of its own does no connection
// tracking because of us, and questions fill no table.
//
//	table ip sealane-dns {
//		chain questions {
//			type filter hook output priority 300
//			ip daddr 127.0.0.11 udp dport 53 udp dport set PORT
//			ip daddr 127.0.0.11 tcp dport 53 tcp dport set PORT
//		}
//		chain answers {
//			type filter hook output priority -300
//			ip saddr 127.0.0.11 udp sport PORT udp sport set 53
//			ip saddr 127.0.0.11 tcp sport PORT tcp sport set 53
//		}
//	}
//
// A firewall of the sandbox's own, which works between the two priorities, sees
// port 53 in both directions, tracks it, and may take it elsewhere.
const (
	tableName    = "sealane-dns"
	asks         = "questions" // a chain
	tells        = "answers"
	perChain     = 2 // rules: of UDP and of TCP
	afterOthers  = 300
	beforeOthers = -300
	domain       = 53
)

// Offsets in the IPv4 header and in those of UDP and TCP.
const (
	offsetSource = 12
	offsetDest   = 16
	offsetSport  = 0
	offsetDport  = 2
	checksumUDP  = 6
	checksumTCP  = 16
)

func emptyTable() *nftables.Table {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyIPv4}
}

// rules installs the table and removes it, in the namespace of the calling
// thread.
//
// When a netlink socket is closed, the kernel waits until what was deleted in
// nftables is no longer in use, which takes a grace period of RCU
// (nft_rcv_nl_event). So sockets are closed behind the caller's back, few at a
// time, because each takes a thread meanwhile.
type rules struct{ closing chan struct{} }

func newRules() *rules { return &rules{closing: make(chan struct{}, 2)} }

// install makes the table, in place of any that is there, in one transaction.
func (r *rules) install(udp, tcp uint16) error {
	return r.transact(func(c *nftables.Conn, there bool) {
		if there {
			c.DelTable(emptyTable())
		}
		fill(c, c.AddTable(emptyTable()), udp, tcp)
	})
}

// uninstall removes the table, if it is there.
func (r *rules) uninstall() error {
	return r.transact(func(c *nftables.Conn, there bool) {
		if there {
			c.DelTable(emptyTable())
		}
	})
}

// whole reports whether the table has as many rules as are installed.
func (r *rules) whole() (is bool, err error) {
	err = r.talk(func(c *nftables.Conn) error {
		is = true
		for _, name := range []string{asks, tells} {
			have, err := c.GetRules(emptyTable(), &nftables.Chain{Name: name})
			if err != nil {
				return err
			}
			is = is && len(have) == perChain
		}
		return nil
	})
	return is, err
}

// transact sends what add adds, who is told whether the table is there.
func (r *rules) transact(add func(c *nftables.Conn, there bool)) error {
	return r.talk(func(c *nftables.Conn) error {
		tables, err := c.ListTablesOfFamily(nftables.TableFamilyIPv4)
		if err != nil {
			return err
		}
		add(c, slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName }))
		return c.Flush()
	})
}

// talk opens a socket for what is to be said.
func (r *rules) talk(say func(*nftables.Conn) error) error {
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	err = say(c)
	go func() {
		r.closing <- struct{}{}
		c.CloseLasting()
		<-r.closing
	}()
	if err != nil {
		return fmt.Errorf("nftables: table %s: %w", tableName, err)
	}
	return nil
}

// fill adds what is in the table.
func fill(c *nftables.Conn, t *nftables.Table, udp, tcp uint16) {
	questions, answers := chain(c, t, asks, afterOthers), chain(c, t, tells, beforeOthers)
	for _, p := range []struct {
		proto    byte
		port     uint16
		checksum uint32
	}{{unix.IPPROTO_UDP, udp, checksumUDP}, {unix.IPPROTO_TCP, tcp, checksumTCP}} {
		c.AddRule(&nftables.Rule{Table: t, Chain: questions, Exprs: rewrite(offsetDest, p.proto, offsetDport, p.checksum, domain, p.port)})
		c.AddRule(&nftables.Rule{Table: t, Chain: answers, Exprs: rewrite(offsetSource, p.proto, offsetSport, p.checksum, p.port, domain)})
	}
}

func chain(c *nftables.Conn, t *nftables.Table, name string, priority nftables.ChainPriority) *nftables.Chain {
	return c.AddChain(&nftables.Chain{
		Name: name, Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookOutput, Priority: &priority,
	})
}

// rewrite is a rule that gives packets with our address at offset addr and the
// port from at offset port another port.
func rewrite(addr uint32, proto byte, port, checksum uint32, from, to uint16) []expr.Any {
	const reg = 1
	us := own().As4()
	return []expr.Any{
		&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: addr, Len: 4, DestRegister: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: us[:]},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{proto}},
		&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: port, Len: 2, DestRegister: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: binaryutil.BigEndian.PutUint16(from)},
		&expr.Immediate{Register: reg, Data: binaryutil.BigEndian.PutUint16(to)},
		&expr.Payload{
			OperationType: expr.PayloadWrite, SourceRegister: reg,
			Base: expr.PayloadBaseTransportHeader, Offset: port, Len: 2,
			CsumType: expr.CsumTypeInet, CsumOffset: checksum,
		},
	}
}
