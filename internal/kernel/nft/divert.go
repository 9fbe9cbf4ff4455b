package nft

import (
	"fmt"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// What takes a frame from its way over a bridge up to the host. The kernel
// takes the second only in chains that come from a bridge's prerouting
// (nft_meta_set_validate).
type (
	// readdress makes a frame one to the hardware address that a map says; a
	// frame that it has nothing for leaves the rule.
	readdress struct {
		key []*selector
		set string
	}
	receive struct{} // the host sees the frame as one to itself
)

func parseReaddress(c *cursor) (stmt, error) {
	key, set, err := parseMap(c)
	return readdress{key, set}, err
}

func (r readdress) add(c *compiler) error {
	if c.family != unix.NFPROTO_BRIDGE {
		return fmt.Errorf("ether daddr set is for bridge tables")
	}
	if err := c.ask(r.key, r.set, typeEther.name); err != nil {
		return err
	}
	c.emit(&expr.Payload{
		OperationType: expr.PayloadWrite, SourceRegister: 1,
		Base: expr.PayloadBaseLLHeader, Len: uint32(typeEther.width),
	})
	return nil
}

func (receive) add(c *compiler) error {
	if c.family != unix.NFPROTO_BRIDGE {
		return fmt.Errorf("meta pkttype set is for bridge tables")
	}
	c.emit(&expr.Immediate{Register: 1, Data: make([]byte, 1)}, // PACKET_HOST
		&expr.Meta{Key: expr.MetaKeyPKTTYPE, Register: 1, SourceRegister: true})
	return nil
}
