package engine

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/driver/fabric"
	"github.com/sealane/sealane/internal/model"
)

// A network of backend extension has its ways made by commands that the config in the
// cluster's store names, as flanneld has it (pkg/backend/extension). Who writes the
// config runs what he likes on every host: a host lets him only if its settings say so.
//
//	PreStartup ── what it prints, in the lease ──▶ the peers' SubnetAdd reads it
//	    │ this host has a subnet
//	    ▼
//	PostStartup ─▶ SubnetAdd for each peer ◀─┐
//	    │            │ it goes, or says something else
//	    │            └─▶ SubnetRemove ───────┘
//	    │ the network goes from this host, or has other commands
//	    ▼
//	SubnetRemove for each peer ─▶ Shutdown
//
// What a daemon did, the next one does again: commands leave no trace that could be
// compared with what they are for.

// Commands runs what a fabric's config says.
type Commands interface {
	// Shell has sh run a command, with env besides a PATH, until it ends, or ctx is
	// done: then it is killed with all that it started.
	Shell(ctx context.Context, command string, env []string, stdin string) (Ran, error)
}

// commandTime is how long one may take.
const commandTime = 30 * time.Second

// How long until what failed is done again.
const (
	commandAgain  = time.Second
	commandLatest = time.Minute
)

var errNoCommands = errors.New("backend extension: runs commands of whoever can write to the cluster's store as root on this host: sealane daemon --fabric-commands lets them")

// extensions are those of all fabrics.
type extensions struct {
	mu   sync.Mutex            // protects the following
	runs map[string]*extension // by key of the fabric
}

// extension is what the commands of one fabric are to do, and did.
type extension struct {
	*Engine
	key  string
	news chan struct{} // readable after want has changed

	pre     sync.Mutex // held while PreStartup runs; protects the following
	command string     // that was run last
	printed string
	failed  error     // of it; nil with a command is that it was done
	again   time.Time // after that it may be tried again
	pause   time.Duration
	refused bool // it was told

	mu      sync.Mutex // protects the following
	running bool
	want    *commanded // nil: the network is not here
	trouble error

	made commanded // by the commands: of tend's goroutine
	post bool      // PostStartup was run for made
}

// commanded is a network as commands make it.
type commanded struct {
	model.Commands
	whole4, whole6 netip.Prefix
	self           reached
	peers          map[string]reached // by subnets
}

// reached is a host for them.
type reached struct {
	sub4, sub6       netip.Prefix
	public4, public6 netip.Addr
	data             string
	failed           bool // of made: what is there is not known
}

// env are the variables of SubnetAdd and SubnetRemove. What there is not is empty.
func (r reached) env() []string {
	return []string{"SUBNET=" + text(r.sub4), "IPV6SUBNET=" + text(r.sub6), "PUBLIC_IP=" + text(r.public4), "PUBLIC_IPV6=" + text(r.public6)}
}

// env are those of PostStartup and Shutdown.
func (c commanded) env() []string {
	return append(c.self.env(), "NETWORK="+text(c.whole4), "IPV6NETWORK="+text(c.whole6))
}

func text(v interface {
	IsValid() bool
	String() string
}) string {
	if !v.IsValid() {
		return ""
	}
	return v.String()
}

// subnet names a host for people.
func (r reached) subnet() string { return cmp.Or(text(r.sub4), text(r.sub6)) }

// same reports whether commands were run for what is wanted.
func (r reached) same(o reached) bool {
	r.failed = o.failed
	return r == o
}

// extension returns that of a fabric.
func (e *Engine) extension(key string) *extension {
	e.extensions.mu.Lock()
	defer e.extensions.mu.Unlock()
	if e.extensions.runs == nil {
		e.extensions.runs = map[string]*extension{}
	}
	x := e.extensions.runs[key]
	if x == nil {
		x = &extension{Engine: e, key: key, news: make(chan struct{}, 1)}
		e.extensions.runs[key] = x
	}
	return x
}

// extensionData is what this host says in a lease for a config of backend extension:
// what PreStartup printed. It may take as long as that does; the caller does not hold
// work. Of other backends it is nothing.
func (e *Engine) extensionData(key string, c flannel.Config) ([]byte, error) {
	b, ok := c.Backend.(flannel.Extension)
	if !ok {
		return nil, nil
	}
	if e.cfg.Cluster.Commands == nil {
		e.extension(key).refuse()
		return nil, errNoCommands
	}
	printed, err := e.extension(key).prepare(b.PreStartupCommand)
	if err != nil || b.PreStartupCommand == "" {
		return nil, err
	}
	return flannel.MarshalExtension(printed)
}

// refuse says in the log, once, that the commands are not run: there may be no network
// with a status that does.
func (x *extension) refuse() {
	x.pre.Lock()
	defer x.pre.Unlock()
	if !x.refused {
		x.cfg.Log.Warn("fabric: its config is refused", "key", x.key, "err", errNoCommands)
	}
	x.refused = true
}

// prepare runs PreStartup, once with success. What it prints anew is told to the peers.
func (x *extension) prepare(command string) (printed string, err error) {
	x.pre.Lock()
	defer x.pre.Unlock()
	if command == "" {
		return "", nil
	}
	if x.command == command && (x.failed == nil || time.Now().Before(x.again)) {
		return x.printed, x.failed
	}
	if x.command != command {
		x.pause = 0
	}
	before := x.printed
	x.command = command
	x.printed, x.failed = x.run("PreStartupCommand", reached{}, command, nil, "")
	if x.failed == nil {
		_, x.failed = flannel.MarshalExtension(x.printed)
	}
	if x.failed == nil && x.printed != before {
		x.refreshFabric(x.key)
	}
	if x.failed != nil && x.ctx.Err() == nil {
		x.pause = min(max(2*x.pause, commandAgain), commandLatest)
		x.again = time.Now().Add(x.pause)
		time.AfterFunc(x.pause, func() { x.refreshFabric(x.key) })
	}
	return x.printed, x.failed
}

// refreshFabric has a fabric's lease described anew.
func (e *Engine) refreshFabric(key string) {
	e.fabrics.mu.Lock()
	l := e.fabrics.runs[key]
	e.fabrics.mu.Unlock()
	if l != nil {
		l.leaser.Refresh()
	}
}

// allowCommands notes the commands of a config, unless this host runs none.
func (e *Engine) allowCommands(c flannel.Config, f *model.Fabric) error {
	b, ok := c.Backend.(flannel.Extension)
	if !ok {
		return nil
	}
	if e.cfg.Cluster.Commands == nil {
		return errNoCommands
	}
	f.Commands = model.Commands{PreStartup: b.PreStartupCommand, PostStartup: b.PostStartupCommand, Shutdown: b.ShutdownCommand,
		SubnetAdd: b.SubnetAddCommand, SubnetRemove: b.SubnetRemoveCommand}
	return nil
}

// extend notes of a peer what commands are told, and where they have led its subnets.
func extend(p *model.Peer, l flannel.Lease, f *model.Fabric, view *hostView) {
	p.Data, _ = flannel.ParseExtension(l.Value.BackendData) // it was checked
	p.Dev4, p.Dev6 = ledTo(f, p, false, view), ledTo(f, p, true, view)
}

// ledTo is the device of others' route to a peer's subnet, or "". One to more than the
// whole network is none.
func ledTo(f *model.Fabric, p *model.Peer, is6 bool, view *hostView) (dev string) {
	sub, has := p.Subnet(is6)
	whole, in := f.Of(is6)
	if f.Backend.Type != model.BackendExtension || !has || !in {
		return ""
	}
	longest := whole.Bits() - 1
	for _, r := range view.routes {
		if r.Dst.Bits() > longest && r.Dst.Bits() <= sub.Bits() && r.Dst.Contains(sub.Addr()) {
			dev, longest = r.Dev, r.Dst.Bits()
		}
	}
	return dev
}

// led reports whether commands, or somebody else, have led a peer's subnets elsewhere.
func led(f *model.Fabric, p *model.Peer, view *hostView) bool {
	return p.Dev4 != ledTo(f, p, false, view) || p.Dev6 != ledTo(f, p, true, view)
}

// wantCommands says what commands are to make. The caller holds work.
func (e *Engine) wantCommands() {
	if e.cfg.Cluster.Commands == nil {
		return
	}
	wanted := map[string]bool{}
	for _, n := range e.intent.Networks {
		if n.Fabric != nil && n.Fabric.Backend.Type == model.BackendExtension {
			wanted[n.Fabric.Key] = true
			e.extension(n.Fabric.Key).tell(commandedOf(n))
		}
	}
	e.extensions.mu.Lock()
	runs := maps.Clone(e.extensions.runs)
	e.extensions.mu.Unlock()
	for key, x := range runs {
		if !wanted[key] {
			x.tell(nil)
		}
	}
}

// commandedOf is what commands are to make of a network.
func commandedOf(n *model.Network) *commanded {
	f := n.Fabric
	c := &commanded{Commands: f.Commands, self: reached{public4: f.Public4, public6: f.Public6}, peers: map[string]reached{}}
	c.whole4, _ = f.Of(false)
	c.whole6, _ = f.Of(true)
	if s, ok := n.Subnet(false); ok {
		c.self.sub4 = s.Prefix
	}
	if s, ok := n.Subnet(true); ok {
		c.self.sub6 = s.Prefix
	}
	for i := range f.Peers {
		p := &f.Peers[i]
		r := reached{public4: p.Public4, public6: p.Public6, data: p.Data}
		if fabric.Unreached(f, p, false) == "" {
			r.sub4, _ = p.Subnet(false)
		}
		if fabric.Unreached(f, p, true) == "" {
			r.sub6, _ = p.Subnet(true)
		}
		if r.subnet() != "" {
			c.peers[text(r.sub4)+" "+text(r.sub6)] = r
		}
	}
	return c
}

// tell says what is wanted now. It does not wait.
func (x *extension) tell(want *commanded) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if reflect.DeepEqual(x.want, want) {
		return
	}
	x.want = want
	if want != nil && !x.running {
		x.running = true
		x.background.Go(x.tend)
	}
	select {
	case x.news <- struct{}{}:
	default:
	}
}

func (x *extension) wanted() *commanded {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.want
}

// commandTrouble says which command of a network fails, or nil.
func (e *Engine) commandTrouble(n *model.Network) error {
	if e.cfg.Cluster.Commands == nil {
		return errNoCommands
	}
	x := e.extension(n.Fabric.Key)
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.trouble
}
