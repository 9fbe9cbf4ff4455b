package proxy

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealane/sealane/internal/serve/notice"
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
	last   atomic.Int64   // the last packet of UDP either way, Unix nanoseconds
}

// flows are the flows that are open.
type flows struct {
	ctx     context.Context
	resolve Resolver
	full    *notice.Notice

	mu       sync.Mutex // protects the following; held while a target is looked up, so that recheck misses no flow
	tcp, udp *crowd
}

func newFlows(ctx context.Context, resolve Resolver, log *slog.Logger) *flows {
	tcp, udp := limits()
	return &flows{
		ctx: ctx, resolve: resolve, tcp: newCrowd(tcp, false), udp: newCrowd(udp, true),
		full: notice.New(log, "proxy: carries no more at once; whoever has most goes without"),
	}
}

func (fs *flows) crowd(proto string) *crowd {
	if proto == "udp" {
		return fs.udp
	}
	return fs.tcp
}

// begin opens a flow of a client to whoever serves dst, false if nobody does,
// it is none of this client's, or there are too many.
func (fs *flows) begin(proto string, client netip.Addr, dst netip.AddrPort) (*flow, bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	target, ok := fs.resolve.Target(proto, client, dst)
	all := fs.crowd(proto)
	if !ok {
		all.done.Unserved++
		return nil, false
	}
	f := &flow{proto: proto, client: client, dst: dst, target: target}
	f.last.Store(time.Now().UnixNano())
	out, ok := all.add(f)
	if !ok || out != nil {
		fs.full.Say("protocol", proto, "most", all.most, "client", client, "destination", dst)
	}
	if !ok {
		all.done.Full++
		return nil, false
	}
	all.done.Begun++
	f.Context, f.end = context.WithCancel(fs.ctx)
	context.AfterFunc(f, func() { fs.forget(f) })
	if out != nil {
		all.done.Ousted++
		out.end()
	}
	return f, true
}

func (fs *flows) forget(f *flow) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.crowd(f.proto).remove(f)
}

// recheck ends flows that would be taken elsewhere if they began now.
func (fs *flows) recheck() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, all := range []*crowd{fs.tcp, fs.udp} {
		for f := range all.open {
			if target, ok := fs.resolve.Target(f.proto, f.client, f.dst); !ok || target != f.target {
				f.end()
			}
		}
	}
}
