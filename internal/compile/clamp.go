package compile

// clamp returns the rule that lowers what both ends of a TCP connection inside a network
// that spans hosts say of the segments that they take, to what fits the way between them:
// so nobody has to learn it from a router that says nothing. A way that a smaller path was
// found for has a route of that MTU; where there is none, the rule changes nothing. Others'
// packets and those to outside are left as they are.
func (b builder) clamp() string {
	b.chain("segments",
		"ip saddr @whole4 ip daddr @whole4 tcp option maxseg size set rt mtu",
		"ip6 saddr @whole6 ip6 daddr @whole6 tcp option maxseg size set rt mtu")
	return "tcp flags syn / syn,rst jump segments"
}

// clamping is the priority of what changes packets, as nft's "mangle": before what judges.
const clamping = -150
