package dns

import (
	"context"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// Ping asks a server for the name servers of the root over UDP, and returns how long any
// answer took, also one that refuses.
func Ping(ctx context.Context, server netip.AddrPort) (time.Duration, error) {
	q := new(dns.Msg)
	q.SetQuestion(".", dns.TypeNS)
	_, took, err := new(dns.Client).ExchangeContext(ctx, q, server.String())
	return took, err
}
