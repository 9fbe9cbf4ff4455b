package proxy

import (
	"context"
	"net/netip"
	"sync"
)

// flow is one proxied connection or one UDP conversation. Its context is done
// when it has to end.
type flow struct {
	context.Context
	end    context.CancelFunc
	proto  string
	client netip.Addr
	dst    netip.AddrPort // where the client wanted to go
	target netip.AddrPort // where it is taken
}

// flows are the flows that are open.
type flows struct {
	ctx     context.Context
	resolve Resolver

	mu   sync.Mutex // protects open; held while a target is looked up, so that recheck misses no flow
	open map[*flow]struct{}
}

func newFlows(ctx context.Context, resolve Resolver) *flows {
	return &flows{ctx: ctx, resolve: resolve, open: map[*flow]struct{}{}}
}

// begin opens a flow of a client to whoever serves dst, false if nobody does
// or it is none of this client's.
func (fs *flows) begin(proto string, client netip.Addr, dst netip.AddrPort) (*flow, bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	target, ok := fs.resolve.Target(proto, client, dst)
	if !ok {
		return nil, false
	}
	f := &flow{proto: proto, client: client, dst: dst, target: target}
	f.Context, f.end = context.WithCancel(fs.ctx)
	fs.open[f] = struct{}{}
	context.AfterFunc(f, func() { fs.forget(f) })
	return f, true
}

func (fs *flows) forget(f *flow) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	delete(fs.open, f)
}

// recheck ends flows that would be taken elsewhere if they began now.
func (fs *flows) recheck() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for f := range fs.open {
		if target, ok := fs.resolve.Target(f.proto, f.client, f.dst); !ok || target != f.target {
			f.end()
		}
	}
}
