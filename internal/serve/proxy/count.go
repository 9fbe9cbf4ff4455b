package proxy

// Count is how many flows of one protocol there were since the proxy was started.
type Count struct {
	Open     int    // now
	Most     int    // that may be open at once
	Begun    uint64 // carried, or at least begun to be
	Unserved uint64 // refused: nobody serves the destination, or not this client
	Full     uint64 // refused: too many are open, and of this kind most
	Ousted   uint64 // of Begun, ended to make way for another one
}

// Counts returns those of tcp and udp.
func (p *Proxy) Counts() map[string]Count {
	p.flows.mu.Lock()
	defer p.flows.mu.Unlock()
	out := map[string]Count{}
	for _, proto := range []string{"tcp", "udp"} {
		all := p.flows.crowd(proto)
		c := all.done
		c.Open, c.Most = len(all.open), all.most
		out[proto] = c
	}
	return out
}
