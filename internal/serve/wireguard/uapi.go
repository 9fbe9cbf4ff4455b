package wireguard

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// What wireguard-go is told and tells is lines of KEY=VALUE
// (https://www.wireguard.com/xplatform/#configuration-protocol): the device's first, then
// each peer's behind its public_key. Keys are in hexadecimal.

// text writes a change. It has keys, and is for the device alone.
func (c change) text() string {
	var b strings.Builder
	line := func(key string, value any) { fmt.Fprintf(&b, "%s=%v\n", key, value) }
	if c.Private != nil {
		line("private_key", hex.EncodeToString(c.Private[:]))
	}
	if c.port != nil {
		line("listen_port", *c.port)
	}
	for _, p := range c.peers {
		line("public_key", hex.EncodeToString(p.key[:]))
		if p.remove {
			line("remove", true)
			continue
		}
		if p.Shared != nil {
			line("preshared_key", hex.EncodeToString(p.Shared[:]))
		}
		if p.endpoint.IsValid() {
			line("endpoint", p.endpoint)
		}
		if p.keepalive != nil {
			line("persistent_keepalive_interval", int(p.keepalive.Seconds()))
		}
		if p.allowed != nil {
			line("replace_allowed_ips", true)
			for _, a := range *p.allowed {
				line("allowed_ip", a)
			}
		}
	}
	return b.String()
}

// parseState reads what a device has. An error does not repeat values: they may be keys.
func parseState(text string) (state, error) {
	s := state{peers: map[Public]peerState{}}
	var key Public
	var p *peerState
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "=")
		var err error
		switch {
		case name == "public_key":
			if p != nil {
				s.peers[key] = *p
			}
			p = &peerState{}
			err = unhex(key[:], value)
		case p == nil:
			err = s.line(name, value)
		default:
			err = p.line(name, value)
		}
		if err != nil {
			return s, fmt.Errorf("what the device says of %s makes no sense", name)
		}
	}
	if p != nil {
		s.peers[key] = *p
	}
	return s, nil
}

// line reads one about the device.
func (s *state) line(name, value string) error {
	switch name {
	case "private_key":
		return unhex(s.Private[:], value)
	case "listen_port":
		n, err := strconv.ParseUint(value, 10, 16)
		s.port = uint16(n)
		return err
	}
	return nil
}

// line reads one about a peer.
func (p *peerState) line(name, value string) (err error) {
	switch name {
	case "preshared_key":
		return unhex(p.Shared[:], value)
	case "endpoint":
		var a netip.AddrPort
		a, err = netip.ParseAddrPort(value)
		p.endpoint = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	case "allowed_ip":
		var a netip.Prefix
		a, err = netip.ParsePrefix(value)
		p.allowed = append(p.allowed, a)
	case "persistent_keepalive_interval":
		var n uint64
		n, err = strconv.ParseUint(value, 10, 16)
		p.keepalive = time.Duration(n) * time.Second
	case "last_handshake_time_sec":
		var n int64
		if n, err = strconv.ParseInt(value, 10, 64); n != 0 {
			p.shook = time.Unix(n, 0)
		}
	case "last_handshake_time_nsec":
		var n int64
		if n, err = strconv.ParseInt(value, 10, 64); !p.shook.IsZero() {
			p.shook = p.shook.Add(time.Duration(n))
		}
	}
	return err
}

func unhex(to []byte, value string) error {
	b, err := hex.DecodeString(value)
	if err == nil && len(b) != len(to) {
		err = hex.ErrLength
	}
	if err == nil {
		copy(to, b)
	}
	return err
}
