package kstate

// Mark is the bit of the packet mark on what our firewall lets pass, once there
// is another on the host. Where that would drop it, one rule there lets marked
// packets pass too.
const Mark = 0x10000000

// Guest is one rule of ours in somebody else's chain: the exception that lets
// our packets past their firewall. What reads and writes their rules, such as
// iptables-save and iptables-restore, sees an ordinary rule with a comment.
type Guest struct {
	Table Table  // theirs; the family may be "ip", "ip6" or "inet"
	Chain string // theirs; it is never made
	// At is where in the chain the rule is put: "first", "last", or
	// "before-last", which is last but before a rule that ends the chain for
	// all packets: one that returns, drops or rejects them.
	// It is no part of the text: a rule that others have moved stays.
	At   string
	Rule string // in nft's syntax, with a verdict and without a comment
}

// Key is the chain and the rule.
func (o Guest) Key() Key {
	return Key{KindGuest, o.Table.Family + " " + o.Table.Name + " " + o.Chain + " " + o.Rule}
}

// On is their table and chain.
func (o Guest) On() []Key {
	return []Key{o.Table.Key(), Chain{Table: o.Table, Name: o.Chain}.Key()}
}

// String is "guest FAMILY TABLE CHAIN: RULE".
func (o Guest) String() string {
	return "guest " + o.Table.Family + " " + o.Table.Name + " " + o.Chain + ": " + o.Rule
}

// Filter is a fact about the host: a base chain of somebody else's that packets
// through the host, or to it, pass. Whatever our own chains accept may end there.
type Filter struct {
	Table    Table // the family is "ip", "ip6" or "inet"
	Chain    string
	Hook     string // "forward" or "input"
	Priority int    // chains run from low to high, see [Chain]
	Policy   string // "accept" or "drop": what becomes of packets at the end
	// Stops says that a rule in it, or in a chain that it leads to, may drop,
	// reject or queue packets; the policy does not count.
	Stops  bool
	Owned  bool     // only the program that made the table may change it: no guest can be there
	Legacy bool     // of iptables-legacy: no guest can be there; Ends is about packets that bear the mark
	Chains []string // the regular chains of the table, sorted
	// Reached are the regular chains that a rule in it, or in a chain it leads
	// to, names; sorted.
	Reached []string
	Ends    Ending
}

// Ending is what becomes of the packets that no condition of a filter decides.
type Ending string

// The endings of a filter.
const (
	EndsOpen   Ending = ""       // they pass
	EndsPolicy Ending = "policy" // the policy drops them
	EndsLast   Ending = "last"   // the last rule drops or rejects them
	EndsInside Ending = "inside" // a rule before the last does, or one in a chain that it leads to
)
